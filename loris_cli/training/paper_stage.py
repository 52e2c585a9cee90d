"""The stages of the ``paper`` preset: a backbone on music alone, then the model itself.

    clips -> SoundExamples -> PaperLearner -> weights with their configuration

Where all clips have features of the picture by one maker the network is told them, as the
paper's is; where they have none it is told the body's motion by an ST-GCN instead (the paper's
"w/ M" without its V).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from loris_cli.config import GENRES
from loris_cli.dataset.manifest import VISUAL_ENCODERS, Clip
from loris_cli.dataset.read_clips import (
    read_clip_visual_features,
    read_pose_features,
    read_rhythm_features,
)
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.diffusion import denoising_loss
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.paper_checkpoint import UNET_PREFIX, checkpoint_metadata
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack.paper_conditioning import POSES_PER_VISUAL_ROW
from loris_cli.soundtrack.visual_features import VISUAL_FEATURE_WIDTHS, VISUAL_FPS
from loris_cli.soundtrack.waveform_generator import SIGMA_DATA, WaveformGenerator
from loris_cli.system.state_dict_files import is_torch_file, read_state_dict
from loris_cli.training.checkpoints import read_weights
from loris_cli.training.datasets import Example, read_clip_annotations
from loris_cli.training.losses import checkpoint_activations
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples
from loris_cli.training.waveform_dataset import WaveformDataset

MAX_CLIP_S = 50.0
"""Of the paper's two lengths of clips the longer."""
VALIDATION_SEED = 1
VALIDATION_SAMPLER_STEPS = 20
"""Of DPM-Solver++ for the sounds on the way: a fifth of the evaluations of the paper's 50."""
CONDITIONING_MODULES = ("cross_attend", "rhythm_hawkes_attention", "rhythm_encoder", "fixed_")
"""In names of the U-Net: what the conditions add to a backbone (specification, 3.6)."""


class PaperLoss(nn.Module):
    """The diffusion loss on the waveform (LORIS Eq. 12), what is seen clamped (M13)."""

    def __init__(self, network: PaperModel) -> None:
        """Train a network."""
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of what `WaveformDataset` gives."""
        told = self.network.encode_conditions(
            batch.get("visual"),
            batch["rhythm"],
            batch["genre"],
            onset_envelope=batch["envelope"],
            pose=batch["motion"],
        )
        return denoising_loss(
            lambda x, c_noise: self.network(x, c_noise, told, batch["dropped"]),
            batch["clean"],
            noise=batch["noise"],
            sigma=batch["sigma"],
            sigma_data=SIGMA_DATA,
            clamp_limit=1.0,
        )


def select_visual_encoder(settings: TrainingSettings, clips: Sequence[Clip]) -> str:
    """Whose features of the picture the network is told; empty for none.

    Raises:
        UsageError: some clips have none by the maker that was asked for.
    """
    if settings.visual_encoder == "none":
        return ""
    shared = [by for by in VISUAL_ENCODERS if all(by in clip.visual for clip in clips)]
    if settings.visual_encoder == "auto":
        return next(iter(shared), "")
    if settings.visual_encoder not in shared:
        lack = next(clip for clip in clips if settings.visual_encoder not in clip.visual)
        raise UsageError(
            f"{lack.id} has no features of the picture by {settings.visual_encoder}",
            hint="make them with `loris prep --visual`, or --set visual=auto",
        )
    return settings.visual_encoder


def build_paper_config(settings: TrainingSettings, clips: Sequence[Clip]) -> PaperConfig:
    """The network that settings ask for, for clips of the length that all of these have.

    Raises:
        UsageError: there is no such network.
    """
    shortest_s = min(MAX_CLIP_S, *(clip.duration_s for clip in clips))
    n_rows = math.floor(shortest_s * VISUAL_FPS)
    if not n_rows:
        raise InputError("a clip is too short to learn from", hint="clips of 25 s are usual")
    maker = select_visual_encoder(settings, clips)
    motion = settings.motion_encoder == "true" or (
        settings.motion_encoder == "auto" and not maker
    )
    try:
        config = PaperConfig(
            channels=settings.channels,
            context_features=settings.context_features,
            n_visual_frames=n_rows,
            n_pose_frames=n_rows * POSES_PER_VISUAL_ROW,
            n_genres=len(GENRES),
            visual_projection=("lstm" if settings.visual_lstm else "linear")
            if maker
            else "none",
            visual_features=VISUAL_FEATURE_WIDTHS["i3d-r50" if maker == "i3d-r50" else "i3d"],
            motion_encoder=motion,
            rhythm_conditioning=settings.rhythm_conditioning,
            hawkes_phase=settings.hawkes_phase,
            positional_encoding=settings.positional_encoding,
            shared_rhythm_encoder=settings.shared_rhythm_encoder,
            aligned_rhythm=settings.aligned_rhythm,
        )
        with torch.device("meta"):
            PaperModel(config)
    except (ValueError, AssertionError) as error:
        raise UsageError(
            f"these settings make no network: {error}",
            hint="channels are a multiple of 64, features an even number",
        ) from error
    return config


class PaperStage:
    """Learns to denoise sound, with what is told of its clips or (unconditional) without."""

    def __init__(
        self,
        data_dir: Path,
        train_clips: Sequence[Clip],
        val_clips: Sequence[Clip],
        settings: TrainingSettings,
        *,
        backbone_path: Path | None = None,
        config: PaperConfig | None = None,
    ) -> None:
        """Take clips of a data set.

        Args:
            data_dir: its folder.
            train_clips: to learn from.
            val_clips: to validate on.
            settings: of the stage.
            backbone_path: weights to begin with: of an unconditional stage, or a released backbone.
            config: of the network; None is what the settings and the clips ask for.

        Raises:
            InputError: the backbone does not fit, or a clip is too short.
            UsageError: the settings make no network.
        """
        torch.manual_seed(settings.seed)
        self.config = config or build_paper_config(settings, [*train_clips, *val_clips])
        sees = self.config.visual_projection != "none"
        self.visual_encoder = (
            select_visual_encoder(settings, [*train_clips, *val_clips]) if sees else ""
        )
        self.network = PaperModel(self.config)
        self.loss_module: nn.Module = PaperLoss(self.network)
        self._backbone_path = backbone_path
        self.backbone_parameter_names: frozenset[str] = frozenset()
        if backbone_path is not None:
            known = read_backbone(backbone_path, self.network)
            self.backbone_parameter_names = frozenset(f"network.{key}" for key in known)
        if settings.checkpoint_activations:
            checkpoint_activations(self.network)
        unconditional = settings.stage == "unconditional"

        def examples(chosen: Sequence[Clip], *, held_out: bool) -> WaveformDataset:
            return WaveformDataset(
                data_dir,
                chosen,
                read_clip_annotations(data_dir, chosen, {}, {}),
                config=self.config,
                seed=VALIDATION_SEED if held_out else settings.seed,
                condition_dropout=float(unconditional)
                if held_out
                else settings.condition_dropout,
                augment=not held_out,
                visual_encoder=self.visual_encoder,
            )

        self.train_set: Dataset[Example] = examples(train_clips, held_out=False)
        self.val_set: Dataset[Example] = examples(val_clips, held_out=True)
        heard = [] if unconditional else val_clips[: settings.validation_samples]
        self._sample_clips = [
            (clip.id, self._read_video_features(data_dir, clip)) for clip in heard
        ]
        self.n_clips = len(train_clips)

    def _read_video_features(self, data_dir: Path, clip: Clip) -> ClipFeatures:
        """A clip as a video of it tells of it."""
        shown = read_pose_features(data_dir, clip) or read_rhythm_features(data_dir, clip)
        if not self.visual_encoder:
            return shown
        return replace(
            shown, visual=read_clip_visual_features(data_dir, clip, self.visual_encoder)
        )

    def initialize(self) -> None:
        """Take the weights of the backbone, if there is one."""
        if self._backbone_path is not None:
            known = read_backbone(self._backbone_path, self.network)
            self.network.load_state_dict(known, strict=False)

    def export_weights(
        self, loss_module: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The network, as `--model` takes it."""
        assert isinstance(loss_module, PaperLoss)
        maker = {"loris.visual_maker": self.visual_encoder} if self.visual_encoder else {}
        return loss_module.network.state_dict(), checkpoint_metadata(self.config) | maker

    def render_validation_samples(
        self, loss_module: nn.Module, folder: Path, step: int
    ) -> dict[str, float]:
        """What it makes of a few held-out clips; how many of their accents are heard."""
        assert isinstance(loss_module, PaperLoss)
        model = PaperCheckpoint(
            network=loss_module.network, name="in training", sha256_prefix=""
        )
        generator = WaveformGenerator(
            model=model,
            device=next(loss_module.parameters()).device,
            steps=VALIDATION_SAMPLER_STEPS,
            sampler="dpmpp-2m",
        )
        return render_validation_samples(generator, self._sample_clips, folder, step)


def read_backbone(path: Path, network: PaperModel) -> dict[str, Tensor]:
    """Weights of a U-Net that has learned music alone, by the names of the whole network.

    Args:
        path: of an unconditional stage; or a released one, whose names begin with ``unet.``.
        network: that is to have them.

    Raises:
        InputError: the file is of another network, or cannot be read.
    """
    if path.is_file() and is_torch_file(path):
        try:
            state = read_state_dict(path, hint="give a released backbone")
        except WeightsError as error:
            raise InputError(str(error), hint=error.hint) from error
        known = {
            UNET_PREFIX + key.removeprefix("unet."): value
            for key, value in state.items()
            if key.startswith("unet.")
        }
    else:
        known = {k: v for k, v in read_weights(path).items() if k.startswith(UNET_PREFIX)}
    own = {k: v.shape for k, v in network.state_dict().items() if k.startswith(UNET_PREFIX)}
    needed = {key for key in own if not any(part in key for part in CONDITIONING_MODULES)}
    odd = sorted(
        {key for key, value in known.items() if own.get(key) != value.shape}
        | (needed - known.keys())
    )
    if odd:
        raise InputError(
            f"{path.name} is no backbone of this network: {odd[0]!r} is missing or odd",
            hint="train one with --stage unconditional and the same settings",
        )
    return known
