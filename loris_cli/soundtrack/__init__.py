"""From a video file to a soundtrack: analysis, conditioning, long-form generation, jobs."""
