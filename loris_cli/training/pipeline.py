"""Training run from a data set to a model: consecutive stages, each of which can resume.

data set -> latent -> latents -> (unconditional) -> conditional -> mini.safetensors
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import default_collate

from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import save_mini_checkpoint
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.device import is_bf16_slow, read_peak_memory_mib
from loris_cli.system.progress import Reporter
from loris_cli.training import mini_stages
from loris_cli.training.checkpoints import RunFolder, hash_clips
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.latent_cache import LatentCache, read_latent_cache, write_latent_cache
from loris_cli.training.loop import LogRecord, TrainingStage, count_optimizer_steps, train
from loris_cli.training.losses import count_parameters
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import Preset, StageName, TrainingSettings

DRY_RUN_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Inputs of a training run."""

    data_dir: Path
    run_dir: Path
    stage_settings: Mapping[StageName, TrainingSettings]
    """Settings of the stages in training order."""
    backbone_path: Path | None = None
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of a stage, measured on two training steps."""

    stage: str
    n_parameters: int
    n_clips: int
    n_steps: int
    step_s: float
    peak_memory_mib: float
    """Peak memory of the GPU or of this process; NaN if it cannot be measured."""


def read_train_val_clips(data_dir: Path, subset: str) -> TrainingClips:
    """Read the training and validation clips of a subset.

    Raises:
        InputError: a partition has no clips.
    """
    clips = read_manifest(data_dir)
    partitions: dict[str, list[Clip]] = {}
    for name in ("train", "val"):
        partitions[name] = [c for c in clips if (c.subset, c.partition) == (subset, name)]
        if not partitions[name]:
            subsets = ", ".join(sorted({clip.subset for clip in clips})) or "none"
            raise InputError(
                f"{data_dir} has no clips of subset {subset!r} in partition {name}",
                hint=f"available subsets: {subsets}; pass one with --split",
            )
    return TrainingClips(data_dir=data_dir, **partitions)


def run_training(
    job: TrainingJob,
    dist_context: DistributedContext,
    *,
    reporter: Reporter,
    on_log: Callable[[str, LogRecord], None],
) -> Path:
    """Train the stages of a run; complete stages are only loaded.

    Args:
        job: inputs of the run.
        dist_context: rank and device of this process.
        reporter: receives progress between stages, and warnings.
        on_log: called with the name of the stage and each metrics record.

    Returns:
        path of the complete model, or of the weights of the last stage if there is no
        conditional stage.

    Raises:
        InputError: the data set is not usable.
        UsageError: the folder belongs to another run.
    """
    first = next(iter(job.stage_settings.values()))
    clips = read_train_val_clips(job.data_dir, first.subset)
    folder = RunFolder(job.run_dir)
    is_main = dist_context.is_main_process
    if is_main:
        identity = {key: getattr(first, key) for key in ("preset", "subset", "seed")}
        identity["data"] = hash_clips(clips.all)
        folder.create_or_verify(identity, resume=job.resume)
    dist_context.barrier()
    result = job.run_dir
    for name, settings in job.stage_settings.items():
        load_cache = partial(_load_cache, folder, clips, settings, dist_context, reporter)
        stage = _build_stage(job, settings, clips, load_cache)
        if is_main and settings.bf16 and is_bf16_slow(dist_context.device):
            reporter.warn(
                "bf16=true is many times slower on this CPU: it does not support bfloat16"
            )
        if is_main:
            folder.prepare_stage_folder(settings)
        dist_context.barrier()
        stage_folder = folder.stage_folder(name)
        train(stage, settings, stage_folder, dist_context, on_log=partial(on_log, name))
        result = stage_folder.find_weights() or stage_folder.last_weights
        if name == "conditional":
            weights_path, result = result, folder.path / f"{settings.preset}.safetensors"
            if is_main:
                _write_model(result, settings.preset, folder, weights_path)
        dist_context.barrier()
    return result


def _write_model(path: Path, preset: Preset, folder: RunFolder, weights_path: Path) -> None:
    if preset == "mini":
        save_mini_checkpoint(path, *mini_stages.load_mini_networks(folder, weights_path))
        return
    with atomic_write(path, overwrite=True) as temporary_path:
        shutil.copyfile(weights_path, temporary_path)  # includes the configuration


def estimate_cost(
    job: TrainingJob,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    *,
    reporter: Reporter,
) -> StageCost:
    """Measure two training steps of a stage; nothing is written.

    The denoiser of `mini` is measured on random latents, because the latents of the clips may
    not exist yet.
    """
    clips = read_train_val_clips(job.data_dir, settings.subset)
    few = replace(clips, train=clips.train[:DRY_RUN_CLIPS], val=clips.val[:1])
    stage = _build_stage(job, settings, few, partial(_make_random_cache, few))
    device = dist_context.device
    loss_module = stage.loss_module.to(device)
    optimizer = torch.optim.AdamW(loss_module.parameters(), lr=0.0)
    n_micro_batches = dist_context.world_size * settings.accumulation_steps
    size = max(settings.batch_size // n_micro_batches, 1)
    step_s = 0.0
    with reporter.stage(f"{settings.stage}: two steps", 2) as advance:
        for step in range(2):
            started_at = time.monotonic()
            indices = range(step * size, (step + 1) * size)
            batch = default_collate([stage.train_set[index] for index in indices])
            loss_module({key: value.to(device) for key, value in batch.items()}).backward()
            optimizer.step()
            step_s = (time.monotonic() - started_at) * settings.accumulation_steps
            advance(1)
    if device.type == "cuda":
        peak_memory_mib = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak_memory_mib = read_peak_memory_mib() or math.nan
    return StageCost(
        stage=settings.stage,
        n_parameters=count_parameters(loss_module),
        n_clips=len(clips.train),
        n_steps=count_optimizer_steps(settings, len(clips.train)),
        step_s=step_s,
        peak_memory_mib=peak_memory_mib,
    )


def _build_stage(
    job: TrainingJob,
    settings: TrainingSettings,
    clips: TrainingClips,
    load_cache: Callable[[], LatentCache],
) -> TrainingStage:
    backbone_path = job.backbone_path if settings.stage == "conditional" else None
    if settings.preset == "paper":
        return PaperStage(clips, settings, backbone_path=backbone_path)
    if settings.stage == "latent":
        return mini_stages.LatentStage(clips, settings)
    return mini_stages.DenoiserStage(clips, settings, load_cache(), backbone_path=backbone_path)


def _load_cache(
    folder: RunFolder,
    clips: TrainingClips,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    reporter: Reporter,
) -> LatentCache:
    """Read the latents of all clips; rank 0 computes them if they do not exist."""
    autoencoder, path = mini_stages.load_autoencoder(folder), folder.latents_path
    if not path.exists() and dist_context.is_main_process:
        device, workers = dist_context.device, settings.loader_workers
        write_latent_cache(
            path, autoencoder, clips, device=device, workers=workers, reporter=reporter
        )
    dist_context.barrier()
    return read_latent_cache(path, autoencoder, clips.train)


def _make_random_cache(clips: TrainingClips) -> LatentCache:
    config = mini_stages.MINI_LATENT_CONFIG
    shape = config.latent_channels, mini_stages.MINI_DENOISER_CONFIG.window_frames
    rng = torch.Generator().manual_seed(0)
    return LatentCache(
        autoencoder=MelAutoencoder(config),
        latents={clip.id: torch.randn(shape, generator=rng).numpy() for clip in clips.all},
    )
