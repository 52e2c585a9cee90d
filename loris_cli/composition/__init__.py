"""Scores written by rules: styles, chords, arrangement, note spectrogram."""
