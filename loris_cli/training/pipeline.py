"""Training run from a data set to a model: consecutive stages, each of which can resume.

data set -> latent -> latents -> (unconditional) -> conditional -> mini.safetensors
data set -> prepared clips -> conditional -> METHOD.safetensors, for a trained baseline
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from loris_cli.baselines.learned_checkpoint import convert_to_int8
from loris_cli.baselines.learned_methods import METHOD_OBJECTS
from loris_cli.models.mini_checkpoint import save_mini_checkpoint
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.device import is_bf16_slow
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.progress import Reporter
from loris_cli.training import mini_weights
from loris_cli.training.checkpoints import RunFolder, hash_clips, is_complete_model
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.loop import LogRecord, TrainingStage, train
from loris_cli.training.settings import Preset
from loris_cli.training.stage_factory import (
    TrainingJob,
    build_learned_stage,
    build_stage,
    load_cache,
    load_codec,
    read_train_val_clips,
)


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
    codec = load_codec(job, first.preset, dist_context.device)
    if is_main:
        identity = {key: getattr(first, key) for key in ("preset", "subset", "seed")}
        identity["data"] = hash_clips(clips.all)
        if codec is not None:
            identity["codec"] = codec.sha256_prefix
        model_path = job.backbone_path if first.preset == "mini" else None
        if model_path is not None and not is_complete_model(model_path):
            model_path = None  # weights of a stage, which have no autoencoder
        if model_path is not None:
            identity["backbone"] = compute_sha256(model_path)[:12]
        folder.create_or_verify(identity, resume=job.resume)
        if model_path is not None:
            mini_weights.copy_autoencoder(model_path, folder)
    dist_context.barrier()
    result = job.run_dir
    for name, settings in job.stage_settings.items():
        stage: TrainingStage
        if settings.preset in METHOD_OBJECTS:
            stage = build_learned_stage(
                clips,
                settings,
                codec=codec,
                folder=folder.path / "prepared",
                dist_context=dist_context,
                reporter=reporter,
            )
        else:
            load_latents = partial(load_cache, folder, clips, settings, dist_context, reporter)
            stage = build_stage(job, settings, clips, load_latents)
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
        save_mini_checkpoint(path, *mini_weights.load_mini_networks(folder, weights_path))
        return
    if preset in METHOD_OBJECTS:
        convert_to_int8(weights_path, path)
        return
    with atomic_write(path, overwrite=True) as temporary_path:
        shutil.copyfile(weights_path, temporary_path)  # includes the configuration
