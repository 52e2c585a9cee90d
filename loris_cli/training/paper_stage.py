"""Stages of the ``paper`` preset: an unconditional backbone, then the conditional model.

    clips -> WaveformDataset -> PaperLoss -> weights with their configuration

If all clips have visual features of the same encoder, these are a condition, as in the paper.
Otherwise an ST-GCN encodes the poses (the paper's ablation "w/ M", but without V).
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
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.paper_checkpoint import UNET_PREFIX
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack.paper_conditioning import POSES_PER_VISUAL_ROW
from loris_cli.soundtrack.visual_features import VISUAL_FPS, VISUAL_WIDTHS
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system.state_dict_files import is_torch_file, read_state_dict
from loris_cli.training.checkpoints import Weights, is_conditional_stage, read_weights
from loris_cli.training.datasets import VALIDATION_SEED, TrainingClips, read_clip_annotations
from loris_cli.training.loop import TrainingStage
from loris_cli.training.losses import PaperLoss, checkpoint_activations
from loris_cli.training.lr_schedule import is_conditioning
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples
from loris_cli.training.waveform_dataset import WaveformDataset, without_peaks

MAX_CLIP_S = 50.0
"""The longer of the two clip durations of the paper."""
VALIDATION_SAMPLER_STEPS = 20
"""DPM-Solver++ steps in validation: a fifth of the evaluations of the paper's 50 steps."""
SHARED_FIELDS = (
    "channels", "context_features", "compat", "rhythm_conditioning", "hawkes_phase",
    "positional_encoding", "shared_rhythm_encoder", "aligned_rhythm",
)  # fmt: skip
"""Fields copied from `TrainingSettings` to `PaperConfig`."""


def select_visual_encoder(settings: TrainingSettings, clips: Sequence[Clip]) -> str:
    """Return the encoder of the visual features for conditioning; empty for none.

    Raises:
        UsageError: some clips have no features of the selected encoder.
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
                f"clip {clip.id} has no visual features of {name}",
                hint="run `loris prep --visual-features`, or pass --set visual_encoder=auto",
            )
    return name


def build_paper_config(
    settings: TrainingSettings, clips: Sequence[Clip], visual_encoder: str
) -> PaperConfig:
    """Return the network configuration for the duration of the shortest clip.

    Args:
        settings: settings of the stage.
        clips: clips of both partitions.
        visual_encoder: from `select_visual_encoder`.

    Raises:
        InputError: a clip is too short.
        UsageError: the settings do not define a valid network.
    """
    shortest_s = min(MAX_CLIP_S, *(clip.duration_s for clip in clips))
    n_rows = math.floor(shortest_s * VISUAL_FPS)
    if not n_rows:
        raise InputError("a clip is too short for training", hint="use clips of 25 s")
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
        with empty_networks():
            PaperModel(config)
    except (ValueError, AssertionError) as error:
        sizes = f"channels={settings.channels}, context_features={settings.context_features}"
        raise UsageError(
            f"invalid network settings: {str(error) or sizes}",
            hint="channels must be a multiple of 64, context_features an even number",
        ) from error
    return config


class PaperStage(TrainingStage):
    """Training of the waveform denoiser, conditional or unconditional."""

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
            clips: clips for training and validation.
            settings: settings of the stage.
            backbone_path: weights to start from, of an unconditional stage or a released
                backbone.
            config: configuration of the network; None selects that of `build_paper_config`.

        Raises:
            InputError: the backbone does not match, or a clip is too short.
            UsageError: the settings do not define a valid network, or there is no rhythm.
        """
        torch.manual_seed(settings.seed)
        encoder = select_visual_encoder(settings, clips.all)
        self.config = config or build_paper_config(settings, clips.all, encoder)
        self.visual_encoder = encoder if self.config.visual_projection != "none" else ""
        self.network = PaperModel(self.config)
        self.loss_module = PaperLoss(self.network)
        _check_peaks(settings, self.config, clips.train)
        self._backbone_path, self.n_clips = backbone_path, len(clips.train)
        if backbone_path is not None:
            names = read_backbone(backbone_path, self.network)
            if not is_conditional_stage(backbone_path):
                names = {name: names[name] for name in names if not is_conditioning(name)}
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
                audio_accent_probability=settings.audio_accent_probability * is_training,
                visual_encoder=self.visual_encoder,
            )

        self.train_set = build_dataset(clips.train, is_training=True)
        self.val_set = build_dataset(clips.val, is_training=False)
        n_samples = 0 if is_unconditional else settings.validation_samples
        self._sample_clips = [
            (clip.id, self._read_video_features(clips.data_dir, clip))
            for clip in clips.val[:n_samples]
        ]

    def _read_video_features(self, data_dir: Path, clip: Clip) -> VideoFeatures:
        """Return the features of the clip as `soundtrack` would extract them from its video."""
        features = read_clips.read_video_features(data_dir, clip)
        features = features or without_peaks(read_clips.read_rhythm_features(data_dir, clip))
        if not self.visual_encoder:
            return features
        visual = read_clips.read_clip_visual_features(data_dir, clip, self.visual_encoder)
        return replace(features, visual=visual)

    def initialize(self) -> None:
        """Load the backbone weights, if given."""
        if self._backbone_path is not None:
            backbone = read_backbone(self._backbone_path, self.network)
            self.network.load_state_dict(backbone, strict=False)

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights and configuration in the format that `--model` accepts."""
        assert isinstance(module, PaperLoss)
        metadata = checkpoint_metadata("paper", paper=self.config)
        metadata["loris.visual_encoder"] = self.visual_encoder or "none"
        return module.network.state_dict(), metadata

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate audio for a few validation clips and return the onset scores."""
        assert isinstance(module, PaperLoss)
        generator = WaveformGenerator(
            model=PaperCheckpoint(network=module.network, name="in training"),
            device=next(module.parameters()).device,
            steps=VALIDATION_SAMPLER_STEPS,
            sampler="dpmpp-2m",
        )
        return render_validation_samples(generator, self._sample_clips, folder, step)


def _check_peaks(
    settings: TrainingSettings, config: PaperConfig, clips: Sequence[Clip]
) -> None:
    """Raise if rhythm conditions the network, but no example would have peaks."""
    has_peaks = settings.audio_accent_probability or any(clip.poses for clip in clips)
    uses_rhythm = settings.stage == "conditional" and config.rhythm_conditioning != "none"
    if uses_rhythm and not has_peaks:
        raise UsageError(
            "no training clip has poses, so there are no visual peaks to condition on",
            hint="run `loris prep` on the videos, or pass --set audio_accent_probability=1 for"
            " accents of the audio, or --set rhythm_conditioning=none",
        )


def read_backbone(path: Path, network: PaperModel) -> dict[str, Tensor]:
    """Read the weights of an unconditional U-Net, named as in the complete network.

    Args:
        path: weights of an unconditional stage, or a released backbone, whose names begin with
            ``unet.``.
        network: network that the weights are for.

    Raises:
        InputError: the file cannot be read, or has the weights of another network.
    """
    prefix = UNET_PREFIX
    if path.is_file() and is_torch_file(path):
        try:
            state = read_state_dict(path, hint="pass a released backbone")
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
    needed = {key for key in shapes if not is_conditioning(key)}
    misfits = {key for key, value in backbone.items() if shapes.get(key) != value.shape}
    misfits |= needed - backbone.keys()
    if misfits:
        raise InputError(
            f"{path.name} is not a backbone of this network: {min(misfits)!r} is missing or has"
            " another shape",
            hint="train one with --stage unconditional and the same settings",
        )
    return backbone
