"""Synthetic training pairs: composed music and a rendered dancer."""
