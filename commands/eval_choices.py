"""Choices of the repeatable options of ``loris eval``; Typer requires enumerations for them."""

from enum import StrEnum


class Bound(StrEnum):
    """Null systems, ceilings and the score: `loris_cli.evaluation.runner.bounds.BOUNDS`."""

    CLICK_1HZ = "click_1hz"
    CLICK_4HZ = "click_4hz"
    WHITE_NOISE = "white_noise"
    DENSITY_MATCHED = "density_matched"
    TEMPO_CLICK = "tempo_click"
    MISMATCHED = "mismatched"
    SCORE = "score"
    GROUND_TRUTH = "ground_truth"
    LATENT_RECONSTRUCTION = "latent_reconstruction"
    VQVAE_RECONSTRUCTION = "vqvae_reconstruction"
    OTHER_PERFORMANCE = "other_performance"
    NONE = "none"


class Method(StrEnum):
    """Baselines: those of `loris_cli.evaluation.runner.systems`, and trained ones."""

    SCORE = "score"
    DRUMS = "drums"
    GROOVE = "groove"
    RETRIEVAL = "retrieval"
    RETRIEVAL_STRETCHED = "retrieval-stretched"
    FOLEY = "foley"
    CMT = "cmt"
    D2MGAN = "d2mgan"
    CDCD = "cdcd"
    ALL = "all"


class ConditioningName(StrEnum):
    """Conditionings of ``mini``: `loris_cli.models.condition_routes.CONDITIONINGS`."""

    SCORE = "score"
    FREE = "free"
    PAPER = "paper"


class Ablation(StrEnum):
    """Ablations: rows of the paper's tables 5 and 6."""

    V = "v"
    R = "r"
    M = "m"
    LSTM = "lstm"
    HAWKES = "hawkes"
    PE = "pe"
    RHYMUL = "rhymul"
