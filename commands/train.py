"""``loris train``: networks of one's own, on one machine or many."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .console import ConsoleReporter
from .options import Device, Quiet, Seed, Verbose

EXPORT_EXAMPLE = "loris train --export run -o mine.safetensors"


class StageChoice(StrEnum):
    """What there is to learn: typer wants an enumeration where an option is a list."""

    LATENT = "latent"
    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"


def train(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data set of `loris prep`, or of `python -m"
            " loris_cli.dataset.synthetic_music DIR`. By default LORIS_DATA, else the"
            " platform's data folder.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR|FILE",
            help="Folder of the run, by default run; with --export the file to write.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Subset of the data set.")] = "synthetic",
    preset: Annotated[
        Literal["mini", "paper"],
        typer.Option(help="Which networks: ours on a latent, or the paper's on the waveform."),
    ] = "mini",
    stage: Annotated[
        list[StageChoice] | None,
        typer.Option(
            help="What to learn: the latent code, a backbone on music alone, or the model"
            " itself. May be given more than once; by default latent, then conditional, and of"
            " the paper's networks conditional."
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            metavar="FILE|none",
            help="Weights of an unconditional stage, or a released backbone, to begin with.",
        ),
    ] = "none",
    recipe: Annotated[
        Literal["default", "paper", "official"],
        typer.Option(help="Learning rates: default, of the paper, or of its released code."),
    ] = "default",
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Settings; see docs/training.md.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; wins over --config."),
    ] = None,
    resume: Annotated[
        Literal["auto", "never"],
        typer.Option(help="Go on where the run in --out stopped, or refuse to."),
    ] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN|CHECKPOINT",
            help="Train nothing: write the model of a run, or a released checkpoint, into the"
            " one file -o, as `loris soundtrack --model` takes it.",
        ),
    ] = None,
    form: Annotated[
        Literal["loris", "official"],
        typer.Option(
            help="With --export: safetensors with the configuration inside, or the paper's"
            " model as the authors' code has it (.pt)."
        ),
    ] = "loris",
    weights: Annotated[
        Literal["best", "last"],
        typer.Option(help="With --export: of a run, the best on held-out clips, or the last."),
    ] = "best",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --export: replace the file if it exists.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print parameters, memory, steps and time; do nothing."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a model; stopped by SIGTERM or SIGUSR1 it saves, and the same command goes on.

    For several processes start it with torchrun, or with srun on a SLURM cluster.

    Examples:
        loris train --data DATA --out run

        loris train --data DATA --out run --set batch_size=24 --set bf16=true --device cuda

        torchrun --nproc-per-node 8 -m loris_cli train --data DATA --out run

        loris train --export run -o mine.safetensors
    """
    from loris_cli.config import data_home
    from loris_cli.errors import InputError, UsageError

    if export is not None:
        trains = {
            "--data": data, "--stage": stage, "--config": config, "--set": given,
            "--backbone": backbone != "none", "--dry-run": dry_run,
        }  # fmt: skip
        odd = [name for name, value in trains.items() if value]
        if odd:
            raise UsageError(
                f"--export trains nothing: {odd[0]} makes no sense", hint=EXPORT_EXAMPLE
            )
        if out is None:
            raise UsageError("--export needs -o", hint=EXPORT_EXAMPLE)
        from loris_cli.training.export import export_model as write_model

        reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
        write_model(
            export,
            out,
            export_format=form,
            weights_choice=weights,
            overwrite=overwrite,
            warn=reporter.warn,
        )
        reporter.print_result(str(out))
        return
    if overwrite or form != "loris" or weights != "best":
        raise UsageError(
            "--form, --weights and --overwrite go with --export", hint=EXPORT_EXAMPLE
        )
    from loris_cli.training.distributed import init_distributed
    from loris_cli.training.pipeline import TrainingJob, estimate_cost, run_training
    from loris_cli.training.settings import StageName, resolve_settings

    names: list[StageName] = [name.value for name in stage or ()]
    if not names:
        names = ["conditional"] if preset == "paper" else ["latent", "conditional"]
    settings = {
        name: resolve_settings(
            preset=preset,
            stage=name,
            recipe=recipe,
            subset=split,
            config_path=config,
            overrides=[f"seed={seed}", *(given or [])],
        )
        for name in names
    }
    begin_with = None if backbone == "none" else Path(backbone)
    if begin_with is not None and not begin_with.is_file():
        raise InputError(
            f"no backbone {backbone}", hint="train one with --stage unconditional, or none"
        )
    plan = TrainingJob(
        data_dir=data_home(data),
        run_dir=out or Path("run"),
        stage_settings=settings,
        backbone_path=begin_with,
        resume=resume == "auto",
    )
    with init_distributed(device) as processes:
        reporter = ConsoleReporter(
            quiet=quiet or not processes.is_main_process, verbose=verbose
        )
        if dry_run:
            for name in settings:
                _print_estimate(
                    estimate_cost(plan, settings[name], processes, reporter=reporter), reporter
                )
            return
        with _TrainingDisplay(reporter) as screen:
            made = run_training(plan, processes, reporter=reporter, on_log=screen.show_metrics)
    if processes.is_main_process:
        reporter.print_result(str(made))


def _print_estimate(cost: Any, reporter: ConsoleReporter) -> None:
    hours = cost.n_steps * cost.step_s / 3600
    reporter.print_result(
        f"{cost.stage}: {cost.n_parameters / 1e6:.1f} M parameters, {cost.n_clips} clips,"
        f" {cost.n_steps} steps of {cost.step_s:.2f} s, {hours:.1f} h, peak memory"
        f" {cost.peak_memory_mib:.0f} MiB, as measured on two steps"
    )


class _TrainingDisplay(ExitStack):
    """Shows a run: a bar for each stage on a terminal, lines elsewhere."""

    def __init__(self, reporter: ConsoleReporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._bars: dict[str, Callable[..., None]] = {}
        self._last_step = 0

    def show_metrics(self, stage: str, metrics: dict[str, Any]) -> None:
        """Show a row of the log."""
        if stage not in self._bars:
            bar = self._reporter.stage(stage, metrics["n_steps"])
            self._bars[stage] = self.enter_context(bar)
            self._last_step = 0
        since, self._last_step = metrics["step"] - self._last_step, metrics["step"]
        at = f"{stage}: step {metrics['step']}"
        if "nonfinite_examples" in metrics:
            self._bars[stage](since)
            self._reporter.warn(
                f"{at} left out, its loss is no number ({metrics['nonfinite_examples']})"
            )
        elif "val_loss" in metrics:
            self._bars[stage](since)
            scores = {
                key: metrics[key]
                for key in ("onset_recall", "onset_precision")
                if key in metrics
            }
            more = "".join(f", {key} {value:.3f}" for key, value in scores.items())
            self._reporter.info(f"{at}, validation loss {metrics['val_loss']:.4f}{more}")
        elif metrics["loss"] is not None:
            self._bars[stage](since, status=f"loss {metrics['loss']:.4f}")
            self._reporter.debug(
                f"{at}, loss {metrics['loss']:.4f} after {metrics['elapsed_s']:.0f} s,"
                f" {metrics['data_wait_fraction']:.1%} of it waiting for data"
            )
