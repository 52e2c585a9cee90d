"""``loris eval``: the benchmark."""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from loris_cli.errors import InputError, UsageError
from loris_cli.system.atomic_files import printable_path

from .console import ConsoleReporter
from .eval_choices import Ablation, Bound, Method
from .eval_results import (
    exit_on_failure,
    generate_shard,
    print_mos_results,
    print_subsets,
    write_figures,
    write_or_print,
)
from .options import Device, Overwrite, Quiet, Seed, Verbose


def parse_shard(text: str | None) -> str | None:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text or "1/1")
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"{text!r} is not I/N with I from 1 to N, such as 2/8")
    return text


def evaluate(
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Subset to score on, such as fe50; --list shows all."
        ),
    ] = None,
    part: Annotated[
        Literal["test", "val", "train"], typer.Option(help="Which of its clips.")
    ] = "test",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Data set. By default LORIS_DATA, else the platform's folder."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE|none",
            help="Weights to score: mini, a .safetensors file, a released LORIS checkpoint, or"
            " none. May be given more than once.",
        ),
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(
            help="Another maker of music to score, by rules: a drum on each peak, a steady"
            " groove, the best fitting sound of the train part, or that one stretched. More"
            " than once for more."
        ),
    ] = None,
    generated: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Score this sound, or those of this folder; with --reference."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="True sound or video of --generated, or a folder of the same names.",
        ),
    ] = None,
    row: Annotated[
        list[Bound] | None,
        typer.Option(help="Null or ceiling to show; more than once. By default all."),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="ROW", help="Row that the others are compared with.")
    ] = "mismatched",
    protocol: Annotated[
        Literal["official", "paper", "d2m"],
        typer.Option(
            help="Of the first block: LORIS's released script, the parameters of its paper,"
            " or the older script of D2M-GAN and CDCD."
        ),
    ] = "official",
    avg: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Frames of the mean in peak picking, else the protocol's; 2 is the paper's.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Show the second block too.")
    ] = True,
    quality: Annotated[
        bool, typer.Option("--quality", help="Show a third block: spectra, loudness, tags.")
    ] = False,
    beats: Annotated[
        Literal["librosa", "madmom", "beatnet"],
        typer.Option(
            help="Who hears beats; madmom's models are CC BY-NC-SA 4.0, non-commercial;"
            " BeatNet's are CC BY 4.0."
        ),
    ] = "librosa",
    clips: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many clips.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Takes of each clip, seeds one apart.")
    ] = 3,
    seed: Seed = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, help="Sampling steps. By default 16, of the paper's model 50."
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            help="How strictly the rhythm is followed. By default 1.3; the paper's 20.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=V,V,...",
            help="A row for each of some steps or guidances, in the paper's tables 7 and 8.",
        ),
    ] = None,
    ablation: Annotated[
        list[Ablation] | None,
        typer.Option(
            help="A line of the paper's table 5 (v, r, m) or 6, with the full model's below;"
            " more than once for more."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE|DIR",
            help="Weights, or a run of `loris train --preset paper`, of such a line or of"
            " full; or a folder of runs, which are known by their configuration.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            callback=parse_shard,
            help="Only make the sounds of this share of the clips; score when all are made.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make sounds anew that the cache has.")
    ] = False,
    table: Annotated[
        Literal["table", "json", "csv", "md", "tex"],
        typer.Option("--format", help="Numbers from 0 to 1 in json and csv, else percent."),
    ] = "table",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the tables to this file."),
    ] = None,
    per_clip: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="Write the values of every clip.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Write a report that is one page.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw a clip of the first row beside its truth."),
    ] = None,
    plot_clip: Annotated[
        str | None, typer.Option(metavar="ID", help="Which clip; the first by default.")
    ] = None,
    mos_kit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make a blind listening test of all but the nulls."),
    ] = None,
    mos_clips: Annotated[
        int, typer.Option(min=1, max=100, help="How many clips the test has.")
    ] = 5,
    mos_results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CSV", help="Show what a listener answered; more than once for more."
        ),
    ] = None,
    mos_key: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="The kit's key.json, with --mos-results."),
    ] = None,
    min_f1: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Exit with 1 if a model's F1, 0..1, is below."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Show the splits, what is on disk, what is missing.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that listen; one a core by default.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score soundtracks by the paper's protocol, and by a strict one.

    Beside a model stand sounds that know nothing of the video, such as a click a second,
    and the truth itself: what is not above the former keeps no time.

    Examples:
        loris eval --list

        loris eval --split synthetic --clips 20

        loris eval --split fe50 --model mini --method retrieval --format json -o fe50.json

        loris eval --generated made/ --reference true/ --per-clip clips.jsonl

        loris eval --generated take.wav --reference skate.mp4

        loris eval --split fe25 --ablation hawkes --variant runs/
    """
    from loris_cli.config import data_home

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    home = data_home(data)
    if show:
        print_subsets(home, reporter)
        return
    if mos_results or mos_key:
        print_mos_results(mos_results, mos_key, reporter)
        return
    _check_options(
        split, generated, reference, [model, method, shard, sweep, ablation, variant]
    )
    if sweep and (ablation or variant):
        raise UsageError("--sweep varies one model, --ablation many", hint="leave one out")
    if mos_kit is not None and mos_kit.exists():
        raise UsageError(f"{printable_path(mos_kit)} exists already", hint="name a new folder")
    from loris_cli.evaluation.metrics.loris_scores import PROTOCOLS, with_onset_window
    from loris_cli.evaluation.report.json_report import build_clip_records, build_report
    from loris_cli.evaluation.report.tables import REPORT_FORMATTERS
    from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
    from loris_cli.evaluation.runner.plan import (
        check_compare_to,
        eval_cache_dir,
        plan_file_evaluation,
        plan_subset_evaluation,
    )
    from loris_cli.evaluation.runner.run import EvaluationPlan, run_evaluation
    from loris_cli.evaluation.runner.sweeps import parse_sweeps
    from loris_cli.system.atomic_files import check_output_paths

    outs = [path for path in (out, per_clip, html, plot) if path is not None]
    inputs = [path for path in (generated, reference) if path is not None]
    check_output_paths(outs, inputs, overwrite=overwrite)
    chosen = PROTOCOLS[protocol] if avg is None else with_onset_window(PROTOCOLS[protocol], avg)
    rows = [name.value for name in row or Bound if name is not Bound.NONE]
    wanted = [name.value for name in ablation or (Ablation if variant else ())]
    # Checked before anything is looked at.
    settings = parse_sweeps(sweep or [], steps=steps, guidance=guidance)
    plan = EvaluationPlan(
        title="",
        clips=[],
        bounds=rows,
        seeds=tuple(range(seed, seed + seeds)),
        analysis_config=AnalysisConfig(
            protocol=chosen, strict_metrics=strict, beat_tracker=beats
        ),
        compare_to=against,
        max_workers=jobs or os.cpu_count() or 1,
        analysis_cache=eval_cache_dir("analysis"),
    )
    if generated is not None and reference is not None:
        plan = plan_file_evaluation(generated, reference, plan=plan, reporter=reporter)
    elif split is not None:
        plan = plan_subset_evaluation(home, split, partition=part, max_clips=clips, plan=plan)
        # Brings torch: not before it is known that there is something to score.
        from loris_cli.evaluation.runner.system_selection import SystemSelection, add_systems

        asked = SystemSelection(
            models=model or ([] if wanted else ["mini"]),
            methods=[name.value for name in method or ()],
            ablations=wanted,
            variant_specs=variant or [],
            sweep_specs=sweep or [],
            sampling_settings=settings,
            device=device,
            ignore_cache=fresh,
        )
        plan = add_systems(asked, home, split, plan=plan, reporter=reporter)
    check_compare_to(plan)
    if shard is not None:
        generate_shard(plan, shard, reporter)
        return
    result = run_evaluation(plan, reporter=reporter)
    heard = None
    if quality:
        from loris_cli.evaluation.runner.quality import measure_quality

        heard = measure_quality(result, reporter=reporter)
    told = build_report(
        result,
        run_options={"steps": steps, "guidance": guidance, "clips": clips},
        quality_metrics=heard,
    )
    write_or_print(REPORT_FORMATTERS[table](told), out, reporter, overwrite=overwrite)
    if per_clip is not None:
        lines = [json.dumps(clip, allow_nan=False) for clip in build_clip_records(result)]
        write_or_print("\n".join(lines), per_clip, reporter, overwrite=overwrite)
    if mos_kit is not None:
        from loris_cli.evaluation.report.listening_test import make_listening_kit

        n_sounds = make_listening_kit(
            result, mos_kit, n_clips=mos_clips, seed=seed, reporter=reporter
        )
        reporter.print_result(f"{mos_kit}: {n_sounds} sounds; keep key.json from the listeners")
    write_figures(result, told, html, plot, plot_clip, reporter, overwrite=overwrite)
    exit_on_failure(result, min_f1, reporter)


def _check_options(
    split: str | None,
    generated: Path | None,
    reference: Path | None,
    model_options: list[object],
) -> None:
    """Refuse what makes no sense together."""
    if (generated is None) != (reference is None):
        raise UsageError("--generated and --reference go together", hint="name both")
    if (split is None) == (generated is None):
        raise UsageError(
            "name what to score: --split, or --generated and --reference",
            hint="loris eval --list shows the splits",
        )
    if generated is not None and any(model_options):
        raise UsageError(
            "--model, --method, --sweep, --ablation, --variant and --shard go with --split",
            hint="leave them out, or name a split",
        )
    for path in (generated, reference):
        if path is not None and not path.exists():
            raise InputError(f"no file or folder {printable_path(path)}", hint="check the name")
