"""Networks as small as they work: enough for shapes, bytes, and whether they learn."""

from dataclasses import replace

from loris_cli.audio import mel
from loris_cli.models.mel_autoencoder import LatentConfig
from loris_cli.models.mini_unet import DenoiserConfig
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS

SMALL_CODER = LatentConfig(width=16)
SMALL_DENOISER = DenoiserConfig(
    channels=16, heads=2, head_features=8, rhythm_features=16, num_blocks=(1, 1, 1)
)
SKETCHED_CODER = LatentConfig(
    n_mels=mel.FINE.n_mels, n_fft=mel.FINE.n_fft, width=16, channels=8, blocks=1
)
SKETCHED_DENOISER = replace(
    SMALL_DENOISER,
    code_channels=8,
    harmony_channels=HARMONY_CHANNELS,
    sketch_channels=8,
    window=64,
)
"""A pair that is told chords and a sketch of the notes."""
SMALL_PAPER = PaperConfig(
    channels=64,
    multipliers=(1, 1),
    factors=(2,),
    num_blocks=(1,),
    attentions=(True,),
    heads=1,
    features=16,
)
