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
from loris_cli.training.datasets import DistributedBatchSampler, Example
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.fsdp import apply_fsdp, full_norm, gather_state, shard_optimizer_state
from loris_cli.training.lr_schedule import (
    build_parameter_groups,
    clips_gradients_per_group,
    compute_learning_rate,
)
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.tensorboard import TensorBoardLog

LogRecord = dict[str, Any]
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals by which clusters take a machine away; a run saves and ends well."""


class TrainingError(LorisError):
    """A run that cannot go on."""

    exit_code = 1


class TrainingStage(Protocol):
    """What is learned, and from what."""

    loss_module: nn.Module
    """Its forward pass is the loss of a batch."""
    train_set: Dataset[Example]
    val_set: Dataset[Example]
    n_clips: int
    backbone_parameter_names: frozenset[str]
    """Names of the learner's parameters that come with weights of their own."""

    def initialize(self) -> None:
        """Set what is known before the first step; a run that goes on does without."""

    def export_weights(
        self, loss_module: nn.Module
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What is worth keeping of a learner, and what is to be said of it."""

    def render_validation_samples(
        self, loss_module: nn.Module, folder: Path, step: int
    ) -> dict[str, float]:
        """Make a few sounds, and tell how they score."""


def count_optimizer_steps(settings: TrainingSettings, n_clips: int) -> int:
    """Optimizer steps of a stage."""
    return settings.steps or max(math.ceil(settings.epochs * n_clips / settings.batch_size), 1)


def train(
    stage: TrainingStage,
    settings: TrainingSettings,
    folder: StageFolder,
    dist_context: DistributedContext,
    *,
    on_log: Callable[[LogRecord], None],
) -> nn.Module:
    """Train a stage to its end, from where it was.

    Args:
        stage: what to learn.
        settings: of the stage.
        folder: where it is kept.
        dist_context: who works on it.
        on_log: hears every row of the log.

    Returns:
        the learner, averaged; where it is parted, whole with the first process alone.

    Raises:
        TrainingError: the loss was no number too often.
        UsageError: the batch cannot be shared evenly.
        SystemExit: a signal of `STOP_SIGNALS` came; all is saved, the code is 0.
    """
    parts = dist_context.world_size * settings.accumulation_steps
    if settings.batch_size % parts:
        raise UsageError(
            f"a batch of {settings.batch_size} cannot be shared by {dist_context.world_size} processes"
            f" in {settings.accumulation_steps} parts each",
            hint=f"give a multiple of {parts} with --set batch=N",
        )
    with ExitStack() as stack:
        run = _StageTrainer(stage, settings, folder, dist_context, on_log)
        if settings.tensorboard and dist_context.is_main_process:
            board = TensorBoardLog(folder.path / "tensorboard", purge_step=run.step)
            run.log_callbacks.append(stack.enter_context(board).log_scalars)
        stopped = stack.enter_context(_deferred_signals())
        for batches in run.iterate_steps():
            run.train_step(batches)
            last = run.step == run.n_steps
            if last or run.step % settings.validate_every == 0:
                run.validate()
            if dist_context.all_reduce_any(bool(stopped)):
                run.save_checkpoint()
                raise SystemExit(0)
            if last or run.is_save_due():
                run.save_checkpoint()
    return run.gather_ema()


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Signals that came, so that a step in work is done first."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in STOP_SIGNALS
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_stop_signals(worker_id: int) -> None:
    """Schedulers signal every process of a job; a reader of examples ends with its trainer."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _StageTrainer:
    """A stage in work."""

    def __init__(
        self,
        stage: TrainingStage,
        settings: TrainingSettings,
        folder: StageFolder,
        dist_context: DistributedContext,
        on_log: Callable[[LogRecord], None],
    ) -> None:
        self.stage, self.settings, self.folder = stage, settings, folder
        self.dist_context, self.on_log = dist_context, on_log
        self.n_steps = count_optimizer_steps(settings, stage.n_clips)
        self.step, self.best_val_loss = 0, math.inf
        self.consecutive_nonfinite_steps = self.n_nonfinite_steps = 0
        device = dist_context.device
        self.uses_fsdp = settings.fsdp and dist_context.world_size > 1
        # What is parted comes to the device in parts.
        home = torch.device("cpu") if self.uses_fsdp else device
        state = folder.read_checkpoint(home)
        if state is None:
            stage.initialize()
        learner = stage.loss_module.to(home)
        self.ema = AveragedModel(learner, multi_avg_fn=self._update_ema)
        if state is not None:
            learner.load_state_dict(state["learner"])
            self.ema.load_state_dict(state["average"])
        self.full_ema = self.ema.module
        if self.uses_fsdp:
            if dist_context.is_main_process:
                self.full_ema = copy.deepcopy(self.ema.module)
            for module in (learner, self.ema.module):
                apply_fsdp(module, device=device, world_size=dist_context.world_size)
        parts = build_parameter_groups(settings, learner, stage.backbone_parameter_names)
        self.optimizer = torch.optim.AdamW(
            [{"params": part, "name": name} for name, part in parts.items()],
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,  # one pass over each parameter: a third of the time on a CPU
        )
        if state is not None:
            kept = state["optimizer"]
            self.optimizer.load_state_dict(
                shard_optimizer_state(kept, self.optimizer) if self.uses_fsdp else kept
            )
            self.step, self.best_val_loss, self.n_nonfinite_steps = (
                state["step"],
                state["best"],
                state["n_bad"],
            )
            if dist_context.is_main_process:
                folder.truncate_metrics(self.step)
        if settings.compile:
            learner.compile()
        self.wrapped_module = dist_context.wrap_ddp(learner)
        self.log_callbacks: list[Callable[[LogRecord], None]] = []
        self.losses: list[float] = []
        self.started_at = self.saved_at = time.monotonic()
        self.data_wait_s = 0.0

    def _update_ema(self, ema_parameters: Any, parameters: Any, n_updates: Any) -> None:
        """Karras et al. (2022) average with a half-life; so short a run must warm it up."""
        n = int(n_updates)
        decay = min(self.settings.ema_decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(ema_parameters, parameters, 1 - decay)

    def iterate_steps(self) -> Iterator[list[Example]]:
        """The batches of each step that is left, as many as a share is taken in."""
        if self.step >= self.n_steps:
            return
        loader = DataLoader(
            self.stage.train_set,
            batch_sampler=DistributedBatchSampler(
                first_step=self.step,
                batch_size=self.settings.batch_size,
                rank=self.dist_context.rank,
                world_size=self.dist_context.world_size,
                accumulation_steps=self.settings.accumulation_steps,
            ),
            num_workers=self.settings.loader_workers,
            worker_init_fn=_ignore_stop_signals,
            pin_memory=self.dist_context.device.type == "cuda",
        )
        examples = iter(loader)
        while self.step < self.n_steps:
            asked = time.monotonic()
            parts = [next(examples) for _ in range(self.settings.accumulation_steps)]
            self.data_wait_s += time.monotonic() - asked
            yield parts

    def train_step(self, micro_batches: list[Example]) -> None:
        """One step of the optimizer, unless the loss or its gradient is no number."""
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = compute_learning_rate(
                settings.recipe, group["name"], self.step, settings, self.n_steps
            )
        self.optimizer.zero_grad(set_to_none=True)
        value = torch.zeros((), device=self.dist_context.device)
        for k, batch in enumerate(micro_batches):
            with (
                nullcontext()
                if k + 1 == len(micro_batches)
                else self.dist_context.no_sync(self.wrapped_module)
            ):
                part = self._compute_loss(self.wrapped_module, batch) / len(micro_batches)
                part.backward()  # type: ignore[no-untyped-call]
            value += part.detach()
        norm = self._clip_gradients()
        value = self.dist_context.all_reduce_mean(value)
        self.step += 1
        if bool(torch.isfinite(value) & torch.isfinite(norm)):
            self.optimizer.step()
            self.ema.update_parameters(self.stage.loss_module)
            self.losses.append(float(value))
            self.consecutive_nonfinite_steps = 0
        else:
            self._record_nonfinite_step()
        if self.step % settings.log_every == 0 or self.step == self.n_steps:
            self._log_progress(float(norm))

    def _compute_loss(self, loss_module: nn.Module, batch: Example) -> Tensor:
        device = self.dist_context.device
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            value: Tensor = loss_module(moved)
        return value

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients; the norm of them all before."""
        parts = [group["params"] for group in self.optimizer.param_groups]
        if clips_gradients_per_group(self.settings.recipe):
            norms = [
                nn.utils.clip_grad_norm_(part, self.settings.max_grad_norm) for part in parts
            ]
            norm: Tensor = torch.stack([full_norm(norm) for norm in norms]).norm()
        else:
            every = [parameter for part in parts for parameter in part]
            norm = full_norm(nn.utils.clip_grad_norm_(every, self.settings.max_grad_norm))
        return norm

    def _record_nonfinite_step(self) -> None:
        """A step that taught nothing: told of, counted, and too many are the end."""
        self.n_nonfinite_steps += 1
        self.consecutive_nonfinite_steps += 1
        first = (self.step - 1) * self.settings.batch_size
        where = f"examples {first} to {first + self.settings.batch_size - 1}"
        self._emit_record({"step": self.step, "bad": where, "n_bad": self.n_nonfinite_steps})
        if self.consecutive_nonfinite_steps > self.settings.max_nonfinite_steps:
            raise TrainingError(
                f"the loss was no number in {self.consecutive_nonfinite_steps} steps in a row,"
                f" the last at step {self.step}, {where}",
                hint="a lower learning_rate, or bf16=false, may help; the last save is whole",
            )

    def _log_progress(self, grad_norm: float) -> None:
        passed = max(time.monotonic() - self.started_at, 1e-9)
        rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        self._emit_record(
            {
                "step": self.step,
                "loss": sum(self.losses) / len(self.losses) if self.losses else None,
                "rate": rates,
                "gradient": grad_norm if math.isfinite(grad_norm) else None,
                "seconds": round(passed, 1),
                "waited": round(self.data_wait_s / passed, 4),
            }
        )
        self.losses.clear()

    def _emit_record(self, record: LogRecord) -> None:
        if self.dist_context.is_main_process:
            self.folder.append_metrics(record)
            for listener in self.log_callbacks:
                listener(record)
            self.on_log({**record, "n_steps": self.n_steps})

    @torch.no_grad()
    def validate(self) -> None:
        """The loss of the average on held-out clips, the same every time, and a few sounds."""
        averaged = self.gather_ema() if self.settings.validation_clips else None
        if self.dist_context.is_main_process and averaged is not None:
            learner = averaged.to(self.dist_context.device).eval()
            numbers = range(self.settings.validation_clips)
            loader = DataLoader(
                Subset(self.stage.val_set, list(numbers)),
                batch_size=max(self.settings.batch_size // self.settings.accumulation_steps, 1),
            )
            total = sum(
                float(self._compute_loss(learner, batch)) * len(next(iter(batch.values())))
                for batch in loader
            )
            value = total / len(numbers)
            row: LogRecord = {"step": self.step, "held_out": value}
            if self.settings.validation_samples:
                row |= self.stage.render_validation_samples(
                    learner, self.folder.samples_dir, self.step
                )
            self._emit_record(row)
            if value < self.best_val_loss:
                self.best_val_loss = value
                self._write_ema_weights(self.folder.best_weights)
            learner.train()
            if self.uses_fsdp:
                learner.cpu()
        self.dist_context.barrier()

    def gather_ema(self) -> nn.Module:
        """The learner, averaged; where it is parted, whole with the first process alone."""
        if self.uses_fsdp:
            weights = gather_state(
                self.ema.module.state_dict(), keep_result=self.dist_context.is_main_process
            )
            if self.dist_context.is_main_process:
                self.full_ema.load_state_dict(weights)
        return self.full_ema

    def is_save_due(self) -> bool:
        """Whether it is long enough since the last save; the first process decides."""
        long = time.monotonic() - self.saved_at > self.settings.save_every_s
        return self.dist_context.all_reduce_any(long and self.dist_context.is_main_process)

    def save_checkpoint(self) -> None:
        """Keep all that the run goes on from, and the average for use."""
        state = {
            "step": self.step,
            "best": self.best_val_loss,
            "n_bad": self.n_nonfinite_steps,
            "learner": self.stage.loss_module.state_dict(),
            "average": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.uses_fsdp:
            state = gather_state(state, keep_result=self.dist_context.is_main_process)
        self.gather_ema()
        if self.dist_context.is_main_process:
            self.folder.write_checkpoint(state)
            self._write_ema_weights(self.folder.last_weights)
        self.saved_at = time.monotonic()
        self.dist_context.barrier()

    def _write_ema_weights(self, path: Path) -> None:
        tensors, metadata = self.stage.export_weights(self.full_ema)
        told = {f"loris.{key}": str(value) for key, value in asdict(self.settings).items()}
        write_weights(path, tensors, {**metadata, **told, "loris.step": str(self.step)})
