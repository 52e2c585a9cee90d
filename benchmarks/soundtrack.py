"""Time and memory of `loris soundtrack`: ``python benchmarks/soundtrack.py``.

    python benchmarks/soundtrack.py --baseline OTHER/.venv/bin/loris --busy

Generates the soundtrack of a clip of 25 s, 1280x720, made from the example video. Each run is
a process, so that its time includes imports and loading. With ``--baseline``, the program of
another installation runs alternately with this one, and the median ratio of pairs of runs is
printed. With ``--busy``, another process keeps one core busy.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

EXAMPLE_VIDEO = Path(__file__).resolve().parents[1] / "examples" / "skate.mp4"
CLIP_S = 25


@dataclass(frozen=True)
class Run:
    """Cost of one process with its children."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    """Peak memory of the largest process."""


def make_clip(path: Path, *, size: str = "1280x720", duration_s: float = CLIP_S) -> None:
    """Write a clip that repeats the example video, enlarged, without audio."""
    command = [get_ffmpeg_exe(), "-v", "error", "-y", "-stream_loop", "-1"]
    command += ["-i", str(EXAMPLE_VIDEO), "-t", str(duration_s), "-s", size, "-an"]
    subprocess.run([*command, "-c:v", "libx264", "-crf", "20", str(path)], check=True)


def measure_run(command: list[str]) -> Run:
    """Run a command to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: `{' '.join(command)}` failed")
    wall_s = time.perf_counter() - started
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextmanager
def keep_core_busy() -> Iterator[None]:
    """Run a process that never waits."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def format_row(name: str, runs: list[Run]) -> str:
    """Return the median wall and CPU time, and the highest peak memory, as one line."""
    wall_s = statistics.median(run.wall_s for run in runs)
    cpu_s = statistics.median(run.cpu_s for run in runs)
    peak_mb = max(run.peak_mb for run in runs)
    return f"{name:10} {wall_s:6.2f} s, {cpu_s:6.2f} s CPU, {peak_mb:5.0f} MB"


def main() -> None:
    """Run the programs alternately and print their costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", help="Program of another installation.")
    parser.add_argument("--runs", type=int, default=5, help="Runs of each program.")
    parser.add_argument("--busy", action="store_true", help="Keep one core busy beside.")
    args = parser.parse_args()
    programs = {"loris": [sys.executable, "-m", "loris_cli"]}
    if args.baseline:
        programs["baseline"] = [args.baseline]
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        make_clip(clip)
        arguments = ["soundtrack", str(clip), "-o", str(clip.with_name("out.mp4"))]
        arguments += ["--overwrite", "--quiet"]
        with keep_core_busy() if args.busy else nullcontext():
            for k in range(args.runs + 1):
                for name, program in programs.items():
                    run = measure_run([*program, *arguments])
                    runs[name] += [run] if k else []  # the first run fills the caches
    load = "one core busy" if args.busy else "idle"
    print(f"{CLIP_S} s of 1280x720, {os.cpu_count()} cores, {load}, {args.runs} runs")
    for name in programs:
        print(format_row(name, runs[name]))
    if args.baseline:
        pairs = zip(runs["loris"], runs["baseline"], strict=True)
        ratio = statistics.median(other.wall_s / own.wall_s for own, other in pairs)
        print(f"median ratio of wall times: {ratio:.2f} times as fast as the baseline")


if __name__ == "__main__":
    main()
