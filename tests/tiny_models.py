"""The smallest working configuration of each network; tests change what they need."""

from dataclasses import replace

from loris_cli.audio import mel
from loris_cli.baselines.cmt.network import CmtConfig
from loris_cli.baselines.foley.config import FoleyConfig
from loris_cli.models.mel_autoencoder import MelAutoencoderConfig
from loris_cli.models.mini_unet import MiniDenoiserConfig
from loris_cli.models.paper_config import PaperConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS

TINY_AUTOENCODER = MelAutoencoderConfig(width=16, n_blocks=1)
TINY_DENOISER = MiniDenoiserConfig(
    channels=16, heads=2, head_features=8, rhythm_features=16, num_blocks=(1, 1, 1)
)

# A pair with the mel bands of the shipped weights, conditioned on chords and notes.
TINY_NOTES_AUTOENCODER = replace(
    TINY_AUTOENCODER,
    n_mels=mel.FINE_MEL_CONFIG.n_mels,
    n_fft=mel.FINE_MEL_CONFIG.n_fft,
    latent_channels=8,
)
TINY_NOTES_DENOISER = replace(
    TINY_DENOISER,
    latent_channels=8,
    harmony_channels=HARMONY_CHANNELS,
    note_latent_channels=8,
    window_frames=64,
)

# One level of the U-Net, with attention. Lengths are those of a clip of 2 s.
TINY_PAPER_CONFIG = PaperConfig(
    channels=64,
    multipliers=(1, 1),
    factors=(2,),
    num_blocks=(1,),
    attentions=(True,),
    heads=1,
    context_features=16,
    visual_features=16,
    n_visual_frames=4,
    n_pose_frames=32,
)

TINY_CMT = CmtConfig(layers=2, width=32, heads=2, feedforward=64, context_words=96)
TINY_FOLEY = FoleyConfig(
    unit_channels=(4, 8),
    unit_strides=(2, 2),
    features=32,
    n_layers=2,
    heads=2,
    ff_features=32,
    max_events=128,
)
