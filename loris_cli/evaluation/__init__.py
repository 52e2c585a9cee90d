"""Evaluation of generated soundtracks against reference audio."""
