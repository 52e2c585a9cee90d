"""Reports: tables, JSON, HTML, figures, listening test."""
