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
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import save_mini_checkpoint
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.device import bf16_is_slow
from loris_cli.system.progress import Reporter
from loris_cli.training.checkpoints import RunFolder, hash_clips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.export import load_run_latent_coder, load_run_mini
from loris_cli.training.latent_cache import (
    read_latents,
    read_pseudo_rhythms,
    write_latent_cache,
)
from loris_cli.training.loop import LogRecord, TrainingStage, count_optimizer_steps, train
from loris_cli.training.losses import count_parameters
from loris_cli.training.mini_stages import (
    MINI_DENOISER_CONFIG,
    MINI_LATENT_CONFIG,
    DenoiserStage,
    LatentStage,
)
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import StageName as StageName
from loris_cli.training.settings import TrainingSettings

DRY_RUN_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """All that a run is told."""

    data_dir: Path
    run_dir: Path
    stage_settings: Mapping[StageName, TrainingSettings]
    """In the order they are done in."""
    backbone_path: Path | None = None
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage would take, measured on two of its steps."""

    stage: str
    n_parameters: int
    n_clips: int
    n_steps: int
    step_s: float
    peak_memory_mb: float


def read_train_val_clips(data_dir: Path, subset: str) -> tuple[list[Clip], list[Clip]]:
    """Clips of a subset to train on, and those held out for validation.

    Raises:
        InputError: there are none of either.
    """
    every = read_manifest(data_dir)
    clips = [clip for clip in every if clip.subset == subset]
    if not clips:
        subsets = sorted({clip.subset for clip in every})
        raise InputError(
            f"{printable_path(data_dir)} has no clips of {subset!r}",
            hint=f"it has {', '.join(subsets) or 'none at all'}: name one with --split",
        )
    parts = {
        part: [clip for clip in clips if clip.partition == part] for part in ("train", "val")
    }
    for part, chosen in parts.items():
        if not chosen:
            raise InputError(
                f"{subset!r} has no clips of the {part} part", hint="make the data set again"
            )
    return parts["train"], parts["val"]


def run_training(
    job: TrainingJob,
    dist_context: DistributedContext,
    *,
    reporter: Reporter,
    on_log: Callable[[str, LogRecord], None],
) -> Path:
    """Do the stages of a run; those that are done are only looked at.

    Args:
        job: what to do.
        dist_context: who does it.
        reporter: hears of what is done between stages.
        on_log: hears the name of the stage and every row of its log.

    Returns:
        the model, or the weights of the last stage where that makes none.

    Raises:
        InputError: the data set does not do.
        UsageError: the folder is of another run.
    """
    first = next(iter(job.stage_settings.values()))
    train_clips, held_out = read_train_val_clips(job.data_dir, first.subset)
    folder = RunFolder(job.run_dir)
    if dist_context.is_main_process:
        identity = {
            "preset": first.preset,
            "split": first.subset,
            "seed": first.seed,
            "data": hash_clips([*train_clips, *held_out]),
        }
        folder.create_or_verify(identity, resume=job.resume)
    dist_context.barrier()
    made = job.run_dir
    for name, settings in job.stage_settings.items():
        stage = _build_stage(
            job, settings, folder, train_clips, held_out, dist_context, reporter
        )
        if dist_context.is_main_process and settings.bf16 and bf16_is_slow(dist_context.device):
            reporter.warn("bf16=true is many times slower here: this processor has no bfloat16")
        if dist_context.is_main_process:
            folder.prepare_stage_folder(settings)
        dist_context.barrier()
        place = folder.stage_folder(settings)

        def told(row: LogRecord, name: str = name) -> None:
            on_log(name, row)

        train(stage, settings, place, dist_context, on_log=told)
        made = place.best_weights if place.best_weights.exists() else place.last_weights
        if name == "conditional":
            model = folder.path / f"{settings.preset}.safetensors"
            if dist_context.is_main_process and settings.preset == "paper":
                with atomic_write(model, overwrite=True) as part:
                    shutil.copyfile(made, part)  # they have their configuration with them
            elif dist_context.is_main_process:
                save_mini_checkpoint(model, *load_run_mini(folder, made))
            made = model
        dist_context.barrier()
    return made


def estimate_cost(
    job: TrainingJob,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    *,
    reporter: Reporter,
) -> StageCost:
    """Two steps of a stage with nothing kept: what the rest would cost.

    A stage after the latent is measured on codes of noise: there may be none yet.
    """
    train_clips, held_out = read_train_val_clips(job.data_dir, settings.subset)
    stage = _build_dry_run_stage(job, settings, train_clips, held_out)
    learner = stage.loss_module.to(dist_context.device)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=0.0)
    share = max(
        settings.batch_size // dist_context.world_size // settings.accumulation_steps, 1
    )
    step_s = 0.0
    with reporter.stage(f"{settings.stage}: two steps", 2) as advance:
        for step in range(2):
            started = time.monotonic()
            rows = [stage.train_set[step * share + k] for k in range(share)]
            batch = {
                key: torch.stack([row[key] for row in rows]).to(dist_context.device)
                for key in rows[0]
            }
            learner(batch).backward()
            optimizer.step()
            step_s = (time.monotonic() - started) * settings.accumulation_steps
            advance(1)
    if dist_context.device.type == "cuda":
        peak_mb = torch.cuda.max_memory_allocated(dist_context.device) / 2**20
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return StageCost(
        stage=settings.stage,
        n_parameters=count_parameters(learner),
        n_clips=len(train_clips),
        n_steps=count_optimizer_steps(settings, len(train_clips)),
        step_s=step_s,
        peak_memory_mb=peak_mb,
    )


def _build_stage(
    job: TrainingJob,
    settings: TrainingSettings,
    run_folder: RunFolder,
    train_clips: Sequence[Clip],
    val_clips: Sequence[Clip],
    dist_context: DistributedContext,
    reporter: Reporter,
) -> TrainingStage:
    if settings.preset == "paper":
        return _build_paper_stage(job, settings, train_clips, val_clips)
    if settings.stage == "latent":
        return LatentStage(job.data_dir, train_clips, val_clips, settings)
    coder = load_run_latent_coder(run_folder)
    if not run_folder.latents_path.exists() and dist_context.is_main_process:
        write_latent_cache(
            run_folder.latents_path,
            coder,
            job.data_dir,
            [*train_clips, *val_clips],
            device=dist_context.device,
            workers=settings.loader_workers,
            reporter=reporter,
        )
    dist_context.barrier()
    codes, sketches = read_latents(run_folder.latents_path, coder)
    return DenoiserStage(
        job.data_dir,
        train_clips,
        val_clips,
        settings,
        coder=coder,
        latents=codes,
        note_latents=sketches,
        pseudo_rhythms=read_pseudo_rhythms(run_folder.latents_path, train_clips),
        backbone_path=job.backbone_path if settings.stage == "conditional" else None,
    )


def _build_paper_stage(
    job: TrainingJob,
    settings: TrainingSettings,
    train_clips: Sequence[Clip],
    val_clips: Sequence[Clip],
) -> TrainingStage:
    conditional = settings.stage == "conditional"
    return PaperStage(
        job.data_dir,
        train_clips,
        val_clips,
        settings,
        backbone_path=job.backbone_path if conditional else None,
    )


def _build_dry_run_stage(
    job: TrainingJob,
    settings: TrainingSettings,
    train_clips: Sequence[Clip],
    val_clips: Sequence[Clip],
) -> TrainingStage:
    if settings.preset == "paper":
        return _build_paper_stage(job, settings, train_clips[:DRY_RUN_CLIPS], val_clips[:1])
    if settings.stage == "latent":
        return LatentStage(job.data_dir, train_clips, val_clips, settings)
    few, one = train_clips[:DRY_RUN_CLIPS], val_clips[:1]
    rng = torch.Generator().manual_seed(0)
    codes = {
        clip.id: torch.randn(
            MINI_LATENT_CONFIG.latent_channels,
            MINI_DENOISER_CONFIG.window_frames,
            generator=rng,
        ).numpy()
        for clip in (*few, *one)
    }
    return DenoiserStage(
        job.data_dir,
        few,
        one,
        settings,
        coder=MelAutoencoder(MINI_LATENT_CONFIG),
        latents=codes,
        note_latents={},
        pseudo_rhythms={},
        backbone_path=job.backbone_path,
    )
