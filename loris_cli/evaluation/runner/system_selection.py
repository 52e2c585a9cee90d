"""Who is to make music, from what a user names: models, methods, variants, each a row.

names, files -> entrants -> a plan with their rows, and the paper's tables they belong in
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loris_cli.config import cache_home
from loris_cli.errors import UsageError
from loris_cli.evaluation.runner.ablations import ablation_tables, variants_of
from loris_cli.evaluation.runner.bounds import CEILINGS, NULLS
from loris_cli.evaluation.runner.generation_cache import Maker
from loris_cli.evaluation.runner.method_systems import method_of
from loris_cli.evaluation.runner.run import Plan
from loris_cli.evaluation.runner.sweeps import Setting, sweep_tables
from loris_cli.evaluation.runner.systems import Entrant, sampled
from loris_cli.system.device import resolve
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who is to make music."""

    models: Sequence[str]
    """``mini``, or files of weights; ``none`` is no model."""
    methods: Sequence[str] = ()
    """Of `methods.METHODS`."""
    ablated: Sequence[str] = ()
    """Of `ablations.SWITCHES`."""
    variants: Sequence[str] = ()
    """Where these are, as `ablations.variants_of` takes it."""
    sweeps: Sequence[str] = ()
    settings: Sequence[Setting]
    """What each model is sampled in, as `sweeps.settings_of` has it."""
    device: str = "auto"
    fresh: bool = False
    """Make sounds anew that are kept."""


def enter(asked: Asked, data: Path, split: str, *, plan: Plan, reporter: Reporter) -> Plan:
    """A plan with who is to make music as its rows, and the tables they belong in.

    Args:
        asked: who.
        data: the data set whose clips they are told of.
        split: the subset, whose train part is a library to some methods.
        plan: everything else.
        reporter: whom to tell.

    Raises:
        WeightsError: a model is missing or damaged.
        UsageError: two rows would have one name, a sweep makes no sense, or a file is not
            the variant that it is called.
        InputError: a file is missing, or there is no library.
    """
    variants = variants_of(asked.variants, asked.ablated, reporter=reporter)
    models = [(Path(name).stem, name) for name in asked.models if name != "none"]
    models += [(name, str(variant.path)) for name, variant in variants.items()]
    where = resolve(asked.device)
    entrants: list[tuple[str, Entrant]] = [
        (row + suffix, sampled(model, device=where, steps=steps, guidance=guidance))
        for row, model in models
        for suffix, steps, guidance in asked.settings
    ]
    entrants += [(name, method_of(name, data, split)) for name in dict.fromkeys(asked.methods)]
    names = [name for name, _ in entrants]
    for name in names:
        if names.count(name) > 1 or name in (*NULLS, *CEILINGS, "generated"):
            raise UsageError(
                f"two rows would be called {name!r}", hint="rename one of the files"
            )
    return replace(
        plan,
        makers=[
            Maker(
                name=name, entrant=entrant, data=data, cache=takes_folder(), fresh=asked.fresh
            )
            for name, entrant in entrants
        ],
        layouts=[
            *ablation_tables(asked.ablated, variants, split),
            *sweep_tables(asked.sweeps, names),
        ],
    )


def takes_folder() -> Path:
    """Where sounds of models are kept."""
    return cache_home() / "eval" / "takes"
