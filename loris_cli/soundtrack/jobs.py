"""Settings of a run, and jobs: the takes to generate for each video, with output paths."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.config import BaselineName, Precision, SamplerName
from loris_cli.errors import UsageError
from loris_cli.models.condition_routes import Conditioning
from loris_cli.soundtrack.inpainting import InpaintSettings
from loris_cli.soundtrack.video_analysis import RhythmMethod
from loris_cli.soundtrack.visual_features import VisualSource
from loris_cli.system import input_paths
from loris_cli.system.atomic_files import check_output_paths
from loris_cli.video.ffmpeg_program import find_ffmpeg
from loris_cli.video.output_formats import CONTAINER_FORMATS, select_output_suffix

DEFAULT_MODEL = "mini"
MethodName = Literal["score", BaselineName]
"""``score``: the rule-written score, played by a synthesizer. The others are trained
baselines."""
MIDI_SUFFIXES = (".mid", ".midi")


@dataclass(frozen=True, kw_only=True)
class SoundtrackSettings:
    """Settings of all soundtracks of a run."""

    model: str = DEFAULT_MODEL
    """``mini``, a ``.safetensors`` file, or a released checkpoint."""
    method: MethodName | None = None
    """System that is used instead of ``mini``; ``model`` may name the weights of a baseline."""
    conditioning: Conditioning | None = None
    """Conditions of ``mini``; default: ``score``."""
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER
    """Synthesizer for the method ``score``."""
    genre: str | None = None
    """Style, one of `config.GENRES`; None selects one that suits the rhythm."""
    seed: int = 0
    """Seed of the first take; the same seed produces the same audio."""
    steps: int | None = None
    """Sampling steps; default: 6 for ``mini``, 50 for the paper's model."""
    guidance: float | None = None
    """Guidance scale; default: 2 for ``mini``, 20 for the paper's model."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Range of sampling steps with guidance, as fractions of all steps."""
    sampler: SamplerName | None = None
    """Default: ``dpmpp-2m`` for ``mini``, ``adpm2`` for the paper's model."""
    visual: VisualSource | None = None
    """Visual features for the paper's model, or the encoder that extracts them."""
    offline: bool = False
    """Do not download weights."""
    rhythm_method: RhythmMethod | None = None
    """Default: ``directogram``, or ``flow`` if no moving person is detected."""
    device: str = "auto"
    threads: int | None = None
    """Threads of all worker processes together; None is one per usable core."""
    precision: Precision = "auto"
    """Precision of networks; ``auto`` is bf16 on CUDA devices that support it, else fp32."""
    compile: bool = False
    """Compile the networks with torch.compile on their first call."""
    mix_db: float | None = None
    """Gain in dB of the video's original audio in the mix; None omits it."""
    audio_track: int | None = None
    """Number of the original audio track in the mix, from 1; None is the default track."""
    overwrite: bool = False
    """Overwrite existing files."""
    poses: Path | None = None
    """Pose file to use instead of pose estimation."""
    plot: Path | None = None
    """Output ``.png`` file for a plot of rhythm and audio, or a folder for several inputs."""
    midi: Path | None = None
    """Output ``.mid`` file for the score of each take, or a folder for several inputs."""
    inpaint: InpaintSettings | None = None
    """Earlier soundtrack, of which only a time range is regenerated."""


@dataclass(frozen=True, kw_only=True)
class SoundtrackJob:
    """One video and the output paths of its takes."""

    video: Path
    takes: tuple[tuple[int, Path], ...]
    """Take number, counted from 0 and added to the seed, and output path of each take."""
    existing_takes: tuple[tuple[int, Path], ...] = ()
    """Takes that are skipped because all their files exist."""
    midi_paths: tuple[Path, ...] = ()
    """Output MIDI file of each take number; empty if there are none."""
    plot_paths: tuple[Path, ...] = ()
    """Output plot of the first take; empty if there is none."""
    warnings: tuple[str, ...] = ()
    """Warnings found while planning."""
    skip_existing: bool = False
    """Write only the files that do not exist when their take starts."""
    conflict: UsageError | None = None
    """Error of a video that has an output path of another, and no takes."""
    settings: SoundtrackSettings

    @property
    def needs_notes(self) -> bool:
        """Whether an output is a MIDI file."""
        return bool(self.midi_paths) or any(is_midi_path(path) for _, path in self.takes)

    def list_missing_files(self, take: tuple[int, Path]) -> list[Path]:
        """Return the files of a take that have to be written: its output, MIDI file and plot.

        Without ``skip_existing``, all of them.
        """
        number, output = take
        paths = [output, *self.midi_paths[number : number + 1]]
        paths += self.plot_paths if number == 0 else ()
        return [p for p in paths if not (self.skip_existing and os.path.lexists(p))]


def is_midi_path(path: Path) -> bool:
    """Return whether an output path is that of a MIDI file."""
    return path.suffix.lower() in MIDI_SUFFIXES


def plan_jobs(
    videos: Sequence[Path],
    output: Path | None,
    *,
    settings: SoundtrackSettings,
    n_takes: int = 1,
    skip_existing: bool = False,
    report: Path | None = None,
    inputs: Sequence[str] = (),
) -> list[SoundtrackJob]:
    """Plan the jobs of a run and check all paths; nothing is written.

    Args:
        videos: input files.
        output: file for a single input, or folder; None writes next to each input.
        settings: settings of the run.
        n_takes: number of takes per video.
        skip_existing: write only files that do not exist, and skip takes with all their files.
        report: file to which the report rows are appended.
        inputs: arguments that name the videos: folders, whose sub-folders are repeated below
            ``output``, and list files, which must not be overwritten.

    Raises:
        UsageError: a single-input option is used with several inputs, or paths collide.
        OutputError: a folder is not writable.
        MissingDependencyError: there is no supported ffmpeg program.
    """
    _check_single_input_options(settings, len(videos))
    if settings.method is not None:
        check_method_options(settings, settings.method)
    if settings.method != "score" and settings.synthesizer != DEFAULT_SYNTHESIZER:
        option = "--soundfont" if settings.synthesizer.soundfont else "--synthesizer"
        raise UsageError(f"{option} requires --method score", hint="add --method score")
    names = _DefaultNames()
    resolve = partial(input_paths.resolve_output_paths, videos, inputs=inputs)
    suffixes = [*CONTAINER_FORMATS, *MIDI_SUFFIXES]
    outputs = resolve(
        output, default_suffix=names.get_suffix, n_takes=n_takes, allowed_suffixes=suffixes
    )
    midi_outputs: list[list[Path]] = [[] for _ in videos]
    if settings.midi is not None:
        midi_outputs = resolve(
            settings.midi,
            default_suffix=".mid",
            n_takes=n_takes,
            allowed_suffixes=MIDI_SUFFIXES,
        )
    plots: list[list[Path]] = [[] for _ in videos]
    if settings.plot is not None:
        plots = resolve(settings.plot, default_suffix=".png", allowed_suffixes=[".png"])
    conflicts: dict[Path, UsageError] = {}
    for paths_of_videos in (plots, midi_outputs, outputs):
        conflicts |= input_paths.find_conflicts(videos, paths_of_videos)
    if settings.mix_db is not None and any(
        is_midi_path(path) for paths in outputs for path in paths
    ):
        raise UsageError(
            "--mix cannot be used with a MIDI output", hint="omit --mix, or use --midi"
        )
    jobs = []
    for k, video in enumerate(videos):
        takes = [] if video in conflicts else list(enumerate(outputs[k]))
        job = SoundtrackJob(
            video=video,
            takes=tuple(takes),
            midi_paths=tuple(midi_outputs[k]),
            plot_paths=tuple(plots[k]),
            warnings=names.describe(video),
            skip_existing=skip_existing,
            conflict=conflicts.get(video),
            settings=settings,
        )
        todo = tuple(take for take in takes if job.list_missing_files(take))
        existing = tuple(take for take in takes if take not in todo)
        jobs.append(replace(job, takes=todo, existing_takes=existing))
    _check_results(jobs, inputs, folders=(output, settings.midi, settings.plot))
    if report is not None:
        input_paths.check_not_stdout(report)
        check_output_paths([report], _list_sources(jobs, inputs), overwrite=True)
        output_paths = [path for paths in (*outputs, *midi_outputs, *plots) for path in paths]
        if os.path.realpath(report) in {os.path.realpath(p) for p in output_paths}:
            raise UsageError(
                f"report and output have the same path: {report}", hint="rename the report"
            )
    return jobs


class _DefaultNames:
    """Names of results without a given name, with the suffix of a suitable container."""

    def __init__(self) -> None:
        self._notes: dict[Path, str] = {}

    def get_suffix(self, video: Path) -> str:
        """Return the suffix that replaces that of the video."""
        suffix, codec = select_output_suffix(video)
        if codec:
            self._notes[video] = f"MP4 cannot hold {codec} video: the result is a {suffix} file"
        return f".loris{suffix}"

    def describe(self, video: Path) -> tuple[str, ...]:
        """Return a note if the result is not an MP4."""
        return (self._notes[video],) if video in self._notes else ()


def _check_results(
    jobs: Sequence[SoundtrackJob], inputs: Sequence[str], *, folders: Sequence[Path | None]
) -> None:
    """Check that all results can be written."""
    if any(not is_midi_path(path) for job in jobs for _, path in job.takes):
        find_ffmpeg()
    results = [p for job in jobs for take in job.takes for p in job.list_missing_files(take)]
    for folder in folders:
        if folder and input_paths.is_output_folder(folder):  # sub-folders are created later
            results = [p for p in results if folder not in p.parents or p.parent.is_dir()]
    sources = _list_sources(jobs, inputs)
    check_output_paths(results, sources, overwrite=jobs[0].settings.overwrite)


def _check_single_input_options(settings: SoundtrackSettings, n_videos: int) -> None:
    """Raise if a single-input option is used with several inputs."""
    visual = settings.visual
    options = {
        "--inpaint": settings.inpaint,
        "--poses": settings.poses,
        "--visual-features": visual if visual is not None and visual.network is None else None,
    }
    for option, value in options.items():
        if value is not None:
            input_paths.check_single_input(option, n_videos)


def check_method_options(settings: SoundtrackSettings, method: str) -> None:
    """Check that no setting of a diffusion model is used with a method.

    Raises:
        UsageError: one is.
    """
    has_weights = method == "score" and settings.model != DEFAULT_MODEL
    options = {
        "--model": settings.model if has_weights else None,
        "--conditioning": settings.conditioning,
        "--steps": settings.steps,
        "--guidance": settings.guidance,
        "--guidance-interval": (
            None if settings.guidance_interval == (0.0, 1.0) else settings.guidance_interval
        ),
        "--precision": None if settings.precision == "auto" else settings.precision,
        "--sampler": settings.sampler,
        "--visual-features": settings.visual if method == "score" else None,
        "--compile": settings.compile or None,
        "--inpaint": settings.inpaint,
    }
    for option in (name for name, value in options.items() if value is not None):
        raise UsageError(
            f"{option} cannot be used with --method {method}",
            hint=f"omit {option}, or use another model",
        )


def _list_sources(jobs: Sequence[SoundtrackJob], inputs: Sequence[str]) -> list[Path]:
    """Return all input files of a run, which must not be overwritten."""
    settings = jobs[0].settings
    model, inpaint, visual = Path(settings.model), settings.inpaint, settings.visual
    paths = [inpaint.path if inpaint else None, visual.path if visual else None, settings.poses]
    paths += [settings.synthesizer.soundfont]
    paths += [model] if model.is_file() else []
    videos = [job.video for job in jobs]
    lists = input_paths.find_list_files(inputs)
    return [*videos, *lists, *(path for path in paths if path is not None)]
