"""Evaluation of systems on clips: generation, audio analysis, scores."""
