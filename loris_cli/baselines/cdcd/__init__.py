"""CDCD: contrastive discrete diffusion over the codes of a VQ-VAE (Zhu et al., 2022b)."""
