"""Foley Music: poses to notes by a graph network and a Transformer (Gan et al., ECCV 2020)."""
