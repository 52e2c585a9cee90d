"""Soundtracks for many videos: each on its own, none stops the others.

names, settings -> plan -> jobs -> run -> rows, one a take: what was made, or why not
"""
