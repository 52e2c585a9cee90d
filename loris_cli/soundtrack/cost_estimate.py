"""Estimated cost of the takes of a video: time, memory, network evaluations.

The cost of the included model and of the score follows from the recorded speed of earlier runs;
torch is not imported. Other models are loaded and timed.
"""

from collections.abc import Iterator

from loris_cli.config import POSE_FPS
from loris_cli.models.mini_config import read_builtin_config
from loris_cli.soundtrack.generator_loading import load_in_background, needs_model_first
from loris_cli.soundtrack.job_report import RecordingReporter, ReportRow, build_row
from loris_cli.soundtrack.jobs import SoundtrackJob, SoundtrackSettings
from loris_cli.soundtrack.speed_record import Speed, read_speed
from loris_cli.soundtrack.takes import probe_job
from loris_cli.soundtrack.window_layout import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    LatentGrid,
    WindowLayout,
)

POSE_S_PER_FRAME = 0.012
"""Seconds per frame of pose estimation, without a recorded speed: two cores of a server."""
TAKE_S_PER_S = 0.15
"""Seconds per second of a take by ``mini`` or the score, without a recorded speed."""
MEMORY_MIB = 1000
"""Peak memory of ``mini`` and of the score; it does not depend on the duration."""


def estimate_takes(job: SoundtrackJob, reporter: RecordingReporter) -> Iterator[ReportRow]:
    """Yield one row with the estimated cost of all takes of a video; nothing is written."""
    settings, n_takes = job.settings, len(job.takes)
    info = probe_job(job, reporter)
    speed = read_speed(settings)
    n_windows = n_evaluations = 0
    if not needs_model_first(job):
        take_s = info.duration_s * (speed.take_s_per_s or TAKE_S_PER_S)
        memory_mib = MEMORY_MIB
        if settings.method is None:
            layout = _compute_layout(settings, info.duration_s)
            n_windows, n_evaluations = len(layout.starts), layout.n_evaluations
    else:
        from loris_cli.soundtrack.generator_timing import measure_take_cost

        generator = load_in_background(settings).result()
        cost = measure_take_cost(generator, info.duration_s)
        take_s, memory_mib, n_windows, n_evaluations = cost
    pose_s = _estimate_pose_s(settings, speed, info.duration_s)
    yield build_row(
        job,
        reporter,
        status="estimated",
        output=[str(out) for _, out in job.takes],
        duration_s=round(info.duration_s, 3),
        n_windows=n_windows,
        n_network_evaluations=n_evaluations * n_takes,
        estimated_s=round(pose_s + n_takes * take_s, 1),
        estimated_memory_mib=memory_mib,
    )


def _estimate_pose_s(settings: SoundtrackSettings, speed: Speed, duration_s: float) -> float:
    if settings.rhythm_method == "flow" or settings.poses is not None:
        return 0.0
    return duration_s * POSE_FPS * (speed.pose_s_per_frame or POSE_S_PER_FRAME)


def _compute_layout(settings: SoundtrackSettings, duration_s: float) -> WindowLayout:
    """Return the windows of the included model on a CPU, from the header of its file."""
    config = read_builtin_config(settings.model)
    grid = LatentGrid(window_frames=config.window_frames, stride=config.stride)
    sampler, n_steps = settings.sampler or DEFAULT_SAMPLER, settings.steps or DEFAULT_STEPS
    return grid.compute_layout(duration_s, sampler, n_steps)
