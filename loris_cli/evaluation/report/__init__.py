"""Evaluation reports: tables, JSON, HTML, figures, listening test."""
