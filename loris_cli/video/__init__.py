"""Video files: probing, frames, audio track, muxing."""
