"""What a trial of a rehearsal does beside its work: it is killed once, and says what it took.

Its process kills itself as soon as the first checkpoint of its training is written, here and on the
store; who goes on begins with that checkpoint, and is left alone.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kod_bench.atomic import atomic_write
from kod_bench.sweeps.plan.failures import write_error
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.mirror import MirroredCheckpoints, put_error
from kod_bench.sweeps.store.samples import put_files

#: Why a trial of a rehearsal has failed that is to be resumed.
KILLED = "killed by the rehearsal after its first checkpoint, to be resumed"
_USED = "used-"


@dataclass(frozen=True)
class Used:
    """What one process of a trial took.

    Attributes:
        host: where it ran.
        seconds: that it ran, from its data to its last row.
        memory: the most that it held at once, in bytes.
        memory_there: of the machine, or of the container.
        gpu: its name; None: it ran on the CPU.
        gpu_memory: the most that torch held of it at once, in bytes.
        gpu_memory_there: of the GPU.
    """

    host: str
    seconds: float
    memory: int
    memory_there: int
    gpu: str | None = None
    gpu_memory: int = 0
    gpu_memory_there: int = 0


class RehearsedCheckpoints(MirroredCheckpoints):
    """Checkpoints of which the first kills the process.

    Args:
        sweep: of the trial.
        trial: whose checkpoints these are.
    """

    def __init__(self, sweep: Sweep, trial: Trial) -> None:
        super().__init__(sweep, trial)
        self._kills = self.latest_iteration() == 0

    def save(self, iteration: int, state: dict[str, Any]) -> Path:
        """Write the state, here and on the store; do not return from the first time."""
        path = super().save(iteration, state)
        if self._kills:
            write_error(self._sweep.trial_folder(self._trial), RuntimeError(KILLED))
            put_error(self._sweep, self._trial.id)
            os.kill(os.getpid(), signal.SIGKILL)
        return path


@contextmanager
def noting(sweep: Sweep, trial: Trial, role: str) -> Iterator[None]:
    """In a rehearsal, leave in the trial's folder what this process took; else nothing.

    Args:
        sweep: of the trial.
        trial: that this process works on.
        role: of the process among those of the trial.
    """
    if sweep.rehearsal is None:
        yield
        return
    began = time.monotonic()
    yield
    name = f"{_USED}{role}.json"
    with atomic_write(sweep.trial_folder(trial) / name) as file:
        file.write(json.dumps(asdict(_used(time.monotonic() - began))).encode())
    put_files(sweep, trial, [name])


def is_use(name: str) -> bool:
    """Whether a file of a trial's folder is one that `noting` leaves."""
    return name.startswith(_USED) and name.endswith(".json")


def _used(seconds: float) -> Used:
    found = Used(socket.gethostname(), round(seconds, 3), _peak_memory(), memory_there())
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return found
    here = torch.cuda.get_device_properties(torch.cuda.current_device())
    return replace(
        found,
        gpu=torch.cuda.get_device_name(),
        gpu_memory=torch.cuda.max_memory_reserved(),
        gpu_memory_there=here.total_memory,
    )


def _peak_memory() -> int:
    """Bytes that this process held at most: not those of the process that it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def memory_there() -> int:
    """Bytes of memory that the machine, or this container, has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            there = min(there, int(Path(limit).read_text()))
    return there
