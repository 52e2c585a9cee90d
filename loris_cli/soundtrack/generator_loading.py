"""Loading of the model in a thread, while the poses of the first video are estimated.

This module does not import torch: its import takes as long as the poses of some seconds.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER
from loris_cli.soundtrack.jobs import DEFAULT_MODEL, SoundtrackJob, SoundtrackSettings

if TYPE_CHECKING:
    from loris_cli.soundtrack.generators import SoundtrackGenerator


@cache
def _create_executor() -> ThreadPoolExecutor:
    # One thread: requests for the same model wait for each other and share it.
    return ThreadPoolExecutor(1, thread_name_prefix="loris-load")


def load_in_background(settings: SoundtrackSettings) -> "Future[SoundtrackGenerator]":
    """Start to load the generator for the settings of a run.

    The errors of `generators.load_generator` are raised by the result.
    """

    def load() -> "SoundtrackGenerator":
        from loris_cli.soundtrack import take_files
        from loris_cli.soundtrack.generators import load_generator

        del take_files  # imported for what follows the analysis
        return load_generator(settings)

    return _create_executor().submit(load)


def needs_model_first(job: SoundtrackJob) -> bool:
    """Return whether a job has to wait for its model before the analysis of the video.

    The included model and the score need not: they support all other options, use no visual
    features, and their rhythm is that of the paper.
    """
    settings = job.settings
    is_included = settings.model == DEFAULT_MODEL and settings.method in (None, "score")
    can_fail = (
        settings.device not in ("auto", "cpu")
        or settings.compile
        or settings.visual is not None
        or settings.synthesizer != DEFAULT_SYNTHESIZER
        or (job.needs_notes and settings.conditioning is not None)
    )
    return not is_included or can_fail or settings.inpaint is not None
