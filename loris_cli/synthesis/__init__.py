"""Made-up pairs: music, motion, bodies, pictures."""
