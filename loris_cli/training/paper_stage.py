"""Stages of the ``paper`` preset: a backbone on music alone, then the conditional model.

    clips -> WaveformDataset -> PaperLoss -> weights with their configuration

The condition has visual features where all clips have those of one encoder, as in the paper;
otherwise an ST-GCN encodes the poses (the paper's "w/ M" without its V).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from loris_cli.config import GENRES
from loris_cli.dataset import read_clips
from loris_cli.dataset.manifest import VISUAL_ENCODERS, Clip
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.checkpoint_format import checkpoint_metadata
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.paper_checkpoint import UNET_PREFIX
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack.paper_conditioning import POSES_PER_VISUAL_ROW
from loris_cli.soundtrack.visual_features import VISUAL_FPS, VISUAL_WIDTHS
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.state_dict_files import is_torch_file, read_state_dict
from loris_cli.training.checkpoints import Weights, read_weights
from loris_cli.training.datasets import VALIDATION_SEED, TrainingClips, read_clip_annotations
from loris_cli.training.loop import TrainingStage
from loris_cli.training.losses import PaperLoss, checkpoint_activations
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples
from loris_cli.training.waveform_dataset import WaveformDataset

MAX_CLIP_S = 50.0
"""The longer of the two clip lengths of the paper."""
VALIDATION_SAMPLER_STEPS = 20
"""Of DPM-Solver++ in validation: a fifth of the evaluations of the paper's 50."""
SHARED_FIELDS = (
    "channels", "context_features", "rhythm_conditioning", "hawkes_phase",
    "positional_encoding", "shared_rhythm_encoder", "aligned_rhythm",
)  # fmt: skip
"""Fields that `PaperConfig` takes from `TrainingSettings` as they are."""
CONDITIONING_MODULES = ("cross_attend", "rhythm_hawkes_attention", "rhythm_encoder", "fixed_")
"""Parts of names in the U-Net: modules that a backbone lacks (specification, 3.6)."""


def select_visual_encoder(settings: TrainingSettings, clips: Sequence[Clip]) -> str:
    """Return the encoder of the visual features in the condition; empty for none.

    Raises:
        UsageError: some clips have no features of the encoder that the settings name.
    """
    name = settings.visual_encoder
    if name == "none":
        return ""
    if name == "auto":
        shared = (e for e in VISUAL_ENCODERS if all(e in clip.visual for clip in clips))
        return next(shared, "")
    for clip in clips:
        if name not in clip.visual:
            raise UsageError(
                f"{clip.id} has no visual features of {name}",
                hint="run `loris prep --visual-features`, or give --set visual_encoder=auto",
            )
    return name


def build_paper_config(
    settings: TrainingSettings, clips: Sequence[Clip], visual_encoder: str
) -> PaperConfig:
    """Return the configuration of a network for the length that all clips have.

    Args:
        settings: of the stage.
        clips: of both partitions.
        visual_encoder: of `select_visual_encoder`.

    Raises:
        InputError: a clip is too short.
        UsageError: there is no such network.
    """
    shortest_s = min(MAX_CLIP_S, *(clip.duration_s for clip in clips))
    n_rows = math.floor(shortest_s * VISUAL_FPS)
    if not n_rows:
        raise InputError("a clip is too short to train on", hint="clips of 25 s are usual")
    projection: Literal["lstm", "linear", "none"] = "none"
    if visual_encoder:
        projection = "lstm" if settings.visual_lstm else "linear"
    is_r50 = visual_encoder == "i3d-r50"
    uses_motion = {"auto": not visual_encoder, "true": True, "false": False}
    try:
        config = PaperConfig(
            n_visual_frames=n_rows,
            n_pose_frames=n_rows * POSES_PER_VISUAL_ROW,
            n_genres=len(GENRES),
            visual_projection=projection,
            visual_features=VISUAL_WIDTHS["i3d-r50" if is_r50 else "i3d"],
            motion_encoder=uses_motion[settings.motion_encoder],
            **{name: getattr(settings, name) for name in SHARED_FIELDS},
        )
        with torch.device("meta"):
            PaperModel(config)
    except (ValueError, AssertionError) as error:
        raise UsageError(
            f"these settings make no network: {error}",
            hint="channels are a multiple of 64, context_features an even number",
        ) from error
    return config


class PaperStage(TrainingStage):
    """Training of the denoiser of waveforms, with conditions or (unconditional) without."""

    def __init__(
        self,
        clips: TrainingClips,
        settings: TrainingSettings,
        *,
        backbone_path: Path | None = None,
        config: PaperConfig | None = None,
    ) -> None:
        """Build network and data.

        Args:
            clips: to train and to validate on.
            settings: of the stage.
            backbone_path: weights to start from: of an unconditional stage, or a released
                backbone.
            config: of the network; None for that of `build_paper_config`.

        Raises:
            InputError: the backbone does not fit, or a clip is too short.
            UsageError: the settings make no network.
        """
        torch.manual_seed(settings.seed)
        encoder = select_visual_encoder(settings, clips.all)
        self.config = config or build_paper_config(settings, clips.all, encoder)
        self.visual_encoder = encoder if self.config.visual_projection != "none" else ""
        self.network = PaperModel(self.config)
        self.loss_module = PaperLoss(self.network)
        self._backbone_path, self.n_clips = backbone_path, len(clips.train)
        if backbone_path is not None:
            names = read_backbone(backbone_path, self.network)
            self.backbone_keys = frozenset(f"network.{name}" for name in names)
        if settings.checkpoint_activations:
            checkpoint_activations(self.network)
        is_unconditional = settings.stage == "unconditional"

        def build_dataset(partition: Sequence[Clip], *, is_training: bool) -> WaveformDataset:
            val_dropout = float(is_unconditional)
            return WaveformDataset(
                data_dir=clips.data_dir,
                clips=partition,
                annotations=read_clip_annotations(clips.data_dir, partition, {}, {}),
                config=self.config,
                seed=settings.seed if is_training else VALIDATION_SEED,
                condition_dropout=settings.condition_dropout if is_training else val_dropout,
                augment=is_training,
                visual_encoder=self.visual_encoder,
            )

        self.train_set = build_dataset(clips.train, is_training=True)
        self.val_set = build_dataset(clips.val, is_training=False)
        n_samples = 0 if is_unconditional else settings.validation_samples
        self._sample_clips = [
            (clip.id, self._read_video_features(clips.data_dir, clip))
            for clip in clips.val[:n_samples]
        ]

    def _read_video_features(self, data_dir: Path, clip: Clip) -> ClipFeatures:
        """Return the features that a video of the clip would have."""
        features = read_clips.read_pose_features(data_dir, clip)
        features = features or read_clips.read_rhythm_features(data_dir, clip)
        if not self.visual_encoder:
            return features
        visual = read_clips.read_clip_visual_features(data_dir, clip, self.visual_encoder)
        return replace(features, visual=visual)

    def initialize(self) -> None:
        """Load the weights of the backbone, if there is one."""
        if self._backbone_path is not None:
            backbone = read_backbone(self._backbone_path, self.network)
            self.network.load_state_dict(backbone, strict=False)

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of the network, with its configuration, as `--model` takes it."""
        assert isinstance(module, PaperLoss)
        metadata = checkpoint_metadata("paper", paper=self.config)
        metadata["loris.visual_encoder"] = self.visual_encoder or "none"
        return module.network.state_dict(), metadata

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate audio for a few validation clips, and return its onset scores."""
        assert isinstance(module, PaperLoss)
        generator = WaveformGenerator(
            model=PaperCheckpoint(network=module.network, name="in training"),
            device=next(module.parameters()).device,
            steps=VALIDATION_SAMPLER_STEPS,
            sampler="dpmpp-2m",
        )
        return render_validation_samples(generator, self._sample_clips, folder, step)


def read_backbone(path: Path, network: PaperModel) -> dict[str, Tensor]:
    """Read the weights of a U-Net trained on music alone, by the names of the whole network.

    Args:
        path: of an unconditional stage; or a released one, whose names begin with ``unet.``.
        network: that they are for.

    Raises:
        InputError: the file is of another network, or cannot be read.
    """
    prefix = UNET_PREFIX
    if path.is_file() and is_torch_file(path):
        try:
            state = read_state_dict(path, hint="give a released backbone")
        except WeightsError as error:
            raise InputError(str(error), hint=error.hint) from error
        prefix = "unet."
    else:
        state, _ = read_weights(path)
    backbone = {
        UNET_PREFIX + key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    shapes = {k: v.shape for k, v in network.state_dict().items() if k.startswith(UNET_PREFIX)}
    needed = {key for key in shapes if not any(part in key for part in CONDITIONING_MODULES)}
    misfits = {key for key, value in backbone.items() if shapes.get(key) != value.shape}
    misfits |= needed - backbone.keys()
    if misfits:
        raise InputError(
            f"{path.name} is no backbone of this network: {min(misfits)!r} is missing or does"
            " not fit",
            hint="train one with --stage unconditional and the same settings",
        )
    return backbone
