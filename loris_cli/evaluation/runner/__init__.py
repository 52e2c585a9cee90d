"""Systems times clips: generation, audio analysis, scores."""
