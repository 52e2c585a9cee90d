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
