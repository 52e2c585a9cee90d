"""2D poses of the main performer."""
