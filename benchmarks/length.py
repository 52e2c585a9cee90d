"""Peak memory by video length: ``python benchmarks/length.py [--steps N] [MINUTES...]``.

Repeats the example video and its poses to each length (default: 1 and 10 minutes) and generates
each soundtrack from the poses in a separate process. Prints wall time, peak memory, and memory
relative to the first length. Memory does not depend on the number of sampling steps.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from loris_cli.pose.keypoints import Poses, read_poses, write_poses

EXAMPLE_VIDEO = Path(__file__).resolve().parents[1] / "examples" / "skate.mp4"


def repeat_poses(poses: Poses, n_repeats: int) -> Poses:
    """Repeat a pose sequence, with a cut before each repetition."""
    n_frames = n_repeats * poses.n_frames
    return replace(
        poses,
        keypoints=np.tile(poses.keypoints, (n_repeats, 1, 1)),
        times_s=np.arange(n_frames) / poses.fps,
        interpolated=np.tile(poses.interpolated, n_repeats),
        cuts=np.arange(1, n_repeats) * poses.n_frames,
    )


def measure_loris(arguments: list[str]) -> tuple[float, float]:
    """Run loris; return the wall time (s) and the peak memory of its largest process (MB)."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "loris_cli", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"error: `loris {' '.join(arguments)}` failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Measure each length and print a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="*", default=[1.0, 10.0])
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    first: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder, "short.npz")
        measure_loris(["pose", str(EXAMPLE_VIDEO), "-o", str(short), "-q"])
        poses = read_poses(short)
        for minutes in arguments.minutes:
            times = max(round(minutes * 60 / (poses.n_frames / poses.fps)), 1)
            video, long = Path(folder, "long.mp4"), Path(folder, "long.npz")
            write_poses(long, repeat_poses(poses, times))
            subprocess.run(
                f"{get_ffmpeg_exe()} -v error -y -stream_loop {times - 1}".split()
                + f"-i {EXAMPLE_VIDEO} -c copy {video}".split(),
                check=True,
            )
            out = Path(folder, "out.mp4")
            seconds, megabytes = measure_loris(
                f"soundtrack {video} -o {out} --poses {long}".split()
                + f"--steps {arguments.steps} --overwrite -q".split()
            )
            first = first or (seconds, megabytes)
            print(
                f"{minutes:6.1f} min: {seconds:8.1f} s, {megabytes:6.0f} MB"
                f" (memory {megabytes / first[1]:.2f} times the first length)",
                flush=True,
            )


if __name__ == "__main__":
    main()
