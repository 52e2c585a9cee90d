"""Evaluation of soundtracks against reference audio."""
