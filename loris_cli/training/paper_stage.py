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
from loris_cli.dataset.manifest import VISUAL, Clip
from loris_cli.dataset.read_clips import read_danced, read_features, read_picture
from loris_cli.errors import InputError, UsageError, WeightsError
from loris_cli.models.diffusion import loss
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.load_model import NamedPaper
from loris_cli.models.paper_checkpoint import UNET, described
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack.paper_conditioning import POSES_A_ROW
from loris_cli.soundtrack.visual_features import VISUAL_FPS, WIDTHS
from loris_cli.soundtrack.waveform_generator import SIGMA_DATA, WaveformGenerator
from loris_cli.system.state_dict_files import is_torch_file, read_state
from loris_cli.training.checkpoints import read_weights
from loris_cli.training.datasets import Example, read_lessons
from loris_cli.training.losses import checkpoint_activations
from loris_cli.training.settings import Settings
from loris_cli.training.validation_samples import listen
from loris_cli.training.waveform_dataset import SoundExamples

LONGEST_S = 50.0
"""Of the paper's two lengths of clips the longer."""
HELD_OUT_SEED = 1
HEARD_STEPS = 20
"""Of DPM-Solver++ for the sounds on the way: a fifth of the evaluations of the paper's 50."""
ADDED = ("cross_attend", "rhythm_hawkes_attention", "rhythm_encoder", "fixed_")
"""In names of the U-Net: what the conditions add to a backbone (specification, 3.6)."""


class PaperLearner(nn.Module):
    """The diffusion loss on the waveform (LORIS Eq. 12), what is seen clamped (M13)."""

    def __init__(self, network: PaperModel) -> None:
        """Train a network."""
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of what `SoundExamples` gives."""
        told = self.network.tell(
            batch.get("visual"),
            batch["rhythm"],
            batch["genre"],
            envelope=batch["envelope"],
            motion=batch["motion"],
        )
        return loss(
            lambda x, c_noise: self.network(x, c_noise, told, batch["dropped"]),
            batch["clean"],
            noise=batch["noise"],
            sigma=batch["sigma"],
            sigma_data=SIGMA_DATA,
            limit=1.0,
        )


def maker_of(settings: Settings, clips: Sequence[Clip]) -> str:
    """Whose features of the picture the network is told; empty for none.

    Raises:
        UsageError: some clips have none by the maker that was asked for.
    """
    if settings.visual == "none":
        return ""
    shared = [by for by in VISUAL if all(by in clip.visual for clip in clips)]
    if settings.visual == "auto":
        return next(iter(shared), "")
    if settings.visual not in shared:
        lack = next(clip for clip in clips if settings.visual not in clip.visual)
        raise UsageError(
            f"{lack.id} has no features of the picture by {settings.visual}",
            hint="make them with `loris prep --visual`, or --set visual=auto",
        )
    return settings.visual


def config_of(settings: Settings, clips: Sequence[Clip]) -> PaperConfig:
    """The network that settings ask for, for clips of the length that all of these have.

    Raises:
        UsageError: there is no such network.
    """
    shortest_s = min(LONGEST_S, *(clip.duration_s for clip in clips))
    n_rows = math.floor(shortest_s * VISUAL_FPS)
    if not n_rows:
        raise InputError("a clip is too short to learn from", hint="clips of 25 s are usual")
    maker = maker_of(settings, clips)
    motion = settings.motion == "true" or (settings.motion == "auto" and not maker)
    try:
        config = PaperConfig(
            channels=settings.channels,
            features=settings.features,
            video_length=n_rows,
            pose_length=n_rows * POSES_A_ROW,
            n_genres=len(GENRES),
            visual=("lstm" if settings.lstm else "linear") if maker else "none",
            visual_features=WIDTHS["i3d-r50" if maker == "i3d-r50" else "i3d"],
            motion=motion,
            rhythm=settings.rhythm,
            hawkes=settings.hawkes,
            position=settings.position,
            shared_rhythm=settings.shared_rhythm,
            aligned=settings.aligned,
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
        data: Path,
        clips: Sequence[Clip],
        held_out: Sequence[Clip],
        settings: Settings,
        *,
        backbone: Path | None = None,
        config: PaperConfig | None = None,
    ) -> None:
        """Take clips of a data set.

        Args:
            data: its folder.
            clips: to learn from.
            held_out: to validate on.
            settings: of the stage.
            backbone: weights to begin with: of an unconditional stage, or a released backbone.
            config: of the network; None is what the settings and the clips ask for.

        Raises:
            InputError: the backbone does not fit, or a clip is too short.
            UsageError: the settings make no network.
        """
        torch.manual_seed(settings.seed)
        self.config = config or config_of(settings, [*clips, *held_out])
        sees = self.config.visual != "none"
        self.maker = maker_of(settings, [*clips, *held_out]) if sees else ""
        self.network = PaperModel(self.config)
        self.learner: nn.Module = PaperLearner(self.network)
        self._begin_with = backbone
        self.backbone: frozenset[str] = frozenset()
        if backbone is not None:
            known = read_backbone(backbone, self.network)
            self.backbone = frozenset(f"network.{key}" for key in known)
        if settings.checkpoint_activations:
            checkpoint_activations(self.network)
        unconditional = settings.stage == "unconditional"

        def examples(chosen: Sequence[Clip], *, held_out: bool) -> SoundExamples:
            return SoundExamples(
                data,
                chosen,
                read_lessons(data, chosen, {}, {}),
                config=self.config,
                seed=HELD_OUT_SEED if held_out else settings.seed,
                drop_condition=float(unconditional) if held_out else settings.drop_condition,
                augment=not held_out,
                visual=self.maker,
            )

        self.examples: Dataset[Example] = examples(clips, held_out=False)
        self.held_out: Dataset[Example] = examples(held_out, held_out=True)
        heard = [] if unconditional else held_out[: settings.sounds]
        self._heard = [(clip.id, self._shown(data, clip)) for clip in heard]
        self.n_clips = len(clips)

    def _shown(self, data: Path, clip: Clip) -> ClipFeatures:
        """A clip as a video of it tells of it."""
        shown = read_danced(data, clip) or read_features(data, clip)
        if not self.maker:
            return shown
        return replace(shown, visual=read_picture(data, clip, self.maker))

    def begin(self) -> None:
        """Take the weights of the backbone, if there is one."""
        if self._begin_with is not None:
            known = read_backbone(self._begin_with, self.network)
            self.network.load_state_dict(known, strict=False)

    def weights(self, learner: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The network, as `--model` takes it."""
        assert isinstance(learner, PaperLearner)
        maker = {"loris.visual_maker": self.maker} if self.maker else {}
        return learner.network.state_dict(), described(self.config) | maker

    def listen(self, learner: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """What it makes of a few held-out clips; how many of their accents are heard."""
        assert isinstance(learner, PaperLearner)
        model = NamedPaper(network=learner.network, name="in training", fingerprint="")
        generator = WaveformGenerator(
            model=model,
            device=next(learner.parameters()).device,
            steps=HEARD_STEPS,
            sampler="dpmpp-2m",
        )
        return listen(generator, self._heard, folder, step)


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
            state = read_state(path, hint="give a released backbone")
        except WeightsError as error:
            raise InputError(str(error), hint=error.hint) from error
        known = {
            UNET + key.removeprefix("unet."): value
            for key, value in state.items()
            if key.startswith("unet.")
        }
    else:
        known = {k: v for k, v in read_weights(path).items() if k.startswith(UNET)}
    own = {k: v.shape for k, v in network.state_dict().items() if k.startswith(UNET)}
    needed = {key for key in own if not any(part in key for part in ADDED)}
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
