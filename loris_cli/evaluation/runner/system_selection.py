"""Who is to make music, from what a user names: models, methods, variants, each a row.

names, files -> entrants -> a plan with their rows, and the paper's tables they belong in
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.ablations import build_ablation_tables, find_variants
from loris_cli.evaluation.runner.bounds import CEILINGS, NULL_SYSTEMS
from loris_cli.evaluation.runner.generation_cache import SystemRunner
from loris_cli.evaluation.runner.method_systems import build_method_system
from loris_cli.evaluation.runner.run import EvaluationPlan
from loris_cli.evaluation.runner.sweeps import SamplingSetting, build_sweep_tables
from loris_cli.evaluation.runner.systems import System, build_model_system
from loris_cli.system.device import resolve_device
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class SystemSelection:
    """Who is to make music."""

    models: Sequence[str]
    """``mini``, or files of weights; ``none`` is no model."""
    methods: Sequence[str] = ()
    """Of `methods.METHODS`."""
    ablations: Sequence[str] = ()
    """Of `ablations.SWITCHES`."""
    variant_specs: Sequence[str] = ()
    """Where these are, as `ablations.find_variants` takes it."""
    sweep_specs: Sequence[str] = ()
    sampling_settings: Sequence[SamplingSetting]
    """What each model is sampled in, as `sweeps.settings_of` has it."""
    device: str = "auto"
    ignore_cache: bool = False
    """Make sounds anew that are kept."""


def add_systems(
    selection: SystemSelection,
    data_dir: Path,
    subset: str,
    *,
    plan: EvaluationPlan,
    reporter: Reporter,
) -> EvaluationPlan:
    """A plan with who is to make music as its rows, and the tables they belong in.

    Args:
        selection: who.
        data_dir: the data set whose clips they are told of.
        subset: the subset, whose train part is a library to some methods.
        plan: everything else.
        reporter: whom to tell.

    Raises:
        WeightsError: a model is missing or damaged.
        UsageError: two rows would have one name, a sweep makes no sense, or a file is not
            the variant that it is called.
        InputError: a file is missing, or there is no library.
    """
    variants = find_variants(selection.variant_specs, selection.ablations, reporter=reporter)
    models = [(Path(name).stem, name) for name in selection.models if name != "none"]
    models += [(name, str(variant.path)) for name, variant in variants.items()]
    where = resolve_device(selection.device)
    entrants: list[tuple[str, System]] = [
        (row + suffix, build_model_system(model, device=where, steps=steps, guidance=guidance))
        for row, model in models
        for suffix, steps, guidance in selection.sampling_settings
    ]
    entrants += [
        (name, build_method_system(name, data_dir, subset))
        for name in dict.fromkeys(selection.methods)
    ]
    names = [name for name, _ in entrants]
    for name in names:
        if names.count(name) > 1 or name in (*NULL_SYSTEMS, *CEILINGS, "generated"):
            raise UsageError(
                f"two rows would be called {name!r}", hint="rename one of the files"
            )
    return replace(
        plan,
        system_runners=[
            SystemRunner(
                name=name,
                system=entrant,
                data_dir=data_dir,
                cache_dir=generation_cache_dir(),
                ignore_cache=selection.ignore_cache,
            )
            for name, entrant in entrants
        ],
        paper_tables=[
            *build_ablation_tables(selection.ablations, variants, subset),
            *build_sweep_tables(selection.sweep_specs, names),
        ],
    )


def generation_cache_dir() -> Path:
    """Where sounds of models are kept."""
    return cache_home() / "eval" / "takes"
