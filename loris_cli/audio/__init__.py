"""Audio signals: mel spectrogram, loudness, onsets, beats, accents, source separation."""
