"""``loris train``: train and export models, on one machine or several."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from loris_cli.config import BaselineName

from . import options
from .console import ConsoleReporter
from .options import option

app = typer.Typer()


class StageChoice(StrEnum):
    """Training stages; Typer requires an enumeration for a repeatable option."""

    LATENT = "latent"
    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    data: options.DataDir = None,
    split: Annotated[
        str, option("Input", "Subset to train on, such as fe50.", metavar="SUBSET")
    ] = "synthetic",
    out: Annotated[
        Path,
        option(
            "Output",
            "Run folder for checkpoints, metrics and weights.",
            "--out",
            "-o",
            metavar="DIR",
        ),
    ] = Path("run"),
    preset: Annotated[
        Literal["mini", "paper"],
        option(
            "Model", "Model: mini (latent diffusion), or the paper's waveform diffusion model."
        ),
    ] = "mini",
    method: Annotated[
        Literal[BaselineName, "vqvae"] | None,
        option(
            "Model",
            "Train a baseline of the paper instead of a model, or the VQ-VAE that d2mgan and"
            " cdcd need.",
        ),
    ] = None,
    size: Annotated[
        Literal["compact", "full"],
        option(
            "Model", "Network size of a baseline: trainable on a CPU, or as in its publication."
        ),
    ] = "compact",
    compat: Annotated[
        Literal["paper", "official"],
        option(
            "Model",
            "Variant of a baseline: repaired, or with the defects of its released code.",
        ),
    ] = "paper",
    codec: Annotated[
        Path | None,
        option(
            "Model",
            "Weights of the VQ-VAE for d2mgan and cdcd. Default: the included ones.",
            metavar="FILE",
        ),
    ] = None,
    stages: Annotated[
        list[StageChoice] | None,
        option(
            "Model",
            "Stage to train: autoencoder, unconditional backbone, or conditional model."
            " Repeatable. Default: latent and conditional; conditional for the paper's model.",
            "--stage",
        ),
    ] = None,
    backbone: Annotated[
        Path | None,
        option(
            "Model",
            "Initialize from a model of the same preset, the weights of an earlier diffusion"
            " stage, or a released backbone.",
            metavar="mini|FILE",
        ),
    ] = None,
    recipe: Annotated[
        Literal["default", "paper", "official"],
        option("Model", "Hyperparameters: project defaults, those of the paper, or its code."),
    ] = "default",
    config: Annotated[
        Path | None,
        option("Model", "Read settings from this file; see docs/training.md.", metavar="TOML"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        option("Model", "Override one setting. Repeatable.", "--set", metavar="KEY=VALUE"),
    ] = None,
    resume: Annotated[
        bool,
        option(
            "Run",
            "Resume an existing run in --out, or fail if there is one.",
            "--resume/--no-resume",
        ),
    ] = True,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a model.

    Writes checkpoints, metrics and weights to the run folder and prints the path of the
    weights. On SIGTERM or SIGUSR1 a checkpoint is saved; the same command resumes the run.

    For several processes, start it with torchrun, or with srun on a SLURM cluster.

    Examples:
        loris train --data DATA --out run

        loris train --data DATA --out run --set batch_size=24 --set bf16=true --device cuda

        torchrun --nproc-per-node 8 -m loris_cli train --data DATA --out run

        loris train --data DATA --backbone mini --out runs/fine-tuned

        loris train --data DATA --method foley --out runs/foley

        loris train export run -o mine.safetensors
    """
    if options.reject_options_before_subcommand(context):
        return
    from loris_cli.config import data_home
    from loris_cli.errors import InputError
    from loris_cli.models.mini_config import BUILTIN_MODELS
    from loris_cli.training.checkpoints import is_complete_model
    from loris_cli.training.cost_estimate import estimate_cost
    from loris_cli.training.distributed import init_distributed
    from loris_cli.training.pipeline import run_training
    from loris_cli.training.settings import Preset, StageName, resolve_settings
    from loris_cli.training.stage_factory import TrainingJob

    network: Preset = method or preset
    if backbone is not None:
        backbone = BUILTIN_MODELS.get(str(backbone), backbone)
        if not backbone.is_file():
            raise InputError(
                f"backbone {backbone} does not exist",
                hint="train one with --stage unconditional",
            )
    names: list[StageName] = [stage.value for stage in stages or ()]
    if not names:
        names = ["conditional"]
        if network == "mini" and not (backbone and is_complete_model(backbone)):
            names.insert(0, "latent")
    with init_distributed(device, warn=ConsoleReporter().warn) as dist_context:
        settings = {
            name: resolve_settings(
                preset=network,
                stage=name,
                recipe=recipe,
                subset=split,
                world_size=dist_context.world_size,
                config_path=config,
                overrides=[
                    f"seed={seed}",
                    f"network_size={size}",
                    f"method_compat={compat}",
                    *(overrides or []),
                ],
            )
            for name in names
        }
        job = TrainingJob(
            data_dir=data_home(data),
            run_dir=out,
            stage_settings=settings,
            backbone_path=backbone,
            codec_path=codec,
            resume=resume,
        )
        is_main = dist_context.is_main_process
        reporter = ConsoleReporter(quiet=quiet or not is_main, verbose=verbose)
        if dry_run:
            for stage_settings in settings.values():
                cost = estimate_cost(job, stage_settings, dist_context, reporter=reporter)
                _print_estimate(cost, reporter)
            return
        with _TrainingDisplay(reporter) as display:
            weights = run_training(
                job, dist_context, reporter=reporter, on_log=display.show_metrics
            )
    if is_main:
        reporter.print_result(str(weights))


@app.command("export")
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE",
            help="Run folder, released checkpoint, or model file.",
            rich_help_panel="Input",
        ),
    ],
    out: Annotated[Path, option("Output", "Output file.", "--out", "-o", metavar="FILE")],
    export_format: Annotated[
        Literal["loris", "official"],
        option(
            "Output",
            "Output format: safetensors with configuration, or the .pt format of the released"
            " code.",
            "--format",
        ),
    ] = "loris",
    weights: Annotated[
        Literal["best", "last"],
        option(
            "Model", "Weights to export: those with the lowest validation loss, or the last."
        ),
    ] = "best",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Export a trained or released model to one file for `loris soundtrack --model`.

    Prints the path of the file. The .pt format can also be loaded by the released code.

    Examples:
        loris train export run -o mine.safetensors

        loris train export loris_dance25_epoch100.pt -o dance.safetensors
    """
    from loris_cli.training.export import export_model

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    export_model(
        source,
        out,
        export_format=export_format,
        weights_choice=weights,
        overwrite=overwrite,
        warn=reporter.warn,
    )
    reporter.print_result(str(out))


def _print_estimate(cost: Any, reporter: ConsoleReporter) -> None:
    hours = cost.n_steps * cost.step_s / 3600
    reporter.print_result(
        f"{cost.stage}: {cost.n_parameters / 1e6:.1f} M parameters, {cost.n_clips} clips,"
        f" {cost.n_steps} steps of {cost.step_s:.2f} s and {cost.step_flops / 1e9:.1f} GFLOP,"
        f" {hours:.1f} h, peak memory {cost.peak_memory_mib:.0f} MiB, measured over two steps"
    )


class _TrainingDisplay(ExitStack):
    """Progress of a training run: one bar per stage on a terminal, lines otherwise."""

    def __init__(self, reporter: ConsoleReporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._bars: dict[str, Callable[..., None]] = {}
        self._last_step = 0

    def show_metrics(self, stage: str, metrics: dict[str, Any]) -> None:
        """Show a record of the metrics file."""
        if stage not in self._bars:
            bar = self._reporter.stage(stage, metrics["n_steps"])
            self._bars[stage] = self.enter_context(bar)
            self._last_step = 0
        n_new, self._last_step = metrics["step"] - self._last_step, metrics["step"]
        label = f"{stage}: step {metrics['step']}"
        if "nonfinite_examples" in metrics:
            self._bars[stage](n_new)
            self._reporter.warn(
                f"{label} skipped: loss is not finite ({metrics['nonfinite_examples']})"
            )
        elif "val_loss" in metrics:
            self._bars[stage](n_new)
            names = ("onset_recall", "onset_precision")
            scores = "".join(f", {n} {metrics[n]:.3f}" for n in names if n in metrics)
            self._reporter.info(f"{label}, validation loss {metrics['val_loss']:.4f}{scores}")
        elif metrics["loss"] is not None:
            loss = f"loss {metrics['loss']:.4f}"
            self._bars[stage](n_new, status=loss)
            self._reporter.debug(
                f"{label}, {loss} after {metrics['elapsed_s']:.0f} s,"
                f" {metrics['data_wait_fraction']:.1%} of it waiting for data"
            )
