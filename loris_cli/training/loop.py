"""A training loop: steps that depend on their number alone, so that a stopped run goes on.

Batch, noise and learning rate of step ``k`` are functions of ``(seed, k)``; what is kept is
weights, their moving average and the optimizer's state, written whole or not at all.
"""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast to learn."""

    steps: int
    learning_rate: float
    warmup_steps: int = 50
    betas: tuple[float, float] = (0.9, 0.96)  # LORIS, Sec. 5.1
    weight_decay: float = 0.01
    clip: float = 0.5  # LORIS, Sec. 5.1
    ema_decay: float = 0.999
    save_every_s: float = 300.0


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear rise, then half a cosine to zero."""
    rise = min((step + 1) / config.warmup_steps, 1.0)
    return config.learning_rate * rise * (1 + math.cos(math.pi * step / config.steps)) / 2


def train(
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    config: LoopConfig,
    state_path: Path,
    log_path: Path,
) -> dict[str, Tensor]:
    """Train until the last step, or until SIGTERM, which saves and exits with 0.

    Args:
        model: trained in place.
        loss_at: the loss of a step, from its number.
        config: how long and how fast.
        state_path: where the run is kept; an earlier state there is resumed.
        log_path: one JSON row every 20 steps.

    Returns:
        The moving average of the state dict.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    first = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]

    def save(step: int) -> None:
        part = state_path.with_suffix(".part")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
            },
            part,
        )
        os.replace(part, state_path)

    asked_to_stop: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: asked_to_stop.append(number))
    started = saved = time.monotonic()
    losses: list[float] = []
    try:
        for step in range(first, config.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            value = loss_at(step)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if not torch.isfinite(norm):
                raise FloatingPointError(f"the gradient of step {step} is not finite")
            optimizer.step()
            decay = min(config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                for key, new in model.state_dict().items():
                    average[key].lerp_(new, 1 - decay)
            losses.append(float(value.detach()))
            if (step + 1) % 20 == 0:
                row = {
                    "step": step + 1,
                    "loss": sum(losses) / len(losses),
                    "seconds": round(time.monotonic() - started, 1),
                }
                losses.clear()
                with log_path.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
            if asked_to_stop or time.monotonic() - saved > config.save_every_s:
                save(step + 1)
                saved = time.monotonic()
            if asked_to_stop:
                raise SystemExit(0)
        save(config.steps)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return average
