"""Rule-based composition: styles, chords, arrangement, note spectrogram."""
