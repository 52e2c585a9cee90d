"""Reuse of freed memory."""

import subprocess
import sys

import pytest

COUNT_PAGE_FAULTS = """
import resource, sys
import numpy as np
from loris_cli.system.allocator import reuse_freed_memory
if sys.argv[1] == "reuse":
    assert reuse_freed_memory()
for step in range(40):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(8_000_000) for _ in range(2)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_page_faults(mode: str) -> int:
    command = [sys.executable, "-c", COUNT_PAGE_FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_reused_without_page_faults() -> None:
    assert count_page_faults("reuse") < 0.01 * count_page_faults("default") + 50


MEASURE_PEAK = """
import re, sys, threading
from pathlib import Path
from loris_cli.system.allocator import share_freed_memory
if sys.argv[1] == "share":
    assert share_freed_memory()
turns = [threading.Event() for _ in range(5)]
pinned = []
def allocate_and_free(k):
    turns[k].wait()
    blocks = [bytearray(60_000) for _ in range(1000)]
    pinned.append(bytearray(60_000))  # the end of the memory of this thread cannot be returned
    del blocks
    turns[k + 1].set()
    turns[-1].wait()
threads = [threading.Thread(target=allocate_and_free, args=(k,)) for k in range(4)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
# The peak of getrusage includes that of the process that started this one.
status = Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


def measure_peak_mb(mode: str) -> int:
    command = [sys.executable, "-c", MEASURE_PEAK, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_freed_by_a_thread_is_reused_by_others() -> None:
    assert measure_peak_mb("share") < measure_peak_mb("default") - 100
