"""Data sets: video preparation, manifest, partitions, quality filters, release import."""
