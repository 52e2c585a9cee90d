"""Networks as small as they work: enough for shapes, bytes, and whether they learn."""

from dataclasses import replace

from loris_cli.audio import mel
from loris_cli.models.mel_autoencoder import MelAutoencoderConfig
from loris_cli.models.mini_unet import MiniDenoiserConfig
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS

SMALL_LATENT_CODER = MelAutoencoderConfig(width=16, n_blocks=1)
SMALL_DENOISER = MiniDenoiserConfig(
    channels=16, heads=2, head_features=8, rhythm_features=16, num_blocks=(1, 1, 1)
)
NOTES_LATENT_CODER = MelAutoencoderConfig(
    n_mels=mel.FINE_MEL_CONFIG.n_mels,
    n_fft=mel.FINE_MEL_CONFIG.n_fft,
    width=16,
    latent_channels=8,
    n_blocks=1,
)
NOTES_DENOISER = replace(
    SMALL_DENOISER,
    latent_channels=8,
    harmony_channels=HARMONY_CHANNELS,
    note_latent_channels=8,
    window_frames=64,
)
"""A pair with harmony and note latents."""
SMALL_PAPER_CONFIG = PaperConfig(
    channels=64,
    multipliers=(1, 1),
    factors=(2,),
    num_blocks=(1,),
    attentions=(True,),
    heads=1,
    context_features=16,
)
