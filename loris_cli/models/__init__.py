"""Neural networks, diffusion sampling and checkpoints."""
