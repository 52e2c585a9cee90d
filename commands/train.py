"""``loris train``: networks of one's own, on one machine or many."""

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .console import Reporter
from .options import Device, Quiet, Seed, Verbose

EXPORT = "loris train --export run -o mine.safetensors"


class Stages(StrEnum):
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
        list[Stages] | None,
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
        Literal["ours", "paper", "official"],
        typer.Option(help="Whose rates: ours, the paper's text's, or its released code's."),
    ] = "ours",
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

        loris train --data DATA --out run --set batch=24 --set bf16=true --device cuda

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
            raise UsageError(f"--export trains nothing: {odd[0]} makes no sense", hint=EXPORT)
        if out is None:
            raise UsageError("--export needs -o", hint=EXPORT)
        from loris_cli.training.export import export as write_model

        reporter = Reporter(quiet=quiet, verbose=verbose)
        write_model(
            export, out, form=form, take=weights, overwrite=overwrite, note=reporter.warn
        )
        reporter.result(str(out))
        return
    if overwrite or form != "loris" or weights != "best":
        raise UsageError("--form, --weights and --overwrite go with --export", hint=EXPORT)
    from loris_cli.training.distributed import joined
    from loris_cli.training.pipeline import Plan, estimate, run
    from loris_cli.training.settings import Stage, resolve

    names: list[Stage] = [name.value for name in stage or ()]
    if not names:
        names = ["conditional"] if preset == "paper" else ["latent", "conditional"]
    settings = {
        name: resolve(
            preset=preset,
            stage=name,
            recipe=recipe,
            split=split,
            config=config,
            given=[f"seed={seed}", *(given or [])],
        )
        for name in names
    }
    begin_with = None if backbone == "none" else Path(backbone)
    if begin_with is not None and not begin_with.is_file():
        raise InputError(
            f"no backbone {backbone}", hint="train one with --stage unconditional, or none"
        )
    plan = Plan(
        data=data_home(data),
        out=out or Path("run"),
        stages=settings,
        backbone=begin_with,
        resume=resume == "auto",
    )
    with joined(device) as processes:
        reporter = Reporter(quiet=quiet or not processes.first, verbose=verbose)
        if dry_run:
            for name in settings:
                _print_cost(
                    estimate(plan, settings[name], processes, reporter=reporter), reporter
                )
            return
        with _Screen(reporter) as screen:
            made = run(plan, processes, reporter=reporter, tell=screen.tell)
    if processes.first:
        reporter.result(str(made))


def _print_cost(cost: Any, reporter: Reporter) -> None:
    hours = cost.n_steps * cost.step_s / 3600
    reporter.result(
        f"{cost.stage}: {cost.n_parameters / 1e6:.1f} M parameters, {cost.n_clips} clips,"
        f" {cost.n_steps} steps of {cost.step_s:.2f} s, {hours:.1f} h, peak memory"
        f" {cost.peak_mb:.0f} MB, as measured on two steps"
    )


class _Screen(ExitStack):
    """Shows a run: a bar for each stage on a terminal, lines elsewhere."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._bars: dict[str, Callable[..., None]] = {}
        self._step = 0

    def tell(self, stage: str, row: dict[str, Any]) -> None:
        """Show a row of the log."""
        if stage not in self._bars:
            bar = self._reporter.stage(stage, row["n_steps"])
            self._bars[stage] = self.enter_context(bar)
            self._step = 0
        since, self._step = row["step"] - self._step, row["step"]
        at = f"{stage}: step {row['step']}"
        if "bad" in row:
            self._bars[stage](since)
            self._reporter.warn(f"{at} left out, its loss is no number ({row['bad']})")
        elif "held_out" in row:
            self._bars[stage](since)
            scores = {key: row[key] for key in ("hit", "precision") if key in row}
            more = "".join(f", {key} {value:.3f}" for key, value in scores.items())
            self._reporter.note(f"{at}, held-out loss {row['held_out']:.4f}{more}")
        elif row["loss"] is not None:
            self._bars[stage](since, said=f"loss {row['loss']:.4f}")
            self._reporter.detail(
                f"{at}, loss {row['loss']:.4f} after {row['seconds']:.0f} s,"
                f" {row['waited']:.1%} of it waiting for data"
            )
