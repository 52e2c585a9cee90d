"""Training on a CPU with and without reuse of freed memory: ``python benchmarks/allocator.py``.

Times a minimal loop that trains the ``mini`` denoiser on random latents, alternately in
processes with the default allocator and with `loris_cli.system.allocator.reuse_freed_memory`.
Prints seconds per step of both, and their ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys

import torch
from training import RandomDataStage, time_plain_loop

from loris_cli.system.allocator import reuse_freed_memory

MODES = ("default", "reuse")


def time_in_process(mode: str, steps: int, batch: int) -> float:
    """Return the seconds per step in a new process."""
    command = [sys.executable, __file__, "--mode", mode, "--steps", str(steps)]
    command += ["--batch", str(batch)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Time both modes alternately and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mode", choices=MODES, help="Time this mode in this process.")
    args = parser.parse_args()
    if args.mode is not None:
        if args.mode == "reuse":
            reuse_freed_memory()
        stage = RandomDataStage()
        time_plain_loop(stage, 1, args.batch)
        print(time_plain_loop(stage, args.steps, args.batch))
        return
    times_s: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(args.turns):
        for mode in MODES:
            times_s[mode].append(time_in_process(mode, args.steps, args.batch))
    default_s, reuse_s = (statistics.median(times_s[mode]) for mode in MODES)
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, batch {args.batch}, {args.turns}"
        f" turns of {args.steps} steps\ndefault {default_s:.3f} s a step, reused memory"
        f" {reuse_s:.3f} s, ratio {default_s / reuse_s:.2f}"
    )


if __name__ == "__main__":
    main()
