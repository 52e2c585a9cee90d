"""CMT (Di et al., 2021): rules for tempo, density and strength; a transformer of notes."""
