"""How fast is the paper's network sampled? ``python benchmarks/sampling.py``.

One guided evaluation of the full-size network with random weights, as the released recipe has
it (the two sides of guidance one after the other, no cache, eager attention and norms) and
as loris does it (both in one batch, keys and values cached, torch's attention and norms). Each
variant runs in a process of its own, in turns. Prints seconds an evaluation, their ratio
beside the ratio of counted FLOPs, peak memory, and passes through the U-Net that a clip takes.
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

from loris_cli.models.diffusion import count_evaluations
from loris_cli.models.paper_condition import PaperCondition
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import RHYTHM_OFFSET_FRAMES, PaperModel

GUIDANCE = 20.0
VARIANTS = ("released", "loris")
SMALL_CONFIG = PaperConfig(
    channels=64, multipliers=(1, 1, 2), factors=(4, 2), num_blocks=(1, 2),
    attentions=(False, True), heads=4, head_features=16, context_features=64,
)  # fmt: skip


class GuidedEvaluation:
    """One guided evaluation of a variant, to be made again and again."""

    def __init__(self, variant: str, config: PaperConfig, device: str, n_samples: int) -> None:
        """Make the network and its condition."""
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
        """F with guidance."""
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
    """Print what one variant takes, as JSON; the first evaluation fills the cache."""
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
    """Count the operations of an evaluation with a filled cache, without doing them."""
    evaluation = GuidedEvaluation(variant, config, "meta", n_samples)
    evaluation()
    with FlopCounterMode(display=False) as counter:
        evaluation()
    return float(counter.get_total_flops())


def main() -> None:
    """Measure both variants turn by turn, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log2", type=int, default=19, help="samples of a clip, as a power")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a small network, to try this")
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
        f"ratio of seconds {seconds['released'] / seconds['loris']:.2f},"
        f" of FLOPs {flops['released'] / flops['loris']:.2f};"
        f" passes a clip {released} (adpm2, 50 steps) against {loris} (dpmpp-2m, 20 steps),"
        f" together {seconds['released'] / seconds['loris'] * released / loris:.1f} times less"
    )


if __name__ == "__main__":
    main()
