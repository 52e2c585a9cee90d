"""Build the systems of a run from the command line: models, methods, ablation variants.

names, files -> systems -> plan with the systems and the corresponding tables of the paper
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loris_cli.baselines.learned_checkpoint import detect_learned_method
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.ablations import build_ablation_tables, find_variants
from loris_cli.evaluation.runner.bounds import BOUNDS
from loris_cli.evaluation.runner.generation_cache import SystemRunner
from loris_cli.evaluation.runner.learned_systems import (
    BASELINE_NAMES,
    build_learned_system,
    expand_methods,
)
from loris_cli.evaluation.runner.plan import eval_cache_dir
from loris_cli.evaluation.runner.run import EvaluationPlan
from loris_cli.evaluation.runner.sweeps import SamplingSetting, build_sweep_tables
from loris_cli.evaluation.runner.systems import (
    System,
    build_method_system,
    build_model_system,
)
from loris_cli.models.condition_routes import Conditioning
from loris_cli.system.device import resolve_device
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class SystemSelection:
    """Systems selected by the user."""

    models: Sequence[str]
    """``mini`` or weights files; ``none`` is ignored."""
    methods: Sequence[str] = ()
    """Keys of `systems.METHOD_DESCRIPTIONS`, trained baselines, or ``all``."""
    ablations: Sequence[str] = ()
    """Keys of `ablations.VARIANT_OVERRIDES`."""
    variant_specs: Sequence[str] = ()
    """Weights of the ablation variants, as for `ablations.find_variants`."""
    sweep_specs: Sequence[str] = ()
    sampling_settings: Sequence[SamplingSetting]
    """Settings of each model, from `sweeps.parse_sweeps`."""
    conditionings: Sequence[Conditioning] = ()
    """Conditionings of each model, each of them a system; empty for the default one."""
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER
    """Synthesizer of the method ``score``."""
    device: str = "auto"
    ignore_cache: bool = False
    """Regenerate audio that is in the cache."""


def add_systems(
    selection: SystemSelection,
    data_dir: Path,
    subset: str,
    *,
    plan: EvaluationPlan,
    reporter: Reporter,
) -> EvaluationPlan:
    """Return a plan with the selected systems and the corresponding tables of the paper.

    Args:
        selection: systems selected by the user.
        data_dir: data set folder of the clips.
        subset: subset name; its train partition is the library for retrieval.
        plan: plan with all other settings.
        reporter: receives warnings.

    Raises:
        WeightsError: weights are missing or damaged.
        UsageError: two systems have the same id, or a file is not the named variant.
        InputError: a file is missing, or the library for retrieval is empty.
    """
    variants = find_variants(selection.variant_specs, selection.ablations, reporter=reporter)
    models = [(Path(name).stem, name) for name in selection.models if name != "none"]
    models += [(name, str(variant.path)) for name, variant in variants.items()]
    device = resolve_device(selection.device)
    systems: list[tuple[str, System]] = []
    for name, model in models:
        baseline = detect_learned_method(Path(model)) if Path(model).is_file() else None
        if baseline is not None:
            system = build_learned_system(baseline, Path(model), device=device)
            systems.append((name, system))
            continue
        for conditioning in selection.conditionings or (None,):
            label = name if conditioning in (None, "score") else f"{name}-{conditioning}"
            for suffix, steps, guidance in selection.sampling_settings:
                system = build_model_system(
                    model,
                    device=device,
                    steps=steps,
                    guidance=guidance,
                    conditioning=conditioning,
                )
                systems.append((label + suffix, system))
    methods = expand_methods(list(selection.methods), reporter)
    baselines = {name: name for name in BASELINE_NAMES}
    for name in methods:
        if name in baselines:
            system = build_learned_system(baselines[name], device=device)
        else:
            system = build_method_system(
                name, data_dir, subset, synthesizer=selection.synthesizer
            )
        systems.append((name, system))
    names = [name for name, _ in systems]
    for name in names:
        is_reserved = name in (*BOUNDS, "generated") and name not in methods
        if names.count(name) > 1 or is_reserved:
            raise UsageError(f"system name {name!r} is in use", hint="rename one of the files")
    return replace(
        plan,
        system_runners=[
            SystemRunner(
                name=name,
                system=system,
                data_dir=data_dir,
                cache_dir=eval_cache_dir("generated"),
                ignore_cache=selection.ignore_cache,
                max_workers=plan.max_workers,
            )
            for name, system in systems
        ],
        paper_tables=[
            *build_ablation_tables(selection.ablations, variants, subset),
            *build_sweep_tables(selection.sweep_specs, names),
        ],
    )
