"""A sweep that is started from outside its cluster, through Ray's client (``ray://host:10001``).

Through that client, Tune's loop would run on the cluster and what shows its progress here. So the
whole driver runs on the cluster's head: the same command with ``--address auto``, whose output is
printed here and which is sent the signals that arrive here. If this process is killed or the
connection stays lost for half a minute, Ray kills the driver; `resume` continues from checkpoints.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal

from kod_bench.errors import UsageError
from kod_bench.hangup import Echoes, asks_to_stop, leave_terminal
from kod_bench.storage import is_uri, parse_location
from kod_bench.sweeps.cluster.ray_session import ray_session
from kod_bench.sweeps.store.scratch import scratch_folder

Stream = Literal["out", "err"]

#: How long the cluster is asked for the driver's next lines, and how long they are collected.
_PATIENCE_SECONDS = 1.0

#: Stands in the arguments for the search space, which the head has under a name of its own.
SPACE = "{space}"


def check_shared(option: str, path: str) -> None:
    """Refuse a path that means something else on the cluster.

    Raises:
        UsageError: if it is a relative one, or an address with credentials.
    """
    if not is_uri(path) and not Path(path).is_absolute():
        raise UsageError(
            f"{option} {path}: with --address ray://..., must be s3://bucket/prefix, "
            "gs://bucket/prefix or an absolute path that all nodes share"
        )
    parse_location(path)  # before it is sent there


def run_there(
    address: str,
    arguments: Sequence[str],
    space: Path | None,
    echo: Callable[[str, Stream], None],
) -> int:
    """Run a command of ``kod-bench`` on the head of a cluster, to its end.

    Args:
        address: of the cluster, for Ray's client.
        arguments: of the command, `SPACE` for the search space.
        space: this machine's file of it.
        echo: called with every piece of its output.

    Returns:
        Its exit status.

    Raises:
        UsageError: if the cluster cannot be reached.
    """
    content = None if space is None else (space.name, space.read_bytes())
    with ray_session(address):
        import ray

        place = {"node:__internal_head__": 0.001}
        driver: Any = ray.remote(num_cpus=0, resources=place)(RemoteDriver).remote(
            list(arguments), content
        )
        try:
            with _signals() as arrived:
                while True:
                    while arrived:
                        arrived.pop()
                        ray.get(driver.interrupt.remote())
                    said, code = ray.get(driver.said.remote())
                    for stream, text in said:
                        echo(text, stream)
                    if code is not None:
                        return int(code)
        except ConnectionError as error:
            raise UsageError(f"{address}: the connection is lost ({error})") from error


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals to stop while the body runs, in place of what they do; the third ends this."""
    arrived: list[int] = []
    count, echoes = 0, Echoes()

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        leave_terminal(number)
        if echoes.is_one(number):
            return
        count += 1
        arrived.append(number)
        if count > 2:
            os._exit(130)

    previous: dict[signal.Signals, Any] = {}
    for number in asks_to_stop():
        previous[number] = signal.signal(number, handle)
    try:
        yield arrived
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class RemoteDriver:
    """An actor on the cluster's head, with the driver in a process of its own.

    Args:
        arguments: see `run_there`.
        space: name and content of the search space, if the command takes one.
    """

    def __init__(self, arguments: list[str], space: tuple[str, bytes] | None) -> None:
        import ray

        self._scratch = contextlib.ExitStack()
        folder = self._scratch.enter_context(scratch_folder())
        if space is not None:
            path = folder / Path(space[0]).name
            path.write_bytes(space[1])
            arguments = [str(path) if a == SPACE else a for a in arguments]
        self._lines: queue.Queue[tuple[Stream, str]] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kod_bench.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Not that of this actor's own Ray worker.
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            },
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self._process.stdout), ("err", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def said(self) -> tuple[list[tuple[Stream, str]], int | None]:
        """What it has printed since, waiting a moment for something; its exit status at the end."""
        found: list[tuple[Stream, str]] = []
        # All of it is in the queue once nobody reads any more: looked at first.
        over = not any(reader.is_alive() for reader in self._readers)
        with contextlib.suppress(queue.Empty):
            if not over:
                found.append(self._lines.get(timeout=_PATIENCE_SECONDS))
            while True:
                found.append(self._lines.get_nowait())
        if not over:
            return found, None
        code = self._process.wait()
        self._scratch.close()
        return found, code

    def interrupt(self) -> None:
        """Pass a Ctrl-C on: as SIGTERM, because processes under Ray have SIGINT blocked."""
        self._process.send_signal(signal.SIGTERM)

    def _read(self, name: Stream, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put((name, line))
