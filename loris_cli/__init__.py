"""Soundtracks that keep time with a moving body: LORIS (ICML 2023), and past it."""

__version__ = "0.1.0"
