"""Other makers of music, by rules: what a network has to be better than."""
