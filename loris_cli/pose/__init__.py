"""Where the body is: frames of a video -> keypoints of its main performer, and their file."""
