"""The learned parts: networks and their weights."""
