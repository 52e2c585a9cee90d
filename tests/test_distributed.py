"""Processes of a training run find each other, and report those that are missing."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from loris_cli.errors import LorisError, UsageError
from loris_cli.training import distributed_store
from loris_cli.training.distributed import init_distributed
from loris_cli.training.distributed_store import join_store

WITHOUT_SRUN = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}


@pytest.fixture
def address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return "localhost", int(probe.getsockname()[1])


def join(address: tuple[str, int], **changes: Any) -> Any:
    options: dict[str, Any] = {
        "rank": 0,
        "world_size": 2,
        "launcher": "srun",
        "warn": pytest.fail,
        "timeout": timedelta(seconds=20),
    }
    return join_store(address, **options | changes)


def test_processes_join_in_any_order(address: tuple[str, int]) -> None:
    stores: dict[int, Any] = {}
    threads = [
        threading.Thread(
            target=lambda rank=rank: stores.update({rank: join(address, rank=rank)})
        )
        for rank in (1, 0)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    stores[0].set("key", "value")
    assert stores[1].get("key") == b"value"


@pytest.mark.parametrize(
    ("rank", "world_size", "missing"),
    [(0, 2, "1 of 2 processes"), (0, 16, "15 of 16 processes"), (1, 2, "rank 0 at localhost:")],
)
def test_missing_processes_are_reported_before_the_time_limit(
    address: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    world_size: int,
    missing: str,
) -> None:
    monkeypatch.setattr(distributed_store, "NOTICE_DELAY_S", 0.1)
    messages: list[str] = []
    limits = {"world_size": world_size, "timeout": timedelta(seconds=0.6)}
    with pytest.raises(LorisError) as caught:
        join(address, rank=rank, warn=messages.append, **limits)
    assert [message.startswith(f"waiting for {missing}") for message in messages] == [True]
    assert messages[0].endswith("; start with srun")
    assert "srun" in caught.value.hint


def test_a_port_in_use_is_a_usage_error(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::", address[1]))
        other.listen()
        with pytest.raises(UsageError) as caught:
            join(address)
    assert "MASTER_PORT" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_PROCID": "2"},
        {"SLURM_NTASKS": "2(x3)"},
        {"MASTER_PORT": "port"},
        {"MASTER_ADDR": ""},
        {"SLURM_JOB_ID": "x"},
    ],
    ids=str,
)
def test_invalid_variables_of_a_launcher_are_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    for name, value in {**WITHOUT_SRUN, "MASTER_ADDR": "localhost", **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError), init_distributed("cpu"):
        pytest.fail("the block must not run")


@pytest.mark.slow
def test_a_run_that_waits_for_processes_ends_on_sigterm(address: tuple[str, int]) -> None:
    variables = WITHOUT_SRUN | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(address[1])}
    with subprocess.Popen(
        [sys.executable, "-m", "loris_cli", "train", "--dry-run", "--quiet"],
        env=os.environ | variables,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        notice = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
    assert notice.endswith(b"waiting for 1 of 2 processes; start with srun\n")
    assert process.returncode == 130
