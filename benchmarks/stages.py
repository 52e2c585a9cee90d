"""Time by stage of one soundtrack: ``python benchmarks/stages.py VIDEO``.

Runs the pipeline in one process. Prints the wall time of each stage (without imports), its
ratio to the duration of the video, and the peak memory. The first line describes the video and
the machine.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from loris_cli.soundtrack.generators import load_generator
from loris_cli.soundtrack.jobs import SoundtrackSettings
from loris_cli.soundtrack.pipeline import make_soundtrack
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.system.progress import NullReporter


class StageTimer(NullReporter):
    """Progress reporter that records the wall time of each stage."""

    def __init__(self) -> None:
        """Start without recorded stages."""
        self.elapsed_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Time a stage. In the stage "music", sampling ends at the last progress update."""
        started = time.perf_counter()
        ticks = [started]
        yield lambda n=1.0: ticks.append(time.perf_counter())
        ended = time.perf_counter()
        if name == "music":
            self.elapsed_s["sampling"] = ticks[-1] - started
            self.elapsed_s["decoding and phases"] = ended - ticks[-1]
        else:
            self.elapsed_s[name] = ended - started


def main() -> None:
    """Generate one soundtrack and print the times."""
    video = Path(sys.argv[1])
    clock = StageTimer()
    started = time.perf_counter()
    generator = load_generator(SoundtrackSettings())
    clock.elapsed_s["weights"] = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        analysis = analyze_video(video, reporter=clock)
        make_soundtrack(
            analysis, Path(folder, "out.mp4"), generator=generator, seed=0, reporter=clock
        )
    total = time.perf_counter() - started
    info = analysis.info
    print(
        f"{info.duration_s:.1f} s of {info.width}x{info.height} at {info.fps:.4g} fps,"
        f" {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    for name, seconds in [*clock.elapsed_s.items(), ("total", total)]:
        print(f"{name:22} {seconds:7.2f} s  {seconds / info.duration_s:6.3f} of the duration")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':22} {peak:7.0f} MB")


if __name__ == "__main__":
    main()
