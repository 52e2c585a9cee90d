"""What ``loris eval`` writes and prints: results, pictures, splits, opinions of listeners."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loris_cli.errors import UsageError

from .console import Reporter, print_error

if TYPE_CHECKING:
    from loris_cli.evaluation.runner.run import Plan, Result


def write(text: str, place: Path | None, reporter: Reporter, *, overwrite: bool) -> None:
    """Write a result to its place, or to stdout."""
    from loris_cli.system.atomic_files import replacing

    if place is None:
        reporter.result(text)
        return
    with replacing(place, overwrite=overwrite) as part:
        part.write_text(text + "\n", encoding="utf-8")
    reporter.result(str(place))


def tell_opinions(answers: list[Path] | None, key: Path | None, reporter: Reporter) -> None:
    """Print the means of a listening test."""
    if not answers or key is None:
        raise UsageError("--mos-results and --mos-key go together", hint="name both")
    from loris_cli.evaluation.report.listening_test import read_results

    reporter.result(f"{'row':24} {'beside':24} {'':6} {'n':>5} {'mean':>6}  95 %")
    for found in read_results(answers, key):
        interval = "-" if found.low is None else f"{found.low:.2f}..{found.high:.2f}"
        reporter.result(
            f"{found.row:24} {found.other:24} {found.medium:6} {found.n:5} {found.mean:6.2f}"
            f"  {interval}"
        )


def draw(
    result: "Result",
    told: dict[str, Any],
    html: Path | None,
    plot: Path | None,
    clip: str | None,
    reporter: Reporter,
    *,
    overwrite: bool,
) -> None:
    """Write the pictures and the page that were asked for."""
    if html is None and plot is None:
        return
    from loris_cli.evaluation.report.figures import clip_figure, spread_figure
    from loris_cli.evaluation.report.html import as_page
    from loris_cli.system.atomic_files import replacing

    first = result.rows[0]
    name = clip or first.clips[0]
    picture = clip_figure(result, first.id, name)
    if plot is not None:
        with replacing(plot, overwrite=overwrite) as part:
            part.write_bytes(picture)
        reporter.result(str(plot))
    if html is not None:
        pictures = {
            "Values of clips; a line is their mean": spread_figure(result.rows),
            f"{name}: onsets above, visual rhythm below": picture,
        }
        write(as_page(told, pictures), html, reporter, overwrite=overwrite)


def make_share(plan: "Plan", shard: str, reporter: Reporter) -> None:
    """Make the sounds of a share of the clips, and score nothing."""
    from loris_cli.evaluation.runner.generation_cache import share

    number, of = (int(word) for word in shard.split("/"))
    cases = share(plan.cases, (number - 1, of))
    for maker in plan.makers:
        sounds, cost = maker.make(cases, plan.seeds, reporter=reporter)
        reporter.result(f"{maker.name}: {len(sounds)} takes of {len(cases)} clips are made")
        reporter.detail(f"{cost.evaluations} network evaluations, {cost.seconds:.0f} s")


def finish(result: "Result", min_f1: float | None, reporter: Reporter) -> None:
    """Exit with 1 if clips were skipped, or a model is below what was asked for."""
    bad = bool(result.skipped)
    for row in result.rows:
        f1 = None if row.official is None else row.official.f1
        if min_f1 is None or row.kind != "model":
            continue
        if f1 is None or f1 < min_f1:
            shown = "no F1" if f1 is None else f"F1 {f1:.4f}"
            print_error(f"{row.id} has {shown}, less than {min_f1:g}")
            bad = True
    if result.skipped:
        reporter.note(f"{len(result.skipped)} clips or takes were skipped")
    if bad:
        raise typer.Exit(1)


def tell_splits(data: Path, reporter: Reporter) -> None:
    """Print the splits, and how to get those that are not there."""
    from loris_cli.evaluation.runner.subsets import how_to_get, splits_of

    reporter.result(f"data set: {data}")
    reporter.result(
        f"{'split':12} {'train':>6} {'val':>6} {'test':>6} {'published':>9}  on disk"
    )
    lacking = []
    for found in splits_of(data):
        published = "-" if found.n_published is None else str(found.n_published)
        state = (
            "none"
            if not any(found.counts)
            else f"{found.n_missing} test clips lack files"
            if found.n_missing
            else "all"
        )
        counts = " ".join(f"{n:6}" for n in found.counts)
        reporter.result(f"{found.name:12} {counts} {published:>9}  {state}")
        if state != "all":
            lacking.append(found.name)
    hints = dict.fromkeys(how_to_get(name, data) for name in lacking)
    for line in "\n".join(hints).splitlines():
        reporter.note(line)
