"""Training: settings, data, losses, loop, distributed, export."""
