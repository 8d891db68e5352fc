"""The part of this machine that a sweep takes, where two run side by side."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kod_bench.errors import UsageError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Share:
    """So much of this machine, and no more.

    Attributes:
        cpus: None for all that this process may use.
        gpus: None for all that this process sees, whoever else has them.
    """

    cpus: int | None = None
    gpus: int | None = None

    def resources(self) -> dict[str, float]:
        """What it comes to, as Ray names it.

        Raises:
            UsageError: if this machine does not have that much.
        """
        import torch  # takes seconds, and the command line knows shares at its start

        return {
            "CPU": float(_part("--cpus", self.cpus, local_cpus(), "CPU")),
            "GPU": float(_part("--gpus", self.gpus, torch.cuda.device_count(), "GPU")),
        }


WHOLE = Share()


def _part(option: str, asked: int | None, there: int, what: str) -> int:
    if asked is not None and asked > there:
        raise UsageError(f"{option} {asked}: this machine has {there} {what}(s) for this process")
    return there if asked is None else asked


def local_cpus() -> int:
    """CPUs that this process may use: fewer than the machine's under taskset or in a container."""
    allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # the older kind of groups
        cpu = Path("/sys/fs/cgroup/cpu")
        quota, period = ((cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            return max(1, min(allowed, round(int(quota) / int(period))))
    return allowed


@contextlib.contextmanager
def own_gpus(share: Share) -> Iterator[None]:
    """While the body runs, processes that it starts see the share's GPUs alone.

    Every Ray of its own counts GPUs from 0: two sweeps that take one each would both take the
    first. So each marks what it has, and takes what nobody has marked. One that takes all takes
    those of others too, as it always did. A mark is a name among the kernel's abstract sockets: it
    goes with its process, however that ends, and other users see it.

    Raises:
        UsageError: if others have so many that too few are left.
    """
    import torch

    there = torch.cuda.device_count()
    if there == 0 or share.gpus == 0:
        yield
        return
    names = _visible(there)
    with contextlib.ExitStack() as marks:
        taken: list[str] = []
        for name, lasting in zip(names, _lasting_names(names), strict=True):
            if len(taken) != share.gpus and _mark(marks, lasting):
                taken.append(name)
        if share.gpus is None:
            yield
            return
        if len(taken) < share.gpus:
            raise UsageError(
                f"--gpus {share.gpus}: of the {there} GPU(s) of this machine {len(taken)} are "
                "free, other sweeps have the rest; once they end, kod-bench resume runs this one"
            )
        before = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = ",".join(taken)
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VISIBLE]
            else:
                os.environ[_VISIBLE] = before


def _visible(count: int) -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES has them."""
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return (named or [str(index) for index in range(count)])[:count]


def _lasting_names(names: list[str]) -> list[str]:
    """What GPUs are called in every process: numbers differ in containers.

    Torch would say it too, but takes memory of each GPU to do so.

    Args:
        names: as CUDA_VISIBLE_DEVICES has them.
    """
    program = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        said = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):  # not in this container, or another maker's GPUs
        return names
    lines = (line.split(", ", 1) for line in said.stdout.splitlines())
    lasting = {line[0]: line[1] for line in lines if len(line) == 2}
    return [lasting.get(name, name) for name in names]


def _mark(marks: contextlib.ExitStack, name: str) -> bool:
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0kod-bench-gpu-{name}")
    except OSError:  # somebody has it
        mark.close()
        return False
    marks.callback(mark.close)
    return True
