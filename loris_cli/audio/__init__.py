"""Audio processing: mel spectrogram, loudness, onsets, beats, accents, vocal separation."""
