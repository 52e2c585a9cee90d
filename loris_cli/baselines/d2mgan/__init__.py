"""D2M-GAN (Zhu et al., 2022a): a GAN from two seconds of motion to codes of the VQ-VAE."""
