"""Memory that was freed is used again by the process that freed it."""

import subprocess
import sys

import pytest

from kod_bench.freed_memory import keep_freed_memory

CHILD = """
import ctypes, resource, sys
from kod_bench.freed_memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "keep":
    assert keep_freed_memory()


def use(size):
    block = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    libc.free(block)


size = 64 * 2**20  # above the 32 MiB to which glibc raises its threshold by itself
use(size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of five uses of 64 MiB, after a first."""
    child = [sys.executable, "-c", CHILD, how]
    return int(subprocess.run(child, capture_output=True, text=True, check=True).stdout)


def test_a_block_that_was_freed_is_used_again_without_page_faults() -> None:
    if not keep_freed_memory():
        pytest.skip("this system's malloc is not glibc's")
    # Where pages are huge, a use of 64 MiB is 32 faults.
    assert faults("leave") > 100 + 10 * faults("keep")


def test_a_system_without_mallopt_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()
