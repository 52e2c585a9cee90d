"""Synthetic training pairs: composed music with a simulated dancer."""
