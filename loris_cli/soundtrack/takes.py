"""Takes of one video: analysis, while the model is loaded, then the files of each take.

video -> poses, rhythm  |  model
                      files of each take
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from loris_cli.pose.keypoints import read_poses
from loris_cli.rhythm.directogram import Compat
from loris_cli.soundtrack.generator_loading import load_in_background, needs_model_first
from loris_cli.soundtrack.job_report import RecordingReporter, ReportRow
from loris_cli.soundtrack.jobs import SoundtrackJob, is_midi_path
from loris_cli.soundtrack.video_analysis import analyze_video, probe_for_rhythm
from loris_cli.video.containers import find_audio_stream, open_container
from loris_cli.video.output_formats import check_container
from loris_cli.video.probe import VideoInfo

if TYPE_CHECKING:
    from loris_cli.soundtrack.generators import SoundtrackGenerator
    from loris_cli.soundtrack.take_files import PreparedGenerator


def make_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
    """Generate the takes of one video; invalid input is detected before long computations."""
    settings = job.settings
    loading = load_in_background(settings)
    info = probe_job(job, reporter)
    poses = read_poses(settings.poses) if settings.poses else None
    compat: Compat = "paper"
    prepared: PreparedGenerator | None = None
    if needs_model_first(job):
        prepared = _prepare(job, loading.result(), info, reporter)
        compat = prepared.generator.traits.rhythm_compat
    analysis = analyze_video(
        info, method=settings.rhythm_method, compat=compat, poses=poses, reporter=reporter
    )
    prepared = prepared or _prepare(job, loading.result(), info, reporter)
    # Imports torch, which the thread has loaded by now.
    from loris_cli.soundtrack.take_files import write_takes

    yield from write_takes(job, prepared, analysis, reporter)


def _prepare(
    job: SoundtrackJob,
    generator: "SoundtrackGenerator",
    info: VideoInfo,
    reporter: RecordingReporter,
) -> "PreparedGenerator":
    from loris_cli.soundtrack.take_files import prepare_generator

    return prepare_generator(job, generator, info, reporter)


def probe_job(job: SoundtrackJob, reporter: RecordingReporter) -> VideoInfo:
    """Probe the video; raise if a container cannot hold it, or an audio track is missing."""
    for text in job.warnings:
        reporter.warn(text)
    info = probe_for_rhythm(job.video, reporter=reporter)
    if job.settings.audio_track is not None:
        with open_container(job.video) as container:
            find_audio_stream(container, track=job.settings.audio_track)
    for _, out in job.takes:
        if not is_midi_path(out):
            check_container(info.path, out)
    return info
