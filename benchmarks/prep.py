"""Speed of data preparation: ``python benchmarks/prep.py [VIDEO]``.

Times the visual rhythm of a 25 s clip. With VIDEO, also times decoding and pose estimation,
alternately with a plain loop over the same libraries, and vocal separation, and extrapolates to
the 86 hours of the paper's data set. The first line of the output describes the machine.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.audio.separation import SPLEETER_RATE_HZ, TwoStemSeparator
from loris_cli.config import POSE_FPS
from loris_cli.pose.tracking import estimate_poses
from loris_cli.rhythm.pose_rhythm import frame_timestamps, rhythm_from_poses
from loris_cli.soundtrack.video_analysis import POSE_SIDE_PX
from loris_cli.video.frames import Frame, read_frames_at_fps
from loris_cli.video.probe import probe_video

N_ROUNDS = 3
N_RHYTHM_RUNS = 300
RESAMPLING_OPTIONS: dict[str, Any] = {
    "source_times_s": frame_timestamps(400, 0.04),
    "cuts": [100],
}
MAX_CLIP_S = 25.0
PAPER_HOURS = 86.43
"""Hours of video in the paper's data set (table 1)."""
N_CORES = 16


def measure_wall_s(function: Callable[[], object]) -> float:
    """Return the wall time of a function call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def measure_rhythm_ms(**options: Any) -> NDArray[np.float64]:
    """Return CPU times (ms) of the rhythm of 400 random pose frames, ``(N_RHYTHM_RUNS,)``."""
    rng = np.random.default_rng(0)
    phase = 2 * np.pi * np.arange(400)[:, None, None] / POSE_FPS
    keypoints = np.full((400, 17, 3), 0.9)
    keypoints[..., :2] = rng.uniform(100, 500, (17, 2)) + rng.normal(0, 1, (400, 17, 2))
    for frequency_hz in (0.5, 1, 2, 3):
        keypoints[..., :2] += rng.normal(0, 30, (17, 2)) * np.sin(frequency_hz * phase)
    rhythm_from_poses(keypoints, **options)
    times_ms = []
    for _ in range(N_RHYTHM_RUNS):
        # Other processes distort the wall time of such a short call, so use CPU time.
        started = time.process_time()
        rhythm_from_poses(keypoints, **options)
        times_ms.append(1000 * (time.process_time() - started))
    return np.array(times_ms)


def estimate_with_loris(video: Path, size: tuple[int, int], n_frames: int) -> object:
    """Decode at reduced size and 16 fps and estimate poses, as `loris prep` does."""
    frames = read_frames_at_fps(video, POSE_FPS, max_side_px=POSE_SIDE_PX)
    return estimate_poses(islice(frames, n_frames), fps=POSE_FPS, size=size)


def estimate_with_plain_loop(video: Path, size: tuple[int, int], n_frames: int) -> object:
    """Decode every frame at full size and estimate its pose, without these optimizations."""

    def read_all_frames() -> Iterator[Frame]:
        with av.open(str(video)) as container:
            rate = float(container.streams.video[0].average_rate or 25)
            n_decoded = int(n_frames / POSE_FPS * rate)
            for k, frame in enumerate(islice(container.decode(video=0), n_decoded)):
                rgb = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                yield Frame(time_s=k / rate, rgb=rgb)

    return estimate_poses(read_all_frames(), fps=POSE_FPS, size=size)


def main() -> None:
    """Measure each stage and print the results."""
    print(f"{os.cpu_count()} cores, numpy {np.__version__}, torch {torch.__version__}")
    for name, options in (("", {}), (" from 25 fps video with a cut", RESAMPLING_OPTIONS)):
        times_ms = measure_rhythm_ms(**options)
        print(
            f"rhythm of a 25 s clip{name}: median {np.median(times_ms):.2f} ms,"
            f" minimum {times_ms.min():.2f} ms, 90th percentile"
            f" {np.quantile(times_ms, 0.9):.2f} ms"
        )
    if len(sys.argv) == 1:
        return
    video = Path(sys.argv[1])
    info = probe_video(video)
    size = (info.width, info.height)
    length_s = min(info.duration_s, MAX_CLIP_S)
    n_frames = int(length_s * POSE_FPS)
    print(f"{length_s:.1f} s of {size[0]}x{size[1]} at {info.fps:.4g} fps")
    rounds = [
        (
            measure_wall_s(lambda: estimate_with_loris(video, size, n_frames)),
            measure_wall_s(lambda: estimate_with_plain_loop(video, size, n_frames)),
        )
        for _ in range(N_ROUNDS)
    ]
    best_s = min(loris_s for loris_s, _ in rounds)
    print(f"decode and poses {best_s:8.2f} s  {best_s / length_s:6.3f} of the duration")
    for loris_s, loop_s in rounds:
        ratio = loop_s / loris_s
        print(f"speed-up {ratio:.2f} (plain loop {loop_s:.2f} s, loris {loris_s:.2f} s)")

    separator = TwoStemSeparator().eval()  # speed does not depend on the weights
    audio = np.random.default_rng(0).normal(0, 0.1, (2, round(12 * SPLEETER_RATE_HZ)))
    blocks = [audio.astype(np.float32)]
    separation_s = min(
        measure_wall_s(lambda: list(separator.remove_vocals(blocks))) for _ in range(2)
    )
    print(f"vocal separation {12 / separation_s:.1f} times real time")

    cost = best_s / length_s + separation_s / 12
    print(f"{3600 / (cost * length_s):.0f} such videos per hour and core")
    print(f"{PAPER_HOURS:g} h on {N_CORES} cores: {PAPER_HOURS * cost / N_CORES:.1f} h")


if __name__ == "__main__":
    main()
