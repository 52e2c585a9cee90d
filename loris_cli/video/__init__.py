"""The one door to media files: probe, pictures in time, sound in time, and the new film."""
