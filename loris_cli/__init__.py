"""Generate soundtracks in time with human motion, after LORIS (ICML 2023)."""

__version__ = "0.1.0"
