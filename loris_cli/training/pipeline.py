"""A run from its data set to a model: stage after stage, each from where it was.

data set -> latent -> codes -> (unconditional) -> conditional -> mini.safetensors
"""

import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.models.mel_autoencoder import LatentCoder
from loris_cli.models.mini_checkpoint import save_mini
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.system.device import halves_cost
from loris_cli.system.progress import Reporter
from loris_cli.training.checkpoints import RunFolder, fingerprint
from loris_cli.training.distributed import Processes
from loris_cli.training.export import coder_of, mini_of
from loris_cli.training.latent_cache import read_codes, read_heard, write_codes
from loris_cli.training.loop import Row, Stage, n_steps_of, train
from loris_cli.training.losses import n_parameters
from loris_cli.training.mini_stages import (
    DENOISER,
    LATENT,
    DenoiserStage,
    LatentStage,
)
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import Settings
from loris_cli.training.settings import Stage as StageName

TRIAL_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a run is told."""

    data: Path
    out: Path
    stages: Mapping[StageName, Settings]
    """In the order they are done in."""
    backbone: Path | None = None
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage would take, measured on two of its steps."""

    stage: str
    n_parameters: int
    n_clips: int
    n_steps: int
    step_s: float
    peak_mb: float


def clips_of(data: Path, split: str) -> tuple[list[Clip], list[Clip]]:
    """Clips of a subset to train on, and those held out for validation.

    Raises:
        InputError: there are none of either.
    """
    every = read_manifest(data)
    clips = [clip for clip in every if clip.subset == split]
    if not clips:
        subsets = sorted({clip.subset for clip in every})
        raise InputError(
            f"{printable(data)} has no clips of {split!r}",
            hint=f"it has {', '.join(subsets) or 'none at all'}: name one with --split",
        )
    parts = {part: [clip for clip in clips if clip.split == part] for part in ("train", "val")}
    for part, chosen in parts.items():
        if not chosen:
            raise InputError(
                f"{split!r} has no clips of the {part} part", hint="make the data set again"
            )
    return parts["train"], parts["val"]


def run(
    plan: Plan, processes: Processes, *, reporter: Reporter, tell: Callable[[str, Row], None]
) -> Path:
    """Do the stages of a run; those that are done are only looked at.

    Args:
        plan: what to do.
        processes: who does it.
        reporter: hears of what is done between stages.
        tell: hears the name of the stage and every row of its log.

    Returns:
        the model, or the weights of the last stage where that makes none.

    Raises:
        InputError: the data set does not do.
        UsageError: the folder is of another run.
    """
    first = next(iter(plan.stages.values()))
    train_clips, held_out = clips_of(plan.data, first.split)
    folder = RunFolder(plan.out)
    if processes.first:
        identity = {
            "preset": first.preset,
            "split": first.split,
            "seed": first.seed,
            "data": fingerprint([*train_clips, *held_out]),
        }
        folder.claim(identity, resume=plan.resume)
    processes.wait()
    made = plan.out
    for name, settings in plan.stages.items():
        stage = _stage(plan, settings, folder, train_clips, held_out, processes, reporter)
        if processes.first and settings.bf16 and halves_cost(processes.device):
            reporter.warn("bf16=true is many times slower here: this processor has no bfloat16")
        if processes.first:
            folder.stage(settings)
        processes.wait()
        place = folder.place(settings)

        def told(row: Row, name: str = name) -> None:
            tell(name, row)

        train(stage, settings, place, processes, tell=told)
        made = place.best if place.best.exists() else place.last
        if name == "conditional":
            model = folder.path / f"{settings.preset}.safetensors"
            if processes.first and settings.preset == "paper":
                with replacing(model, overwrite=True) as part:
                    shutil.copyfile(made, part)  # they have their configuration with them
            elif processes.first:
                save_mini(model, *mini_of(folder, made))
            made = model
        processes.wait()
    return made


def estimate(
    plan: Plan, settings: Settings, processes: Processes, *, reporter: Reporter
) -> Cost:
    """Two steps of a stage with nothing kept: what the rest would cost.

    A stage after the latent is measured on codes of noise: there may be none yet.
    """
    train_clips, held_out = clips_of(plan.data, settings.split)
    stage = _trial(plan, settings, train_clips, held_out)
    learner = stage.learner.to(processes.device)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=0.0)
    share = max(settings.batch // processes.world // settings.accumulate, 1)
    step_s = 0.0
    with reporter.stage(f"{settings.stage}: two steps", 2) as advance:
        for step in range(2):
            started = time.monotonic()
            rows = [stage.examples[step * share + k] for k in range(share)]
            batch = {
                key: torch.stack([row[key] for row in rows]).to(processes.device)
                for key in rows[0]
            }
            learner(batch).backward()
            optimizer.step()
            step_s = (time.monotonic() - started) * settings.accumulate
            advance(1)
    if processes.device.type == "cuda":
        peak_mb = torch.cuda.max_memory_allocated(processes.device) / 2**20
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Cost(
        stage=settings.stage,
        n_parameters=n_parameters(learner),
        n_clips=len(train_clips),
        n_steps=n_steps_of(settings, len(train_clips)),
        step_s=step_s,
        peak_mb=peak_mb,
    )


def _stage(
    plan: Plan,
    settings: Settings,
    folder: RunFolder,
    train_clips: Sequence[Clip],
    held_out: Sequence[Clip],
    processes: Processes,
    reporter: Reporter,
) -> Stage:
    if settings.preset == "paper":
        return _paper(plan, settings, train_clips, held_out)
    if settings.stage == "latent":
        return LatentStage(plan.data, train_clips, held_out, settings)
    coder = coder_of(folder)
    if not folder.codes.exists() and processes.first:
        write_codes(
            folder.codes,
            coder,
            plan.data,
            [*train_clips, *held_out],
            device=processes.device,
            workers=settings.workers,
            reporter=reporter,
        )
    processes.wait()
    codes, sketches = read_codes(folder.codes, coder)
    return DenoiserStage(
        plan.data,
        train_clips,
        held_out,
        settings,
        coder=coder,
        codes=codes,
        sketches=sketches,
        heard=read_heard(folder.codes, train_clips),
        backbone=plan.backbone if settings.stage == "conditional" else None,
    )


def _paper(
    plan: Plan, settings: Settings, train_clips: Sequence[Clip], held_out: Sequence[Clip]
) -> Stage:
    conditional = settings.stage == "conditional"
    return PaperStage(
        plan.data,
        train_clips,
        held_out,
        settings,
        backbone=plan.backbone if conditional else None,
    )


def _trial(
    plan: Plan, settings: Settings, train_clips: Sequence[Clip], held_out: Sequence[Clip]
) -> Stage:
    if settings.preset == "paper":
        return _paper(plan, settings, train_clips[:TRIAL_CLIPS], held_out[:1])
    if settings.stage == "latent":
        return LatentStage(plan.data, train_clips, held_out, settings)
    few, one = train_clips[:TRIAL_CLIPS], held_out[:1]
    rng = torch.Generator().manual_seed(0)
    codes = {
        clip.id: torch.randn(LATENT.channels, DENOISER.window, generator=rng).numpy()
        for clip in (*few, *one)
    }
    return DenoiserStage(
        plan.data,
        few,
        one,
        settings,
        coder=LatentCoder(LATENT),
        codes=codes,
        sketches={},
        heard={},
        backbone=plan.backbone,
    )
