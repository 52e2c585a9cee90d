"""The stages of the ``mini`` preset: its latent code first, then what denoises it.

clips -> log-mel -> LatentStage -> codes of all clips -> DenoiserStage -> mini.safetensors
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from loris_cli.audio import mel
from loris_cli.audio.mel import FINE
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_features, read_sound
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mel_autoencoder import LatentCoder, LatentConfig
from loris_cli.models.mini_checkpoint import MiniModel
from loris_cli.models.mini_unet import DenoiserConfig, MiniDenoiser
from loris_cli.soundtrack.conditioning import HARMONY_CHANNELS
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.training.checkpoints import read_weights
from loris_cli.training.datasets import CodeExamples, Example, Lesson, MelExamples, read_lessons
from loris_cli.training.latent_cache import Codes
from loris_cli.training.losses import (
    DenoiserLearner,
    LatentLearner,
    checkpoint_activations,
)
from loris_cli.training.settings import Settings
from loris_cli.training.validation_samples import listen

LATENT = LatentConfig(n_mels=FINE.n_mels, n_fft=FINE.n_fft, channels=64, width=448, blocks=3)
DENOISER = DenoiserConfig(
    code_channels=LATENT.channels,
    harmony_channels=HARMONY_CHANNELS,
    sketch_channels=LATENT.channels,
    motion_width=32,
    told_looseness=1,
    window=512,
)
LATENT_FRAMES = 256
"""Log-mel frames of a crop: 3 s."""
SIGMAS = (-0.4, 1.2)
"""Karras et al. (2022), Table 1; LORIS's own are for a waveform of deviation 0.1."""
HELD_OUT_SEED = 1
MEASURED_CLIPS = 64
"""As many tell the mean and deviation of log-mel."""


class LatentStage:
    """Learns the code of log-mel frames."""

    backbone: frozenset[str] = frozenset()

    def __init__(
        self,
        data: Path,
        clips: Sequence[Clip],
        held_out: Sequence[Clip],
        settings: Settings,
        *,
        config: LatentConfig = LATENT,
        frames: int = LATENT_FRAMES,
    ) -> None:
        """Take clips of a data set."""
        torch.manual_seed(settings.seed)
        self._data, self._clips = data, clips
        self.coder = LatentCoder(config)
        self.learner: nn.Module = LatentLearner(self.coder)
        code = (config.channels, frames // config.stride)
        self.examples: Dataset[Example] = MelExamples(
            data, clips, frames=frames, code=code, bands=config.bands, seed=settings.seed
        )
        self.held_out: Dataset[Example] = MelExamples(
            data, held_out, frames=frames, code=code, bands=config.bands, seed=HELD_OUT_SEED
        )
        self.n_clips = len(clips)

    def begin(self) -> None:
        """Measure log-mel over some clips."""
        chosen = self._clips[:: max(len(self._clips) // MEASURED_CLIPS, 1)]
        bands_of = self.coder.config.bands
        frames = np.concatenate(
            [mel.log_mel(read_sound(self._data, clip), bands_of) for clip in chosen], axis=1
        )
        bands = torch.from_numpy(frames.mean(axis=1))[:, None]
        self.coder.mel_mean.copy_(bands)
        self.coder.mel_std.fill_(float((frames - bands.numpy()).std()))

    def weights(self, learner: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The coder alone."""
        assert isinstance(learner, LatentLearner)
        return learner.coder.state_dict(), {
            "loris.coder": json.dumps(asdict(self.coder.config))
        }

    def listen(self, learner: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Nothing: a code alone makes no music."""
        return {}


def read_coder(path: Path) -> LatentCoder:
    """A coder that `LatentStage` learned.

    Raises:
        InputError: the file is not one.
    """
    tensors = read_weights(path)
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get("loris.coder")
    try:
        coder = LatentCoder(LatentConfig(**json.loads(told or "")))
        coder.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path.name} holds no latent", hint="train one with --stage latent"
        ) from error
    return coder.eval().requires_grad_(False)


class DenoiserStage:
    """Learns to denoise codes, with what is told of their clips or (unconditional) without."""

    def __init__(
        self,
        data: Path,
        clips: Sequence[Clip],
        held_out: Sequence[Clip],
        settings: Settings,
        *,
        coder: LatentCoder,
        codes: Codes,
        sketches: Codes,
        heard: Mapping[str, ClipFeatures],
        backbone: Path | None = None,
        config: DenoiserConfig = DENOISER,
    ) -> None:
        """Take clips with their codes.

        Args:
            data: folder of the data set.
            clips: to learn from.
            held_out: to validate on.
            settings: of the stage.
            coder: of the codes.
            codes: of all these clips, by id.
            sketches: codes of the notes of some of them.
            heard: the rhythm of the sound itself, of some of these clips, by id.
            backbone: weights of an unconditional stage to begin with.
            config: sizes.

        Raises:
            InputError: no clip is as long as a window, or the backbone does not fit.
        """
        self._data, self._coder = data, coder

        def long_enough(chosen: Sequence[Clip]) -> list[Clip]:
            long = [clip for clip in chosen if codes[clip.id].shape[1] >= config.window]
            if not long:
                raise InputError(
                    "no clip is as long as the network's window",
                    hint=f"clips of {config.window * 1024 / SAMPLE_RATE_HZ:.0f} s are needed",
                )
            return long

        def examples(
            long: Sequence[Clip], lessons: Sequence[Lesson], seed: int, drop: float
        ) -> CodeExamples:
            return CodeExamples(
                [codes[clip.id] for clip in long],
                lessons,
                window=config.window,
                seed=seed,
                drop_condition=drop,
                sigmas=SIGMAS,
                sketch_channels=config.sketch_channels,
            )

        long = long_enough(clips)
        lessons = read_lessons(data, long, heard, sketches)
        unheard = long_enough(held_out)
        self.examples: Dataset[Example] = examples(
            long, lessons, settings.seed, settings.drop_condition
        )
        unconditional = settings.stage == "unconditional"
        self.held_out: Dataset[Example] = examples(
            unheard,
            read_lessons(data, unheard, heard, sketches),
            HELD_OUT_SEED,
            float(unconditional),
        )
        torch.manual_seed(settings.seed)
        self.denoiser = MiniDenoiser(
            replace(
                config,
                learned_chords=any(lesson.has_chords for lesson in lessons),
                learned_notes=any(lesson.has_notes for lesson in lessons),
            )
        )
        self.learner: nn.Module = DenoiserLearner(self.denoiser)
        self.backbone: frozenset[str] = frozenset()
        self._begin_with = backbone
        if backbone is not None:
            known = {f"denoiser.{key}" for key in read_weights(backbone)}
            unet = {name for name, _ in self.learner.named_parameters() if ".unet." in name}
            if not unet <= known:
                raise InputError(
                    f"{backbone.name} is no backbone of this preset",
                    hint="train one with --stage unconditional",
                )
            self.backbone = frozenset(unet)
        if settings.checkpoint_activations:
            checkpoint_activations(self.denoiser)

        self._heard = [] if unconditional else list(held_out[: settings.sounds])
        self.n_clips = len(clips)

    def begin(self) -> None:
        """Take the weights of the backbone, if there is one."""
        if self._begin_with is not None:
            known = read_weights(self._begin_with)
            self.denoiser.load_state_dict(widened(known, self.denoiser.state_dict()))

    def weights(self, learner: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The denoiser alone."""
        assert isinstance(learner, DenoiserLearner)
        told = {"loris.denoiser": json.dumps(asdict(self.denoiser.config))}
        return learner.denoiser.state_dict(), told

    def listen(self, learner: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """What it makes of a few held-out clips; how many of their accents are heard."""
        assert isinstance(learner, DenoiserLearner)
        device = next(learner.parameters()).device
        model = MiniModel(
            coder=self._coder.to(device),
            denoiser=learner.denoiser,
            name="in training",
            fingerprint="",
        )
        clips = [(clip.id, read_features(self._data, clip)) for clip in self._heard]
        return listen(LatentGenerator(model=model, device=device), clips, folder, step)


def widened(known: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network that was told less, for one that is told more.

    What the network is newly told comes last in every input, and begins with no say: columns
    of zeros in matrices. Norms and what the older network has not at all stay as they are.

    Args:
        known: its weights, by name.
        wanted: those of the new one, as it begins.

    Raises:
        InputError: a tensor of the new network is smaller, or of another rank.
    """
    state = dict(wanted)
    for name in known.keys() & wanted.keys():
        old, new = known[name], wanted[name]
        if old.ndim != new.ndim or any(
            a > b for a, b in zip(old.shape, new.shape, strict=True)
        ):
            raise InputError(
                f"the backbone's {name} is {tuple(old.shape)}, not {tuple(new.shape)}",
                hint="it is of another preset",
            )
        fresh = new.clone() if new.ndim == 1 else torch.zeros_like(new)
        fresh[tuple(slice(size) for size in old.shape)] = old
        state[name] = fresh
    return state
