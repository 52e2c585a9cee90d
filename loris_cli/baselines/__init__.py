"""Baseline systems without learned weights that generate music from a visual rhythm."""
