"""Data sets: preparation of videos, manifest, splits, filters, import."""
