"""Where the time of one soundtrack goes: ``python benchmarks/stages.py VIDEO``.

Prints the seconds of each stage of the real way, in one process after the imports, with the
ratio of each to the video's length, and the peak memory. The first line says on what.
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
    """A reporter that notes how long each stage takes."""

    def __init__(self) -> None:
        """Begin with no stages."""
        self.elapsed_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        """Time a stage; the last call of the network ends sampling, the rest is sound."""
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
    """Make one soundtrack and print the times."""
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
    for name, seconds in [*clock.elapsed_s.items(), ("all", total)]:
        print(f"{name:22} {seconds:7.2f} s  {seconds / info.duration_s:6.3f} of the length")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak memory':22} {peak:7.0f} MB")


if __name__ == "__main__":
    main()
