"""``loris eval``: evaluate models, baselines and audio files."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from loris_cli.errors import UsageError

from . import options
from .console import ConsoleReporter
from .eval_choices import Ablation, Bound, ConditioningName, Method
from .eval_output import (
    EvalOutputs,
    check_inputs,
    check_layout,
    check_result,
    generate_shard,
    write_outputs,
)
from .eval_subcommands import list_subsets, mos_results, tables
from .options import option

app = typer.Typer()


@app.callback(invoke_without_command=True)
def evaluate(
    context: typer.Context,
    split: Annotated[
        str | None,
        option(
            "Input",
            "Subset to evaluate on, such as fe50. Run `loris eval list` for all subsets.",
            metavar="SUBSET",
        ),
    ] = None,
    partition: Annotated[
        Literal["test", "val", "train", "official"],
        option("Input", "Partition of the subset; official: test clips of the LORIS release."),
    ] = "test",
    data: options.DataDir = None,
    clips: Annotated[
        int | None, option("Input", "Evaluate only the first N clips.", metavar="N", min=1)
    ] = None,
    rhythm_from_reference: Annotated[
        bool,
        option(
            "Input",
            "Evaluate clips without poses with the rhythm of their reference audio, and mark"
            " all tables. Default: skip them.",
            "--rhythm-from-reference",
        ),
    ] = False,
    generated: Annotated[
        Path | None,
        option("Input", "Audio file or folder to score against --reference.", metavar="PATH"),
    ] = None,
    reference: Annotated[
        Path | None,
        option(
            "Input",
            "Reference audio or video, or a folder with the same file names.",
            metavar="PATH",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "Output",
            "Write the tables to this file. Default: standard output.",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None,
    output_format: Annotated[
        Literal["table", "json", "csv", "md", "tex"],
        option(
            "Output",
            "Output format. Scores are fractions in json and csv, percentages elsewhere.",
            "--format",
        ),
    ] = "table",
    layout: Annotated[
        Literal["default", "paper"],
        option(
            "Output",
            "Layout of the tables; paper: tables 2 to 4 of the paper, with its scores beside.",
            "--tables",
        ),
    ] = "default",
    per_clip: Annotated[
        Path | None,
        option(
            "Output",
            "Write the scores as one JSON object per clip and system.",
            metavar="JSONL",
        ),
    ] = None,
    html: Annotated[
        Path | None, option("Output", "Write a report as a single HTML file.", metavar="HTML")
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "Output", "Plot a clip of the first system next to the reference.", metavar="PNG"
        ),
    ] = None,
    plot_clip: Annotated[
        str | None,
        option("Output", "Clip for --plot and --html. Default: the first.", metavar="ID"),
    ] = None,
    mos_kit: Annotated[
        Path | None,
        option("Output", "Create a blind listening test in a new folder.", metavar="DIR"),
    ] = None,
    mos_clips: Annotated[
        int, option("Output", "Number of clips in the listening test.", min=1, max=100)
    ] = 5,
    overwrite: options.Overwrite = False,
    models: Annotated[
        list[str] | None,
        option(
            "Model",
            "Model to evaluate: mini, a .safetensors file, a released LORIS checkpoint, or"
            " none. Repeatable. Default: mini.",
            "--model",
            metavar="NAME|FILE|none",
        ),
    ] = None,
    methods: Annotated[
        list[Method] | None,
        option(
            "Model",
            "Baseline to evaluate; all for every method that needs no training or is trained."
            " Repeatable.",
            "--method",
        ),
    ] = None,
    synthesizer: options.Synthesizer = "builtin",
    soundfont: options.Soundfont = None,
    bounds: Annotated[
        list[Bound] | None,
        option(
            "Model", "Null system or ceiling to include. Repeatable. Default: all.", "--bound"
        ),
    ] = None,
    ablations: Annotated[
        list[Ablation] | None,
        option(
            "Model",
            "Ablation to evaluate, a row of the paper's tables 5 and 6. Repeatable.",
            "--ablation",
        ),
    ] = None,
    ablation_weights: Annotated[
        list[str] | None,
        option(
            "Model",
            "Weights or run folder of the ablation NAME (or full), or a folder of runs."
            " Repeatable.",
            metavar="NAME=FILE|DIR",
        ),
    ] = None,
    protocol: Annotated[
        Literal["official", "paper", "d2m"],
        option(
            "Scoring",
            "Scoring protocol: the released LORIS code, the LORIS paper, or D2M-GAN and CDCD.",
        ),
    ] = "official",
    onset_window: Annotated[
        int | None,
        option(
            "Scoring",
            "Moving-average window of onset peak picking, in frames on each side. Default: as"
            " in the protocol.",
            min=1,
            max=100,
        ),
    ] = None,
    beat_tracker: Annotated[
        Literal["librosa", "madmom", "beatnet"],
        option(
            "Scoring",
            "Beat tracker. madmom models: non-commercial (CC BY-NC-SA 4.0); BeatNet models:"
            " CC BY 4.0.",
        ),
    ] = "librosa",
    strict: Annotated[
        bool,
        option(
            "Scoring",
            "Add onset and beat F-measures with tolerance windows.",
            "--strict/--no-strict",
        ),
    ] = True,
    quality: Annotated[
        bool,
        option(
            "Scoring", "Add audio quality metrics of spectra, loudness and tags.", "--quality"
        ),
    ] = False,
    compare_to: Annotated[
        str,
        option("Scoring", "System that all others are compared with.", metavar="SYSTEM"),
    ] = "mismatched",
    min_f1: Annotated[
        float | None,
        option(
            "Scoring",
            "Exit with code 1 if the F1 of a model is below this value.",
            metavar="F1",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    takes: Annotated[
        int,
        option("Sampling", "Number of takes per clip, with consecutive seeds.", min=1, max=100),
    ] = 3,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    sweeps: Annotated[
        list[str] | None,
        option(
            "Sampling",
            "Evaluate several values of steps or guidance, as in tables 7 and 8 of the paper."
            " Repeatable.",
            "--sweep",
            metavar="NAME=V,V,...",
        ),
    ] = None,
    conditionings: Annotated[
        list[ConditioningName] | None,
        option("Model", "Conditioning of mini. Repeatable. Default: score.", "--conditioning"),
    ] = None,
    seed: options.Seed = 0,
    jobs: Annotated[
        int | None,
        option("Run", "Number of parallel worker processes. Default: all threads.", min=1),
    ] = None,
    threads: options.Threads = None,
    shard: Annotated[
        str | None,
        option(
            "Run",
            "Only generate the audio of shard I of N, counted from 1. Run again without --shard"
            " to score.",
            metavar="I/N",
        ),
    ] = None,
    no_cache: Annotated[
        bool, option("Run", "Regenerate audio even if it is cached.", "--no-cache")
    ] = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Score soundtracks with the metrics of the paper and with stricter metrics.

    Evaluates models and baselines on a subset of the data set (--split), or audio files against
    their references (--generated and --reference). Prints a table with one row per system.

    The table includes null systems, such as one click per second, and ceilings, such as the
    reference audio. A score no better than those of the null systems does not show
    synchronization.

    Examples:
        loris eval list

        loris eval --split synthetic --clips 20 --rhythm-from-reference

        loris eval --split fe50 --model mini --method retrieval --format json -o fe50.json

        loris eval --generated results/ --reference videos/ --per-clip clips.jsonl

        loris eval --split fe25 --ablation hawkes --ablation-weights runs/
    """
    if options.reject_options_before_subcommand(context):
        return
    system_options = [models, methods, shard, sweeps, ablations, ablation_weights]
    check_inputs(split, generated, reference, any(system_options))
    if sweeps and (ablations or ablation_weights):
        raise UsageError(
            "--sweep cannot be used with --ablation or --ablation-weights",
            hint="remove --sweep, or the ablations",
        )
    outputs = EvalOutputs(
        out=out,
        output_format=output_format,
        layout=layout,
        per_clip=per_clip,
        html=html,
        plot=plot,
        plot_clip=plot_clip,
        mos_kit=mos_kit,
        mos_clips=mos_clips,
        overwrite=overwrite,
    )
    outputs.check([path for path in (generated, reference) if path is not None])
    if layout == "paper":
        check_layout(split, output_format)
    from loris_cli.composition.synthesizer_settings import SynthesizerSettings
    from loris_cli.config import data_home
    from loris_cli.evaluation.metrics.loris_scores import PROTOCOLS, replace_averaging_window
    from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
    from loris_cli.evaluation.runner.plan import (
        check_compare_to,
        eval_cache_dir,
        plan_file_evaluation,
        plan_subset_evaluation,
    )
    from loris_cli.evaluation.runner.run import EvaluationPlan, run_evaluation
    from loris_cli.evaluation.runner.sweeps import parse_sweeps
    from loris_cli.system.shards import parse_shard
    from loris_cli.system.threads import configure_threads, count_threads, pool_size

    reporter = ConsoleReporter(quiet=quiet, verbose=verbose)
    configure_threads(count_threads(threads))
    shard_of_clips = None if shard is None else parse_shard(shard)
    scoring = PROTOCOLS[protocol]
    if onset_window is not None:
        scoring = replace_averaging_window(scoring, onset_window)
    plan = EvaluationPlan(
        title="",
        clips=[],
        bounds=[bound.value for bound in bounds or Bound if bound is not Bound.NONE],
        seeds=tuple(range(seed, seed + takes)),
        analysis_config=AnalysisConfig(
            protocol=scoring, strict_metrics=strict, beat_tracker=beat_tracker
        ),
        compare_to=compare_to,
        max_workers=jobs or pool_size(),
        analysis_cache=eval_cache_dir("analysis"),
    )
    if generated is not None and reference is not None:
        plan = plan_file_evaluation(generated, reference, plan=plan, reporter=reporter)
    elif split is not None:
        sampling = parse_sweeps(sweeps or [], steps=steps, guidance=guidance)
        data_dir = data_home(data)
        plan = plan_subset_evaluation(
            data_dir,
            split,
            partition=partition,
            max_clips=clips,
            plan=plan,
            rhythm_from_reference=rhythm_from_reference,
        )
        # This imports torch, so it waits until it is known that there are clips to score.
        from loris_cli.evaluation.runner.system_selection import SystemSelection, add_systems

        variants = [name.value for name in ablations or (Ablation if ablation_weights else ())]
        selection = SystemSelection(
            models=models or ([] if variants else ["mini"]),
            methods=[method.value for method in methods or ()],
            ablations=variants,
            variant_specs=ablation_weights or [],
            sweep_specs=sweeps or [],
            sampling_settings=sampling,
            conditionings=[name.value for name in conditionings or ()],
            synthesizer=SynthesizerSettings(name=synthesizer, soundfont=soundfont),
            device=device,
            ignore_cache=no_cache,
        )
        plan = add_systems(selection, data_dir, split, plan=plan, reporter=reporter)
    check_compare_to(plan)
    if shard_of_clips is not None:
        generate_shard(plan, shard_of_clips, reporter)
        return
    result = run_evaluation(plan, reporter=reporter)
    run_options = {"steps": steps, "guidance": guidance, "clips": clips}
    write_outputs(result, outputs, run_options, reporter, seed=seed, quality=quality)
    check_result(result, min_f1, reporter)


app.command("list")(list_subsets)
app.command("mos-results")(mos_results)
app.command("tables")(tables)
