"""Evaluation metrics, one module per family."""
