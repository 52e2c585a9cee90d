"""Estimation of the 2D poses of the main performer."""
