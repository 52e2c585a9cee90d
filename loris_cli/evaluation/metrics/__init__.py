"""Metrics, one module for each family."""
