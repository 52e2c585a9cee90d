"""The loop of every stage: batch, loss, gradient, step; now and then a look and a save.

Example, learning rate and noise of step ``k`` are functions of ``(seed, k)``. What is kept is
weights, their moving average and the optimizer's state, so a run that was stopped ends with
the same bits on a CPU as one that was not.
"""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Subset

from loris_cli.errors import LorisError, UsageError
from loris_cli.training.checkpoints import StageFolder, write_weights
from loris_cli.training.datasets import Batches, Example
from loris_cli.training.distributed import Processes
from loris_cli.training.fsdp import parted, shard, whole, whole_norm
from loris_cli.training.lr_schedule import clips_each_group, groups, rate
from loris_cli.training.settings import Settings
from loris_cli.training.tensorboard import Board

Row = dict[str, Any]
STOPPED = (signal.SIGTERM, signal.SIGUSR1)
"""Signals by which clusters take a machine away; a run saves and ends well."""


class TrainingError(LorisError):
    """A run that cannot go on."""

    exit_code = 1


class Stage(Protocol):
    """What is learned, and from what."""

    learner: nn.Module
    """Its forward pass is the loss of a batch."""
    examples: Dataset[Example]
    held_out: Dataset[Example]
    n_clips: int
    backbone: frozenset[str]
    """Names of the learner's parameters that come with weights of their own."""

    def begin(self) -> None:
        """Set what is known before the first step; a run that goes on does without."""

    def weights(self, learner: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What is worth keeping of a learner, and what is to be said of it."""

    def listen(self, learner: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Make a few sounds, and tell how they score."""


def n_steps_of(settings: Settings, n_clips: int) -> int:
    """Optimizer steps of a stage."""
    return settings.steps or max(math.ceil(settings.epochs * n_clips / settings.batch), 1)


def train(
    stage: Stage,
    settings: Settings,
    folder: StageFolder,
    processes: Processes,
    *,
    tell: Callable[[Row], None],
) -> nn.Module:
    """Train a stage to its end, from where it was.

    Args:
        stage: what to learn.
        settings: of the stage.
        folder: where it is kept.
        processes: who works on it.
        tell: hears every row of the log.

    Returns:
        the learner, averaged; where it is parted, whole with the first process alone.

    Raises:
        TrainingError: the loss was no number too often.
        UsageError: the batch cannot be shared evenly.
        SystemExit: a signal of `STOPPED` came; all is saved, the code is 0.
    """
    parts = processes.world * settings.accumulate
    if settings.batch % parts:
        raise UsageError(
            f"a batch of {settings.batch} cannot be shared by {processes.world} processes"
            f" in {settings.accumulate} parts each",
            hint=f"give a multiple of {parts} with --set batch=N",
        )
    with ExitStack() as stack:
        run = _Run(stage, settings, folder, processes, tell)
        if settings.tensorboard and processes.first:
            board = Board(folder.path / "tensorboard", step=run.step)
            run.listeners.append(stack.enter_context(board).tell)
        stopped = stack.enter_context(_heeding())
        for batches in run.batches():
            run.step_on(batches)
            last = run.step == run.n_steps
            if last or run.step % settings.validate_every == 0:
                run.validate()
            if processes.any(bool(stopped)):
                run.save()
                raise SystemExit(0)
            if last or run.due():
                run.save()
    return run.averaged()


@contextmanager
def _heeding() -> Iterator[list[int]]:
    """Signals that came, so that a step in work is done first."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in STOPPED
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unheeding(worker: int) -> None:
    """Schedulers signal every process of a job; a reader of examples ends with its trainer."""
    for number in STOPPED:
        signal.signal(number, signal.SIG_IGN)


class _Run:
    """A stage in work."""

    def __init__(
        self,
        stage: Stage,
        settings: Settings,
        folder: StageFolder,
        processes: Processes,
        tell: Callable[[Row], None],
    ) -> None:
        self.stage, self.settings, self.folder = stage, settings, folder
        self.processes, self.tell = processes, tell
        self.n_steps = n_steps_of(settings, stage.n_clips)
        self.step, self.best = 0, math.inf
        self.bad_in_a_row = self.n_bad = 0
        device = processes.device
        self.sharded = settings.shard and processes.world > 1
        # What is parted comes to the device in parts.
        home = torch.device("cpu") if self.sharded else device
        state = folder.read_state(home)
        if state is None:
            stage.begin()
        learner = stage.learner.to(home)
        self.average = AveragedModel(learner, multi_avg_fn=self._average)
        if state is not None:
            learner.load_state_dict(state["learner"])
            self.average.load_state_dict(state["average"])
        self.unparted = self.average.module
        if self.sharded:
            if processes.first:
                self.unparted = copy.deepcopy(self.average.module)
            for module in (learner, self.average.module):
                shard(module, device=device, world=processes.world)
        parts = groups(settings, learner, stage.backbone)
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "name": name} for name, part in parts.items()],
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,  # one pass over each parameter: a third of the time on a CPU
        )
        if state is not None:
            kept = state["optimizer"]
            self.optimizer.load_state_dict(
                parted(kept, self.optimizer) if self.sharded else kept
            )
            self.step, self.best, self.n_bad = state["step"], state["best"], state["n_bad"]
            if processes.first:
                folder.cut_log(self.step)
        if settings.compile:
            learner.compile()
        self.shared = processes.wrap(learner)
        self.listeners: list[Callable[[Row], None]] = []
        self.losses: list[float] = []
        self.began = self.saved = time.monotonic()
        self.waited_s = 0.0

    def _average(self, averaged: Any, current: Any, n_averaged: Any) -> None:
        """Karras et al. (2022) average with a half-life; so short a run must warm it up."""
        n = int(n_averaged)
        decay = min(self.settings.ema, (1 + n) / (10 + n))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def batches(self) -> Iterator[list[Example]]:
        """The batches of each step that is left, as many as a share is taken in."""
        if self.step >= self.n_steps:
            return
        loader = DataLoader(
            self.stage.examples,
            batch_sampler=Batches(
                first_step=self.step,
                batch=self.settings.batch,
                rank=self.processes.rank,
                world=self.processes.world,
                accumulate=self.settings.accumulate,
            ),
            num_workers=self.settings.workers,
            worker_init_fn=_unheeding,
            pin_memory=self.processes.device.type == "cuda",
        )
        examples = iter(loader)
        while self.step < self.n_steps:
            asked = time.monotonic()
            parts = [next(examples) for _ in range(self.settings.accumulate)]
            self.waited_s += time.monotonic() - asked
            yield parts

    def step_on(self, batches: list[Example]) -> None:
        """One step of the optimizer, unless the loss or its gradient is no number."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = rate(
                settings.recipe, group["name"], self.step, settings, self.n_steps
            )
        self.optimizer.zero_grad(set_to_none=True)
        value = torch.zeros((), device=self.processes.device)
        for k, batch in enumerate(batches):
            with nullcontext() if k + 1 == len(batches) else self.processes.apart(self.shared):
                part = self._loss(self.shared, batch) / len(batches)
                part.backward()  # type: ignore[no-untyped-call]
            value += part.detach()
        norm = self._clip()
        value = self.processes.mean(value)
        self.step += 1
        if bool(torch.isfinite(value) & torch.isfinite(norm)):
            self.optimizer.step()
            self.average.update_parameters(self.stage.learner)
            self.losses.append(float(value))
            self.bad_in_a_row = 0
        else:
            self._bad()
        if self.step % settings.log_every == 0 or self.step == self.n_steps:
            self._log(float(norm))

    def _loss(self, learner: nn.Module, batch: Example) -> Tensor:
        device = self.processes.device
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            value: Tensor = learner(moved)
        return value

    def _clip(self) -> Tensor:
        """Clip the gradients; the norm of them all before."""
        parts = [group["params"] for group in self.optimizer.param_groups]
        if clips_each_group(self.settings.recipe):
            norms = [nn.utils.clip_grad_norm_(part, self.settings.clip) for part in parts]
            norm: Tensor = torch.stack([whole_norm(norm) for norm in norms]).norm()
        else:
            every = [parameter for part in parts for parameter in part]
            norm = whole_norm(nn.utils.clip_grad_norm_(every, self.settings.clip))
        return norm

    def _bad(self) -> None:
        """A step that taught nothing: told of, counted, and too many are the end."""
        self.n_bad += 1
        self.bad_in_a_row += 1
        first = (self.step - 1) * self.settings.batch
        where = f"examples {first} to {first + self.settings.batch - 1}"
        self._write({"step": self.step, "bad": where, "n_bad": self.n_bad})
        if self.bad_in_a_row > self.settings.most_bad_steps:
            raise TrainingError(
                f"the loss was no number in {self.bad_in_a_row} steps in a row,"
                f" the last at step {self.step}, {where}",
                hint="a lower learning_rate, or bf16=false, may help; the last save is whole",
            )

    def _log(self, norm: float) -> None:
        passed = max(time.monotonic() - self.began, 1e-9)
        rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        self._write(
            {
                "step": self.step,
                "loss": sum(self.losses) / len(self.losses) if self.losses else None,
                "rate": rates,
                "gradient": norm if math.isfinite(norm) else None,
                "seconds": round(passed, 1),
                "waited": round(self.waited_s / passed, 4),
            }
        )
        self.losses.clear()

    def _write(self, row: Row) -> None:
        if self.processes.first:
            self.folder.write_row(row)
            for listener in self.listeners:
                listener(row)
            self.tell({**row, "n_steps": self.n_steps})

    @torch.no_grad()
    def validate(self) -> None:
        """The loss of the average on held-out clips, the same every time, and a few sounds."""
        averaged = self.averaged() if self.settings.validate_clips else None
        if self.processes.first and averaged is not None:
            learner = averaged.to(self.processes.device).eval()
            numbers = range(self.settings.validate_clips)
            loader = DataLoader(
                Subset(self.stage.held_out, list(numbers)),
                batch_size=max(self.settings.batch // self.settings.accumulate, 1),
            )
            total = sum(
                float(self._loss(learner, batch)) * len(next(iter(batch.values())))
                for batch in loader
            )
            value = total / len(numbers)
            row: Row = {"step": self.step, "held_out": value}
            if self.settings.sounds:
                row |= self.stage.listen(learner, self.folder.sounds, self.step)
            self._write(row)
            if value < self.best:
                self.best = value
                self._keep(self.folder.best)
            learner.train()
            if self.sharded:
                learner.cpu()
        self.processes.wait()

    def averaged(self) -> nn.Module:
        """The learner, averaged; where it is parted, whole with the first process alone."""
        if self.sharded:
            weights = whole(self.average.module.state_dict(), keep=self.processes.first)
            if self.processes.first:
                self.unparted.load_state_dict(weights)
        return self.unparted

    def due(self) -> bool:
        """Whether it is long enough since the last save; the first process decides."""
        long = time.monotonic() - self.saved > self.settings.save_every_s
        return self.processes.any(long and self.processes.first)

    def save(self) -> None:
        """Keep all that the run goes on from, and the average for use."""
        state = {
            "step": self.step,
            "best": self.best,
            "n_bad": self.n_bad,
            "learner": self.stage.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.sharded:
            state = whole(state, keep=self.processes.first)
        self.averaged()
        if self.processes.first:
            self.folder.write_state(state)
            self._keep(self.folder.last)
        self.saved = time.monotonic()
        self.processes.wait()

    def _keep(self, path: Path) -> None:
        tensors, metadata = self.stage.weights(self.unparted)
        told = {f"loris.{key}": str(value) for key, value in asdict(self.settings).items()}
        write_weights(path, tensors, {**metadata, **told, "loris.step": str(self.step)})
