"""Cost of a training stage, measured on two steps."""

import math
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from loris_cli.baselines.learned_checkpoint import LearnedModel, find_bundled_weights
from loris_cli.baselines.learned_methods import METHOD_OBJECTS, get_learned_method
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.system.device import read_peak_memory_mib
from loris_cli.system.progress import Reporter
from loris_cli.training import mini_stages
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.latent_cache import LatentCache
from loris_cli.training.loop import TrainingStage, count_optimizer_steps
from loris_cli.training.losses import count_parameters
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.stage_factory import (
    TrainingJob,
    build_learned_stage,
    build_stage,
    load_codec,
    read_train_val_clips,
)

DRY_RUN_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of a stage, measured on two training steps."""

    stage: str
    n_parameters: int
    n_clips: int
    n_steps: int
    step_s: float
    step_flops: int
    """Floating-point operations of a step in one process: matrix products and convolutions."""
    peak_memory_mib: float
    """Peak memory of the GPU or of this process; NaN if it cannot be measured."""


def estimate_cost(
    job: TrainingJob,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    *,
    reporter: Reporter,
) -> StageCost:
    """Measure two training steps of a stage; nothing is written to the run folder.

    The denoiser of `mini` is measured on random latents, because the latents of the clips may
    not exist yet; a baseline without a trained codec on the codes of a random one.
    """
    clips = read_train_val_clips(job.data_dir, settings.subset)
    few = replace(clips, train=clips.train[:DRY_RUN_CLIPS], val=clips.val[:1])
    if settings.preset not in METHOD_OBJECTS:
        make_cache = partial(_make_random_cache, few, job.backbone_path)
        stage = build_stage(job, settings, few, make_cache)
        return _measure_steps(stage, settings, dist_context, reporter, n_clips=len(clips.train))
    with tempfile.TemporaryDirectory() as folder:
        learned = build_learned_stage(
            replace(few, val=few.train),  # the first validation clip might not be usable
            settings,
            codec=_load_codec_or_random(job, settings, dist_context.device),
            folder=Path(folder),
            dist_context=dist_context,
            reporter=reporter,
        )
        return _measure_steps(
            learned, settings, dist_context, reporter, n_clips=len(clips.train)
        )


def _measure_steps(
    stage: TrainingStage,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    reporter: Reporter,
    *,
    n_clips: int,
) -> StageCost:
    device = dist_context.device
    loss_module = stage.loss_module.to(device)
    optimizer = torch.optim.AdamW(loss_module.parameters(), lr=0.0)
    n_micro_batches = dist_context.world_size * settings.accumulation_steps
    size = max(settings.batch_size // n_micro_batches, 1)
    step_s, step_flops = 0.0, 0
    with reporter.stage(f"{settings.stage}: two steps", 2) as advance:
        for step in range(2):
            indices = range(step * size, (step + 1) * size)
            started_at = time.monotonic()
            batch = default_collate([stage.train_set[index] for index in indices])
            # Operations are counted in the first step, because counting takes time.
            counter = FlopCounterMode(display=False) if step == 0 else nullcontext()
            with counter:
                loss_module({k: value.to(device) for k, value in batch.items()}).backward()
            optimizer.step()
            step_s = (time.monotonic() - started_at) * settings.accumulation_steps
            if isinstance(counter, FlopCounterMode):
                step_flops = counter.get_total_flops() * settings.accumulation_steps
            advance(1)
    if device.type == "cuda":
        peak_memory_mib = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak_memory_mib = read_peak_memory_mib() or math.nan
    return StageCost(
        stage=settings.stage,
        n_parameters=count_parameters(loss_module),
        n_clips=n_clips,
        n_steps=count_optimizer_steps(settings, n_clips),
        step_s=step_s,
        step_flops=step_flops,
        peak_memory_mib=peak_memory_mib,
    )


def _load_codec_or_random(
    job: TrainingJob, settings: TrainingSettings, device: torch.device
) -> LearnedModel | None:
    uses_codec = get_learned_method(settings.preset).uses_codec
    if not uses_codec or job.codec_path is not None or find_bundled_weights("vqvae"):
        return load_codec(job, settings.preset, device)
    vqvae = get_learned_method("vqvae")
    codec = vqvae.build_network(vqvae.configs["compact"])
    return LearnedModel(
        method=vqvae, network=codec.to(device).eval(), codec=None, name="random"
    )


def _make_random_cache(clips: TrainingClips, backbone_path: Path | None) -> LatentCache:
    config = mini_stages.choose_denoiser_config(backbone_path)
    shape = config.latent_channels, config.window_frames
    rng = torch.Generator().manual_seed(0)
    return LatentCache(
        autoencoder=MelAutoencoder(mini_stages.MINI_LATENT_CONFIG),
        latents={clip.id: torch.randn(shape, generator=rng).numpy() for clip in clips.all},
    )
