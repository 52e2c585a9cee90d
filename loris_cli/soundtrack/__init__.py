"""Soundtrack of a video file: analysis, conditioning, long-form generation, jobs."""
