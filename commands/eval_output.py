"""Input checks of ``loris eval``, and its tables, figures, listening test and lists."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loris_cli.errors import InputError, UsageError

from .console import ConsoleReporter, print_error

if TYPE_CHECKING:
    from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult
    from loris_cli.system.shards import Shard


def check_inputs(
    split: str | None, generated: Path | None, reference: Path | None, names_systems: bool
) -> None:
    """Check that the inputs are compatible and exist.

    Raises:
        UsageError: the options cannot be combined.
        InputError: a path does not exist.
    """
    if (generated is None) != (reference is None):
        raise UsageError(
            "--generated and --reference must be used together", hint="specify both options"
        )
    if (split is None) == (generated is None):
        raise UsageError(
            "specify either --split, or --generated and --reference",
            hint="run `loris eval list` for the subsets",
        )
    if generated is not None and names_systems:
        raise UsageError(
            "--model, --method, --sweep, --ablation, --ablation-weights and --shard require"
            " --split",
            hint="remove them, or specify a subset with --split",
        )
    for path in (generated, reference):
        if path is not None and not path.exists():
            raise InputError(f"{path} does not exist", hint="check the path")


@dataclass(frozen=True, kw_only=True)
class EvalOutputs:
    """Output files of an evaluation; None is not written, except that tables go to stdout."""

    out: Path | None
    output_format: str
    layout: str
    """``paper`` for the layout of tables 2 to 4 of the paper."""
    per_clip: Path | None
    html: Path | None
    plot: Path | None
    plot_clip: str | None
    """Id of the clip to plot; None is the first."""
    mos_kit: Path | None
    mos_clips: int
    overwrite: bool

    def check(self, inputs: list[Path]) -> None:
        """Check that the outputs can be written.

        Raises:
            UsageError: an output exists or is an input.
            OutputError: a folder cannot be written to.
        """
        from loris_cli.system.atomic_files import check_output_paths

        paths = [self.out, self.per_clip, self.html, self.plot]
        outputs = [path for path in paths if path is not None]
        check_output_paths(outputs, inputs, overwrite=self.overwrite)
        if self.mos_kit is not None and self.mos_kit.exists():
            raise UsageError(f"{self.mos_kit} already exists", hint="specify a new folder")

    def write(self, text: str, path: Path | None, reporter: ConsoleReporter) -> None:
        """Write text to a file and print its path; print the text if ``path`` is None."""
        if path is None:
            reporter.print_result(text)
        else:
            self.write_bytes(f"{text}\n".encode(), path, reporter)

    def write_bytes(self, content: bytes, path: Path, reporter: ConsoleReporter) -> None:
        """Write a file and print its path."""
        from loris_cli.system.atomic_files import atomic_write

        with atomic_write(path, overwrite=self.overwrite) as part:
            part.write_bytes(content)
        reporter.print_result(str(path))


def write_outputs(
    result: "EvaluationResult",
    outputs: EvalOutputs,
    run_options: dict[str, Any],
    reporter: ConsoleReporter,
    *,
    seed: int,
    quality: bool,
) -> None:
    """Write tables, clip scores, listening test, plot and HTML report.

    Args:
        result: result of the evaluation.
        outputs: files to write.
        run_options: options recorded in the report.
        reporter: prints the paths of the files.
        seed: random seed of the order in the listening test.
        quality: whether to measure the audio quality.
    """
    from loris_cli.evaluation.report.json_report import build_clip_records, build_report
    from loris_cli.evaluation.report.tables import REPORT_FORMATTERS

    quality_metrics = None
    if quality:
        from loris_cli.evaluation.runner.quality import measure_quality

        quality_metrics = measure_quality(result, reporter=reporter)
    report = build_report(result, run_options=run_options, quality_metrics=quality_metrics)
    if outputs.layout == "paper":
        from loris_cli.evaluation.report.paper_layout import format_paper_layout

        text = format_paper_layout([report], outputs.output_format)
    else:
        text = REPORT_FORMATTERS[outputs.output_format](report)
    outputs.write(text, outputs.out, reporter)
    if outputs.per_clip is not None:
        rows = [json.dumps(clip, allow_nan=False) for clip in build_clip_records(result)]
        outputs.write("\n".join(rows), outputs.per_clip, reporter)
    if outputs.mos_kit is not None:
        from loris_cli.evaluation.report.listening_test import write_listening_kit

        n_takes = write_listening_kit(
            result, outputs.mos_kit, n_clips=outputs.mos_clips, seed=seed, reporter=reporter
        )
        reporter.print_result(
            f"{outputs.mos_kit}: {n_takes} takes; do not give key.json to the listeners"
        )
    if outputs.plot is not None or outputs.html is not None:
        _write_figures(result, report, outputs, reporter)


def _write_figures(
    result: "EvaluationResult",
    report: dict[str, Any],
    outputs: EvalOutputs,
    reporter: ConsoleReporter,
) -> None:
    from loris_cli.evaluation.report.figures import plot_clip, plot_clip_scores
    from loris_cli.evaluation.report.html import render_html

    first = result.systems[0]
    name = outputs.plot_clip or first.clip_ids[0]
    figure = plot_clip(result, first.id, name)
    if outputs.plot is not None:
        outputs.write_bytes(figure, outputs.plot, reporter)
    if outputs.html is not None:
        figures = {
            "Scores of each clip; the lines are means": plot_clip_scores(result.systems),
            f"{name}: onsets (top) and visual rhythm (bottom)": figure,
        }
        outputs.write(render_html(report, figures), outputs.html, reporter)


def generate_shard(plan: "EvaluationPlan", shard: "Shard", reporter: ConsoleReporter) -> None:
    """Generate the audio of a shard of the clips without scoring it."""
    clips = shard.select(plan.clips)
    for runner in plan.system_runners:
        sources, cost = runner.generate_takes(clips, plan.seeds, reporter=reporter)
        reporter.print_result(f"{runner.name}: {len(sources)} takes of {len(clips)} clips")
        reporter.debug(
            f"{cost.network_evaluations} network evaluations, {cost.generation_s:.0f} s"
        )


def check_result(
    result: "EvaluationResult", min_f1: float | None, reporter: ConsoleReporter
) -> None:
    """Exit with code 1 if clips were skipped or the F1 of a model is below the minimum."""
    failed = bool(result.skipped)
    for system in result.systems:
        if min_f1 is None or system.category != "model":
            continue
        f1 = None if system.official is None else system.official.f1
        if f1 is None or f1 < min_f1:
            score = "no F1" if f1 is None else f"F1 {f1:.4f}"
            print_error(f"{system.id} has {score}, below the minimum of {min_f1:g}")
            failed = True
    if result.skipped:
        reporter.info(f"{len(result.skipped)} clips or takes were skipped")
    if failed:
        raise typer.Exit(1)


def print_mos_results(answers: list[Path], key: Path, reporter: ConsoleReporter) -> None:
    """Print the mean opinion scores of a listening test."""
    from tabulate import tabulate

    from loris_cli.evaluation.report.listening_test import score_answers

    rows = [
        (
            score.system_id,
            score.other_system_id,
            score.medium,
            score.n_answers,
            f"{score.mean:.2f}",
            "-" if score.ci_low is None else f"{score.ci_low:.2f}..{score.ci_high:.2f}",
        )
        for score in score_answers(answers, key)
    ]
    heads = ("system", "compared to", "medium", "n", "mean", "95 %")
    reporter.print_result(tabulate(rows, heads, "plain", disable_numparse=True))


def check_layout(split: str | None, output_format: str) -> None:
    """Check that the tables of the paper have this subset and format.

    Raises:
        UsageError: they do not.
    """
    from loris_cli.evaluation.report.paper_layout import check_layout_format
    from loris_cli.evaluation.runner.paper_tables import PAPER_SUBSETS

    check_layout_format(output_format)
    if split not in PAPER_SUBSETS:
        raise UsageError(
            "--tables paper requires a subset of the paper",
            hint=f"pass --split {', '.join(PAPER_SUBSETS)}",
        )


def print_paper_layout(
    paths: list[Path],
    out: Path | None,
    output_format: str,
    reporter: ConsoleReporter,
    *,
    overwrite: bool,
) -> None:
    """Write reports in the layout of the paper to a file, or print them."""
    from loris_cli.evaluation.report.paper_layout import format_paper_layout, read_report
    from loris_cli.system.atomic_files import atomic_write, check_output_paths

    if out is not None:
        check_output_paths([out], paths, overwrite=overwrite)
    text = format_paper_layout([read_report(path) for path in paths], output_format)
    if out is None:
        reporter.print_result(text)
        return
    with atomic_write(out, overwrite=overwrite) as part:
        part.write_text(f"{text}\n", encoding="utf-8")
    reporter.print_result(str(out))


def print_subsets(data_dir: Path, reporter: ConsoleReporter) -> None:
    """Print the subsets, and the commands that complete the incomplete ones."""
    from tabulate import tabulate

    from loris_cli.evaluation.runner.clips import format_setup_command, list_subsets

    rows, incomplete = [], []
    for subset in list_subsets(data_dir):
        state = "all"
        if not any(subset.partition_counts):
            state = "none"
        elif subset.n_missing_test_clips:
            state = f"{subset.n_missing_test_clips} test clips with missing files"
        published = subset.n_published_test_clips
        published_text = "-" if published is None else published
        rows.append((subset.name, *subset.partition_counts, published_text, state))
        if state != "all":
            incomplete.append(subset.name)
    heads = ("subset", "train", "val", "test", "published", "on disk")
    reporter.print_result(f"data set: {data_dir}")
    reporter.print_result(tabulate(rows, heads, "plain", numalign="right"))
    commands = dict.fromkeys(format_setup_command(name, data_dir) for name in incomplete)
    for command in commands:
        reporter.info(f"to create synthetic clips: {command}")
