"""The benchmark: methods by clips, and beside them rows that nobody can hide."""
