"""The smallest working configuration of each network; tests change what they need."""

from dataclasses import replace

from loris_cli.audio import mel
from loris_cli.baselines.cdcd.config import CdcdConfig
from loris_cli.baselines.cmt.network import CmtConfig
from loris_cli.baselines.d2mgan.config import D2mGanConfig
from loris_cli.baselines.foley.config import FoleyConfig
from loris_cli.models.condition_routes import CONDITIONINGS
from loris_cli.models.mel_autoencoder import MelAutoencoderConfig
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.vqvae import VqVaeConfig
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS

TINY_AUTOENCODER = MelAutoencoderConfig(width=16, n_blocks=1, fine_width=8, n_fine_blocks=2)
TINY_DENOISER = MiniDenoiserConfig(
    channels=16,
    heads=2,
    head_features=8,
    rhythm_features=16,
    num_blocks=(1, 1, 1),
    alignment_channels=8,
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

# With all conditionings and all conditions.
TINY_CONDITIONINGS_DENOISER = replace(
    TINY_NOTES_DENOISER, motion_width=8, conditionings=CONDITIONINGS
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

# Two stages and a hop of 16 samples.
TINY_VQVAE = VqVaeConfig(
    strides=(4, 4),
    widths=(8, 8),
    levels=(2,),
    depth=1,
    output_width=4,
    code_width=4,
    n_codes=16,
)

# A codec with a hop of 128 samples, and a D2M-GAN with windows of 0.25 s.
TINY_CODEC = replace(TINY_VQVAE, strides=(16, 8))
TINY_D2MGAN = D2mGanConfig(
    n_motion_frames=16,
    motion_hidden=24,
    motion_channels=(8, 8, 8),
    motion_features=16,
    genre_features=4,
    generator_channels=(4, 8, 8),
    n_blocks=1,
    n_frames=43,
    code_width=4,
    discriminator_channels=4,
    discriminator_max_channels=16,
    discriminator_layers=2,
    n_scales=2,
)

# CDCD with windows of 35 tokens (0.2 s, three pose frames) of the same codec.
TINY_CDCD = CdcdConfig(
    n_codes=16,
    n_tokens=35,
    n_steps=10,
    n_sampling_steps=10,
    width=32,
    depth=2,
    heads=2,
    motion_features=16,
    motion_hidden=48,
    motion_channels=(8, 8, 16),
    genre_features=8,
    n_negatives=3,
)

TINY_FOLEY = FoleyConfig(
    unit_channels=(4, 8),
    unit_strides=(2, 2),
    features=32,
    n_layers=2,
    heads=2,
    ff_features=32,
    max_events=128,
)
