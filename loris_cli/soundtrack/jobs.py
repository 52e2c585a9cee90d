"""What is to be done: which takes of which videos, and where they go.

names, settings -> jobs, before anything is read or written
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loris_cli.errors import UsageError
from loris_cli.models.diffusion import SamplerName
from loris_cli.soundtrack.video_analysis import RhythmMethod
from loris_cli.soundtrack.visual_features import VisualSource
from loris_cli.system.atomic_files import check_output_paths, printable_path
from loris_cli.system.device import Precision
from loris_cli.system.input_paths import check_suffix, is_output_folder, resolve_output_paths
from loris_cli.video.mux import CONTAINER_FORMATS


@dataclass(frozen=True, kw_only=True)
class SoundtrackSettings:
    """What is wanted of every soundtrack of a run."""

    model: str = "mini"
    genre: str | None = None
    seed: int = 0
    steps: int | None = None
    """None is what suits the model: 16 for ``mini``, 50 for the paper's."""
    guidance: float | None = None
    """None likewise: 1.5 and 20."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Part of the steps that is guided."""
    sampler: SamplerName | None = None
    """None likewise: ``dpmpp-2m`` and ``adpm2``."""
    visual: VisualSource | None = None
    """Features of the picture, or who makes them."""
    offline: bool = False
    """Whether weights may not be fetched."""
    rhythm_method: RhythmMethod | None = None
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    mix_db: float | None = None
    overwrite: bool = False
    poses: Path | None = None
    plot: Path | None = None
    inpaint: Path | None = None
    inpaint_start_s: float = 0.0
    inpaint_end_s: float = 0.0

    @property
    def has_visual_file(self) -> bool:
        """Whether ``visual`` is one video's features, not the weights of what makes them."""
        return self.visual is not None and self.visual.network is None


@dataclass(frozen=True, kw_only=True)
class SoundtrackJob:
    """One video and where its takes belong."""

    video: Path
    takes: tuple[tuple[int, Path], ...]
    """Number, counted from 0 and added to the seed, and place of each."""
    existing_takes: tuple[tuple[int, Path], ...] = ()
    """Takes that are there already and are to be left as they are."""
    settings: SoundtrackSettings


def plan_jobs(
    videos: Sequence[Path],
    out: Path | None,
    *,
    settings: SoundtrackSettings,
    takes: int = 1,
    skip_existing: bool = False,
    report: Path | None = None,
    protected_paths: Sequence[Path] = (),
) -> list[SoundtrackJob]:
    """What is to be done, if all names make sense: nothing is read or written yet.

    Args:
        videos: inputs.
        out: a file for one input, a folder for any number; None is beside each input.
        settings: of the run.
        takes: soundtracks for each video.
        skip_existing: leave takes alone whose files exist.
        report: file that will tell of the run.
        protected_paths: other files that no result may replace.

    Raises:
        UsageError: options that go with one input only, or names that cannot be.
        OutputError: a folder that may not be written to.
    """
    single = {
        "--plot": settings.plot,
        "--keep": settings.inpaint,
        "--poses": settings.poses,
        "--visual": settings.visual if settings.has_visual_file else None,
    }
    for option, value in single.items():
        if value is not None and len(videos) > 1:
            raise UsageError(
                f"{option} goes with one input, not {len(videos)}", hint="leave it out"
            )
    if settings.plot:
        check_suffix(settings.plot, [".png"])
    outs = resolve_output_paths(
        videos,
        out,
        default_suffix=".loris.mp4",
        n_takes=takes,
        allowed_suffixes=list(CONTAINER_FORMATS),
    )
    jobs = []
    for video, names in zip(videos, outs, strict=True):
        numbered = list(enumerate(names))
        done = [pair for pair in numbered if skip_existing and os.path.lexists(pair[1])]
        todo = tuple(pair for pair in numbered if pair not in done)
        jobs.append(
            SoundtrackJob(
                video=video, takes=todo, existing_takes=tuple(done), settings=settings
            )
        )
    model = Path(settings.model)
    sources = [
        *videos,
        *protected_paths,
        *(
            path
            for path in (
                settings.inpaint,
                settings.poses,
                None if settings.visual is None else settings.visual.path,
            )
            if path is not None
        ),
        *([model] if model.is_file() else []),
    ]
    results = [path for job in jobs for _, path in job.takes]
    if settings.plot is not None and any(job.takes for job in jobs):
        results.append(settings.plot)
    if out is not None and is_output_folder(out) and not out.is_dir():
        results = [path for path in results if path.parent != out]  # in a folder still to be
    check_output_paths(results, sources, overwrite=settings.overwrite)
    if report is not None:
        check_output_paths([report], sources, overwrite=True)
        made = [*(path for names in outs for path in names), settings.plot]
        if os.path.realpath(report) in {os.path.realpath(path) for path in made if path}:
            raise UsageError(
                f"the report and a result would both be {printable_path(report)}",
                hint="give the report a name of its own",
            )
    return jobs
