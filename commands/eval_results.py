"""What ``loris eval`` writes and prints: results, pictures, splits, opinions of listeners."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loris_cli.errors import UsageError

from .console import ConsoleReporter, print_error

if TYPE_CHECKING:
    from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult


def write_or_print(
    text: str, path: Path | None, reporter: ConsoleReporter, *, overwrite: bool
) -> None:
    """Write a result to its place, or to stdout."""
    from loris_cli.system.atomic_files import atomic_write

    if path is None:
        reporter.print_result(text)
        return
    with atomic_write(path, overwrite=overwrite) as part:
        part.write_text(text + "\n", encoding="utf-8")
    reporter.print_result(str(path))


def print_mos_results(
    answer_files: list[Path] | None, key_file: Path | None, reporter: ConsoleReporter
) -> None:
    """Print the means of a listening test."""
    if not answer_files or key_file is None:
        raise UsageError("--mos-results and --mos-key go together", hint="name both")
    from loris_cli.evaluation.report.listening_test import score_answers

    reporter.print_result(f"{'row':24} {'beside':24} {'':6} {'n':>5} {'mean':>6}  95 %")
    for found in score_answers(answer_files, key_file):
        interval = "-" if found.ci_low is None else f"{found.ci_low:.2f}..{found.ci_high:.2f}"
        reporter.print_result(
            f"{found.system_id:24} {found.other_system_id:24} {found.medium:6} {found.n_answers:5} {found.mean:6.2f}"
            f"  {interval}"
        )


def write_figures(
    result: "EvaluationResult",
    report: dict[str, Any],
    html_path: Path | None,
    plot_path: Path | None,
    clip_id: str | None,
    reporter: ConsoleReporter,
    *,
    overwrite: bool,
) -> None:
    """Write the pictures and the page that were asked for."""
    if html_path is None and plot_path is None:
        return
    from loris_cli.evaluation.report.figures import plot_clip, plot_clip_scores
    from loris_cli.evaluation.report.html import render_html
    from loris_cli.system.atomic_files import atomic_write

    first = result.systems[0]
    name = clip_id or first.clip_ids[0]
    picture = plot_clip(result, first.id, name)
    if plot_path is not None:
        with atomic_write(plot_path, overwrite=overwrite) as part:
            part.write_bytes(picture)
        reporter.print_result(str(plot_path))
    if html_path is not None:
        pictures = {
            "Values of clips; a line is their mean": plot_clip_scores(result.systems),
            f"{name}: onsets above, visual rhythm below": picture,
        }
        write_or_print(render_html(report, pictures), html_path, reporter, overwrite=overwrite)


def generate_shard(plan: "EvaluationPlan", shard: str, reporter: ConsoleReporter) -> None:
    """Make the sounds of a share of the clips, and score nothing."""
    from loris_cli.system.shards import parse_shard

    cases = parse_shard(shard).select(plan.clips)
    for maker in plan.system_runners:
        sounds, cost = maker.generate_takes(cases, plan.seeds, reporter=reporter)
        reporter.print_result(
            f"{maker.name}: {len(sounds)} takes of {len(cases)} clips are made"
        )
        reporter.debug(
            f"{cost.network_evaluations} network evaluations, {cost.generation_s:.0f} s"
        )


def exit_on_failure(
    result: "EvaluationResult", min_f1: float | None, reporter: ConsoleReporter
) -> None:
    """Exit with 1 if clips were skipped, or a model is below what was asked for."""
    bad = bool(result.skipped)
    for row in result.systems:
        f1 = None if row.official is None else row.official.f1
        if min_f1 is None or row.category != "model":
            continue
        if f1 is None or f1 < min_f1:
            shown = "no F1" if f1 is None else f"F1 {f1:.4f}"
            print_error(f"{row.id} has {shown}, less than {min_f1:g}")
            bad = True
    if result.skipped:
        reporter.info(f"{len(result.skipped)} clips or takes were skipped")
    if bad:
        raise typer.Exit(1)


def print_subsets(data_dir: Path, reporter: ConsoleReporter) -> None:
    """Print the splits, and how to get those that are not there."""
    from loris_cli.evaluation.runner.clips import format_setup_commands, list_subsets

    reporter.print_result(f"data set: {data_dir}")
    reporter.print_result(
        f"{'split':12} {'train':>6} {'val':>6} {'test':>6} {'published':>9}  on disk"
    )
    lacking = []
    for found in list_subsets(data_dir):
        published = (
            "-" if found.n_published_test_clips is None else str(found.n_published_test_clips)
        )
        state = (
            "none"
            if not any(found.partition_counts)
            else f"{found.n_missing_test_clips} test clips lack files"
            if found.n_missing_test_clips
            else "all"
        )
        counts = " ".join(f"{n:6}" for n in found.partition_counts)
        reporter.print_result(f"{found.name:12} {counts} {published:>9}  {state}")
        if state != "all":
            lacking.append(found.name)
    hints = dict.fromkeys(format_setup_commands(name, data_dir) for name in lacking)
    for line in "\n".join(hints).splitlines():
        reporter.info(line)
