"""Training loop of all stages: batch, loss, gradients, optimizer step, validation, saves.

Examples, learning rate and noise of step ``k`` are functions of ``(seed, k)``. The saved state
has the weights, their moving average, the optimizer state and the random generators, from which
dropout draws. On a CPU a resumed run is therefore bit-identical to an uninterrupted one.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Subset

from loris_cli.errors import LorisError, UsageError
from loris_cli.system.optional_packages import import_optional
from loris_cli.training import fsdp, random_states
from loris_cli.training.checkpoints import StageFolder, TrainingState, Weights, write_weights
from loris_cli.training.datasets import DistributedBatchSampler, Example
from loris_cli.training.distributed import DistributedContext
from loris_cli.training.lr_schedule import build_parameter_groups, compute_lr
from loris_cli.training.optimizer_state import load_optimizer_state
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.stop_signals import deferred_signals, ignore_stop_signals

LogRecord = dict[str, Any]
STATE_FIELDS = (
    "step", "best_val_loss", "n_nonfinite_steps", "consecutive_nonfinite_steps", "losses",
)  # fmt: skip
"""Fields of the trainer that are saved beside tensors and random states."""


class TrainingError(LorisError):
    """Training cannot continue."""

    exit_code = 1


class TrainingStage(Protocol):
    """Network, loss and data of a stage."""

    loss_module: nn.Module
    """Module whose forward pass returns the loss of a batch."""
    train_set: Dataset[Example]
    val_set: Dataset[Example]
    n_clips: int
    backbone_keys: frozenset[str] = frozenset()
    """Names of the parameters of `loss_module` that a trained backbone has."""

    def initialize(self) -> None:
        """Set the initial state of a new run; not called on resume."""

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of the network in a loss module, and their metadata."""

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate audio for a few validation clips and return the scores."""
        return {}


def count_optimizer_steps(settings: TrainingSettings, n_clips: int) -> int:
    """Return the number of optimizer steps of a stage."""
    return settings.steps or max(math.ceil(settings.epochs * n_clips / settings.batch_size), 1)


def train(
    stage: TrainingStage,
    settings: TrainingSettings,
    folder: StageFolder,
    dist_context: DistributedContext,
    *,
    on_log: Callable[[LogRecord], None],
) -> nn.Module:
    """Train a stage to its last step, from the beginning or from the last save.

    Args:
        stage: network, loss and data.
        settings: settings of the stage.
        folder: folder of the stage.
        dist_context: rank and device of this process.
        on_log: called with each metrics record, which also has the total number of steps.

    Returns:
        the loss module with EMA weights; with FSDP only rank 0 has all of them.

    Raises:
        TrainingError: the loss was NaN or infinite in too many consecutive steps.
        UsageError: the batch size is not divisible by the number of micro-batches.
        SystemExit: with code 0 after a save, on a signal in `stop_signals.STOP_SIGNALS`.
    """
    n_micro_batches = dist_context.world_size * settings.accumulation_steps
    if settings.batch_size % n_micro_batches:
        raise UsageError(
            f"batch_size {settings.batch_size} is not divisible by"
            f" {dist_context.world_size} processes x {settings.accumulation_steps} accumulation"
            " steps",
            hint=f"pass a multiple of {n_micro_batches} with --set batch_size=N",
        )
    with ExitStack() as stack:
        trainer = _StageTrainer(stage, settings, folder, dist_context, on_log)
        if settings.tensorboard and dist_context.is_main_process:
            writer = stack.enter_context(open_tensorboard(folder.path, trainer.step))
            trainer.log_callbacks.append(partial(_log_scalars, writer))
        signals = stack.enter_context(deferred_signals())
        for micro_batches in trainer.iterate_steps():
            trainer.train_step(micro_batches)
            is_last = trainer.step == trainer.n_steps
            if is_last or trainer.step % settings.validate_every == 0:
                with random_states.preserve_random_state(dist_context.device):
                    trainer.validate()
            if dist_context.all_reduce_any(bool(signals)):
                trainer.save_checkpoint()
                raise SystemExit(0)
            if is_last or trainer.is_save_due():
                trainer.save_checkpoint()
    return trainer.gather_ema()


def open_tensorboard(folder: Path, purge_step: int) -> Any:
    """Open a TensorBoard writer that discards earlier events from ``purge_step`` on.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """
    import_optional("tensorboard", extra="tensorboard", purpose="log to TensorBoard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)


def _log_scalars(writer: Any, record: LogRecord) -> None:
    for name, value in record.items():
        for key, number in (value if isinstance(value, dict) else {"": value}).items():
            if name != "step" and isinstance(number, int | float):
                tag = f"{name}/{key}".rstrip("/")
                writer.add_scalar(tag, number, global_step=record["step"])


class _StageTrainer:
    """State of a stage in training."""

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
        self.uses_fsdp = settings.fsdp and dist_context.world_size > 1
        # The order matters: full weights are loaded, then sharded. The optimizer and its state
        # need the sharded parameters, and DDP wraps the compiled module.
        state = self._load_module()
        self.optimizer = self._build_optimizer(state)
        self.losses: list[float] = []
        self.random_states: list[random_states.RandomState] = []
        if state is not None:
            for name in STATE_FIELDS:
                setattr(self, name, state[name])
            self.random_states = state["random_states"]
            if dist_context.is_main_process:
                folder.truncate_metrics(self.step)
        if settings.compile:
            self.module.compile()
        self.wrapped_module = dist_context.wrap_ddp(self.module)
        self.log_callbacks: list[Callable[[LogRecord], None]] = []
        self.started_at = self.saved_at = time.monotonic()
        self.data_wait_s = 0.0

    def _load_module(self) -> TrainingState | None:
        """Load the last save, if any, into the loss module and its average, and shard both."""
        device = self.dist_context.device
        load_device = torch.device("cpu") if self.uses_fsdp else device
        state = self.folder.read_checkpoint(load_device)
        if state is None:
            self.stage.initialize()
        self.module = self.stage.loss_module.to(load_device)
        self.ema = AveragedModel(self.module, multi_avg_fn=self._update_ema)
        if state is not None:
            with self.folder.resume_errors():
                self.module.load_state_dict(state["model"])
                self.ema.load_state_dict(state["ema"])
        self.full_ema = self.ema.module
        if self.uses_fsdp:
            if self.dist_context.is_main_process:
                self.full_ema = copy.deepcopy(self.ema.module)
            for module in (self.module, self.ema.module):
                fsdp.apply_fsdp(module, device=device, world_size=self.dist_context.world_size)
        return state

    def _build_optimizer(self, state: TrainingState | None) -> torch.optim.AdamW:
        settings = self.settings
        groups = build_parameter_groups(settings, self.module, self.stage.backbone_keys)
        optimizer = torch.optim.AdamW(
            [{"params": parameters, "name": name} for name, parameters in groups.items()],
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,  # one pass per parameter: a third of the time on a CPU
        )
        if state is not None:
            with self.folder.resume_errors():
                load_optimizer_state(optimizer, state["optimizer"])
        return optimizer

    def _update_ema(self, ema_parameters: Any, parameters: Any, n_updates: Any) -> None:
        """Update the EMA with a decay that warms up; Karras et al. (2022) use a half-life."""
        n = int(n_updates)
        decay = min(self.settings.ema_decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(ema_parameters, parameters, 1 - decay)

    def iterate_steps(self) -> Iterator[list[Example]]:
        """Yield the micro-batches of each remaining step."""
        if self.step >= self.n_steps:
            return
        n_micro_batches = self.settings.accumulation_steps
        loader = DataLoader(
            self.stage.train_set,
            batch_sampler=DistributedBatchSampler(
                first_step=self.step,
                batch_size=self.settings.batch_size,
                rank=self.dist_context.rank,
                world_size=self.dist_context.world_size,
                accumulation_steps=n_micro_batches,
            ),
            num_workers=self.settings.loader_workers,
            worker_init_fn=ignore_stop_signals,
            pin_memory=self.dist_context.device.type == "cuda",
        )
        batches = iter(loader)  # draws a number
        if self.random_states:  # possibly of another number of processes
            rank = self.dist_context.rank % len(self.random_states)
            with self.folder.resume_errors():
                random_states.set_random_state(
                    self.random_states[rank], self.dist_context.device
                )
        while self.step < self.n_steps:
            started_at = time.monotonic()
            micro_batches = [next(batches) for _ in range(n_micro_batches)]
            self.data_wait_s += time.monotonic() - started_at
            yield micro_batches

    def train_step(self, micro_batches: list[Example]) -> None:
        """Run one optimizer step; skip the update if the loss or the gradient is not finite."""
        settings, context = self.settings, self.dist_context
        for group in self.optimizer.param_groups:
            group["lr"] = compute_lr(settings, group["name"], self.step, self.n_steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=context.device)
        for k, batch in enumerate(micro_batches, start=1):
            is_last = k == len(micro_batches)
            with nullcontext() if is_last else context.no_sync(self.wrapped_module):
                micro_loss = self._compute_loss(self.wrapped_module, batch) / len(micro_batches)
                micro_loss.backward()  # type: ignore[no-untyped-call]
            loss += micro_loss.detach()
        norm = self._clip_gradients()
        loss = context.all_reduce_mean(loss)
        self.step += 1
        if bool(torch.isfinite(loss) & torch.isfinite(norm)):
            self.optimizer.step()
            self.ema.update_parameters(self.module)
            self.losses.append(float(loss))
            self.consecutive_nonfinite_steps = 0
        else:
            self._record_nonfinite_step()
        if self.step % settings.log_every == 0 or self.step == self.n_steps:
            self._log_progress(float(norm))

    def _compute_loss(self, loss_module: nn.Module, batch: Example) -> Tensor:
        device = self.dist_context.device
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=self.settings.bf16):
            loss: Tensor = loss_module(batch)
        return loss

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients and return their total norm before clipping."""
        groups = [group["params"] for group in self.optimizer.param_groups]
        # The released code clips per group (docs/differences.md, T4).
        per_group = self.settings.recipe == "official"
        if not per_group:
            groups = [list(chain(*groups))]
        limit = self.settings.max_grad_norm
        norms = [fsdp.full_norm(nn.utils.clip_grad_norm_(group, limit)) for group in groups]
        return torch.stack(norms).norm() if per_group else norms[0]

    def _record_nonfinite_step(self) -> None:
        """Log and count a step without an update; raise after too many consecutive ones."""
        self.n_nonfinite_steps += 1
        self.consecutive_nonfinite_steps += 1
        first = (self.step - 1) * self.settings.batch_size
        examples = f"examples {first} to {first + self.settings.batch_size - 1}"
        self._emit_record(nonfinite_examples=examples, n_nonfinite_steps=self.n_nonfinite_steps)
        if self.consecutive_nonfinite_steps > self.settings.max_nonfinite_steps:
            raise TrainingError(
                f"training stopped: loss is NaN or inf in {self.consecutive_nonfinite_steps}"
                f" consecutive steps, last at step {self.step} ({examples})",
                hint="try a lower learning_rate, or bf16=false; the last save is intact",
            )

    def _log_progress(self, grad_norm: float) -> None:
        elapsed_s = max(time.monotonic() - self.started_at, 1e-9)
        self._emit_record(
            loss=sum(self.losses) / len(self.losses) if self.losses else None,
            learning_rate={group["name"]: group["lr"] for group in self.optimizer.param_groups},
            grad_norm=grad_norm if math.isfinite(grad_norm) else None,
            elapsed_s=round(elapsed_s, 1),
            data_wait_fraction=round(self.data_wait_s / elapsed_s, 4),
        )
        self.losses.clear()

    def _emit_record(self, **values: Any) -> None:
        if self.dist_context.is_main_process:
            record = {"step": self.step, **values}
            self.folder.append_metrics(record)
            for callback in self.log_callbacks:
                callback(record)
            self.on_log({**record, "n_steps": self.n_steps})

    @torch.no_grad()
    def validate(self) -> None:
        """Log the loss of the EMA weights on fixed validation examples; generate samples."""
        settings = self.settings
        averaged = self.gather_ema() if settings.validation_clips else None
        if self.dist_context.is_main_process and averaged is not None:
            averaged.to(self.dist_context.device).eval()
            loader = DataLoader(
                Subset(self.stage.val_set, range(settings.validation_clips)),
                batch_size=max(settings.batch_size // settings.accumulation_steps, 1),
            )
            total = sum(
                float(self._compute_loss(averaged, batch)) * len(next(iter(batch.values())))
                for batch in loader
            )
            val_loss = total / settings.validation_clips
            scores = {}
            if settings.validation_samples:
                scores = self.stage.render_samples(averaged, self.folder.samples_dir, self.step)
            self._emit_record(val_loss=val_loss, **scores)
            if val_loss < self.best_val_loss:
                self.best_val_loss = val_loss
                self._write_ema_weights(self.folder.best_weights)
            averaged.train()
            if self.uses_fsdp:
                averaged.cpu()
        self.dist_context.barrier()

    def gather_ema(self) -> nn.Module:
        """Return the loss module with EMA weights; with FSDP only rank 0 has all of them."""
        if self.uses_fsdp:
            is_main = self.dist_context.is_main_process
            weights = fsdp.gather_state(self.ema.module.state_dict(), keep_result=is_main)
            if is_main:
                self.full_ema.load_state_dict(weights)
        return self.full_ema

    def is_save_due(self) -> bool:
        """Return whether a save is due, as decided by rank 0."""
        is_due = time.monotonic() - self.saved_at > self.settings.save_every_s
        return self.dist_context.all_reduce_any(is_due and self.dist_context.is_main_process)

    def save_checkpoint(self) -> None:
        """Write the resume state and the EMA weights."""
        context = self.dist_context
        state: TrainingState = {
            **{name: getattr(self, name) for name in STATE_FIELDS},
            "random_states": random_states.gather_random_states(
                context.device, context.world_size
            ),
            "model": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        is_main = context.is_main_process
        if self.uses_fsdp:
            state = fsdp.gather_state(state, keep_result=is_main)
        self.gather_ema()
        if is_main:
            self.folder.write_checkpoint(state)
            self._write_ema_weights(self.folder.last_weights)
        self.saved_at = time.monotonic()
        context.barrier()

    def _write_ema_weights(self, path: Path) -> None:
        tensors, metadata = self.stage.export_weights(self.full_ema)
        settings = {f"loris.{key}": str(value) for key, value in asdict(self.settings).items()}
        write_weights(path, tensors, {**settings, **metadata, "loris.step": str(self.step)})
