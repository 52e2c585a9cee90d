"""Recorded speed of earlier runs on this machine, for cost estimates.

report row of a take -> seconds per frame and per second of audio -> cache folder
"""

import json
import os
import platform
from contextlib import suppress
from typing import NamedTuple

from loris_cli.config import POSE_FPS, cache_home
from loris_cli.errors import OutputError
from loris_cli.soundtrack.job_report import ReportRow
from loris_cli.soundtrack.jobs import SoundtrackSettings
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.threads import pool_size

FILE_NAME = "speeds.json"
MAX_FILE_BYTES = 1 << 20


class Speed(NamedTuple):
    """Speed of earlier runs; None where none was recorded."""

    pose_s_per_frame: float | None = None
    """Seconds per frame of pose estimation."""
    take_s_per_s: float | None = None
    """Seconds per second of a take, from the rhythm to the written file."""


def read_speed(settings: SoundtrackSettings) -> Speed:
    """Return the speed of the last run with these settings on this machine."""
    speeds = _read_file()
    return Speed(speeds.get(_pose_key()), speeds.get(_take_key(settings)))


def record_speed(settings: SoundtrackSettings, row: ReportRow) -> None:
    """Record the speed of a completed take; a folder that is not writable is ignored."""
    pose_s = row["stages_s"].get("poses", 0.0)
    speeds = _read_file()
    speeds[_take_key(settings)] = (row["elapsed_s"] - pose_s) / row["duration_s"]
    if pose_s:
        speeds[_pose_key()] = pose_s / (row["duration_s"] * POSE_FPS)
    path = cache_home() / FILE_NAME
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(speeds, indent=1), encoding="utf-8")


def _read_file() -> dict[str, float]:
    """Return all recorded speeds; a missing or damaged file has none."""
    try:
        with (cache_home() / FILE_NAME).open(encoding="utf-8") as file:
            speeds = json.loads(file.read(MAX_FILE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(speeds, dict):
        return {}
    return {k: v for k, v in speeds.items() if isinstance(v, float) and 0 < v < 1e6}


def _machine_key() -> str:
    # Home folders may be shared between machines.
    return f"{platform.node()}, {pool_size()} threads"


def _pose_key() -> str:
    return f"{_machine_key()}: poses"


def _take_key(settings: SoundtrackSettings) -> str:
    model = settings.model if settings.method is None else f"{settings.method} {settings.model}"
    guidance = "no guidance" if settings.guidance == 1 else "guidance"
    sampling = (settings.conditioning, settings.steps, settings.sampler, guidance)
    run = (settings.device, settings.precision, settings.compile, settings.synthesizer.name)
    fields = [os.path.basename(model), *sampling, *run]
    return f"{_machine_key()}: " + ", ".join(str(field) for field in fields)
