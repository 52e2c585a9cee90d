"""Construction of training stages: clips of a subset, and the stage of a preset or baseline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from loris_cli.baselines.learned_checkpoint import LearnedModel, load_learned_model
from loris_cli.baselines.learned_methods import METHOD_OBJECTS, get_learned_method
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.system.progress import Reporter
from loris_cli.training import mini_stages, mini_weights
from loris_cli.training.checkpoints import RunFolder, is_complete_model
from loris_cli.training.datasets import TrainingClips
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.latent_cache import LatentCache, read_latent_cache, write_latent_cache
from loris_cli.training.learned_stage import LearnedStage
from loris_cli.training.loop import TrainingStage
from loris_cli.training.paper_stage import PaperStage
from loris_cli.training.settings import Preset, StageName, TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Inputs of a training run."""

    data_dir: Path
    run_dir: Path
    stage_settings: Mapping[StageName, TrainingSettings]
    """Settings of the stages in training order."""
    backbone_path: Path | None = None
    codec_path: Path | None = None
    """Weights of the VQ-VAE for the baselines that generate its codes; None is the bundled
    one."""
    resume: bool = True


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


def load_codec(job: TrainingJob, preset: Preset, device: torch.device) -> LearnedModel | None:
    """Load the codec of a baseline; None for presets without one.

    Raises:
        WeightsError: the codec is not trained.
    """
    if preset not in METHOD_OBJECTS or not get_learned_method(preset).uses_codec:
        return None
    return load_learned_model("vqvae", job.codec_path, device=device)


def build_stage(
    job: TrainingJob,
    settings: TrainingSettings,
    clips: TrainingClips,
    load_cache: Callable[[], LatentCache],
) -> TrainingStage:
    """Return the stage of a preset.

    Args:
        job: inputs of the run.
        settings: settings of the stage.
        clips: clips of the data set.
        load_cache: called for the latents of the clips, if the stage needs them.

    Raises:
        InputError: the data set or the backbone is not usable.
    """
    backbone_path = job.backbone_path if settings.stage != "unconditional" else None
    if settings.preset == "paper":
        return PaperStage(clips, settings, backbone_path=backbone_path)
    if settings.stage == "latent":
        has_conditional_stage = len(job.stage_settings) > 1
        if backbone_path and has_conditional_stage and not is_complete_model(backbone_path):
            backbone_path = None  # it is for that stage
        return mini_stages.LatentStage(clips, settings, backbone_path=backbone_path)
    return mini_stages.DenoiserStage(clips, settings, load_cache(), backbone_path=backbone_path)


def build_learned_stage(
    clips: TrainingClips,
    settings: TrainingSettings,
    *,
    codec: LearnedModel | None,
    folder: Path,
    dist_context: DistributedContext,
    reporter: Reporter,
) -> LearnedStage:
    """Return the stage of a baseline; rank 0 prepares its clips.

    Args:
        clips: clips of the data set.
        settings: settings of the stage.
        codec: from `load_codec`.
        folder: folder of the prepared clips.
        dist_context: rank and device of this process.
        reporter: receives progress and skipped clips.

    Raises:
        InputError: no clip can be used.
    """
    method = get_learned_method(settings.preset)
    stage = LearnedStage(clips, settings, method=method, codec=codec, folder=folder)
    if dist_context.is_main_process:
        stage.prepare(reporter)
    dist_context.barrier()
    stage.load_examples()
    return stage


def load_cache(
    folder: RunFolder,
    clips: TrainingClips,
    settings: TrainingSettings,
    dist_context: DistributedContext,
    reporter: Reporter,
) -> LatentCache:
    """Read the latents of all clips; rank 0 computes them if they do not exist."""
    autoencoder, path = mini_weights.load_autoencoder(folder), folder.latents_path
    if not path.exists() and dist_context.is_main_process:
        device, workers = dist_context.device, settings.loader_workers
        write_latent_cache(
            path, autoencoder, clips, device=device, workers=workers, reporter=reporter
        )
    dist_context.barrier()
    return read_latent_cache(path, autoencoder, clips.train)
