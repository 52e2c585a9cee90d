"""What ``loris eval`` lets one choose: typer wants enumerations where an option is a list."""

from enum import StrEnum


class Bound(StrEnum):
    """Nulls and ceilings: `loris_cli.evaluation.runner.bounds`."""

    CLICK_1HZ = "click_1hz"
    CLICK_4HZ = "always_on"
    WHITE_NOISE = "white_noise"
    DENSITY_MATCHED = "density_matched"
    TEMPO_CLICK = "tempo_click"
    MISMATCHED = "shuffled"
    GROUND_TRUTH = "ground_truth"
    LATENT_RECONSTRUCTION = "through_latent"
    OTHER_PERFORMANCE = "other_take"
    NONE = "none"


class Method(StrEnum):
    """Other makers of music: `loris_cli.evaluation.runner.method_systems.METHODS`."""

    DRUMS = "drums"
    GROOVE = "groove"
    RETRIEVAL = "retrieval"
    RETRIEVAL_STRETCHED = "stretched"


class Embedding(StrEnum):
    """What fadtk hears with: `loris_cli.evaluation.metrics.embeddings.LOADERS`."""

    CLAP = "clap"
    VGGISH = "vggish"
    ENCODEC = "encodec"


class Ablation(StrEnum):
    """Lines of the paper's tables 5 and 6."""

    V = "v"
    R = "r"
    M = "m"
    LSTM = "lstm"
    HAWKES = "hawkes"
    PE = "pe"
    RHYMUL = "rhymul"
