"""Video files: probe, frames, audio track, mux."""
