"""Sampling speed of the paper's network: ``python benchmarks/sampling.py``.

Times one guided evaluation of the full-size network with random weights in two variants:

- ``released``: as in the released code. The conditional and the null pass run sequentially,
  without a key/value cache, with eager attention and norms.
- ``loris``: both passes in one batch, cached keys and values, fused attention and norms.

The variants run alternately, each in a separate process. Prints the time of an evaluation, the
FLOPs, peak memory, the ratios of time and FLOPs, and the number of U-Net passes of a clip.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from unfused import restore_unfused

from loris_cli.models.paper_condition import PaperCondition
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import RHYTHM_OFFSET_FRAMES, PaperModel
from loris_cli.soundtrack.window_layout import count_evaluations

GUIDANCE = 20.0
VARIANTS = ("released", "loris")
SMALL_CONFIG = PaperConfig(
    channels=64, multipliers=(1, 1, 2), factors=(4, 2), num_blocks=(1, 2),
    attentions=(False, True), heads=4, head_features=16, context_features=64,
)  # fmt: skip


class GuidedEvaluation:
    """Repeatable guided evaluation of one variant."""

    def __init__(self, variant: str, config: PaperConfig, device: str, n_samples: int) -> None:
        """Build the network and its condition."""
        self.variant = variant
        with torch.device(device):
            torch.manual_seed(0)
            self.network = PaperModel(to_official_config(config)).eval().requires_grad_(False)
            video = torch.randn(1, config.n_visual_frames, config.context_features)
            rhythm = (
                torch.arange(config.n_pose_frames - RHYTHM_OFFSET_FRAMES) % 8 == 0
            ).float()[None]
            self.x = torch.randn(1, config.in_channels, n_samples)
            self.noise_level = torch.zeros(1)
        self.condition = PaperCondition(visual_tokens=video, rhythm=rhythm)
        self.null_condition = self.network.unet.null_condition(self.condition)
        self.condition_pair = self.condition.concat(self.null_condition, cache_kv=True)
        if variant == "released":
            restore_unfused(self.network)

    def __call__(self) -> Tensor:
        """Return the guided network output F (classifier-free guidance)."""
        if self.variant == "loris":
            return self.network.forward_guided(
                self.x, self.noise_level, self.condition_pair, guidance=GUIDANCE
            )
        unet = self.network.unet
        conditional: Tensor = unet(self.x, self.noise_level, condition=self.condition)
        null: Tensor = unet(self.x, self.noise_level, condition=self.null_condition)
        return null + GUIDANCE * (conditional - null)


@torch.inference_mode()
def print_measurement(variant: str, config: PaperConfig, n_samples: int, repeats: int) -> None:
    """Print times and peak memory of a variant as JSON; the first call fills the cache."""
    evaluation = GuidedEvaluation(variant, config, "cpu", n_samples)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        evaluation()
        seconds.append(time.perf_counter() - started)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds[1:], "first": seconds[0], "peak_gb": peak_gb}))


@torch.no_grad()
def count_flops(variant: str, config: PaperConfig, n_samples: int) -> float:
    """Count the FLOPs of an evaluation with a filled cache, on the meta device."""
    evaluation = GuidedEvaluation(variant, config, "meta", n_samples)
    evaluation()
    with FlopCounterMode(display=False) as counter:
        evaluation()
    return float(counter.get_total_flops())


def main() -> None:
    """Measure both variants alternately, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=19, help="Log2 of the samples per clip.")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="Use a small test network.")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    config = SMALL_CONFIG if args.small else PaperConfig()
    if args.variant:
        print_measurement(args.variant, replace(config), 2**args.log2, args.repeats)
        return
    rows: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
    command = [sys.executable, __file__, *sys.argv[1:], "--variant"]
    for _ in range(args.turns):
        for variant in VARIANTS:
            output = subprocess.check_output([*command, variant], text=True)
            rows[variant].append(json.loads(output))
    seconds = {
        variant: statistics.median(s for row in rows[variant] for s in row["seconds"])
        for variant in VARIANTS
    }
    flops = {variant: count_flops(variant, config, 2**args.log2) for variant in VARIANTS}
    print(
        f"{os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" 2^{args.log2} samples, {args.turns} turns of {args.repeats} guided evaluations"
    )
    for variant in VARIANTS:
        peak_gb = max(row["peak_gb"] for row in rows[variant])
        print(
            f"{variant:9} {seconds[variant]:8.2f} s, {flops[variant] / 1e12:.4f} TFLOP,"
            f" peak {peak_gb:.2f} GB"
        )
    released, loris = 2 * count_evaluations("adpm2", 50), 2 * count_evaluations("dpmpp-2m", 20)
    print(
        f"ratio of times {seconds['released'] / seconds['loris']:.2f},"
        f" of FLOPs {flops['released'] / flops['loris']:.2f};"
        f" U-Net passes per clip {released} (adpm2, 50 steps) and {loris} (dpmpp-2m, 20 steps);"
        f" speed-up per clip {seconds['released'] / seconds['loris'] * released / loris:.1f}"
    )


if __name__ == "__main__":
    main()
