"""One driver per sweep, where there are no locks: a lease that its holder keeps renewing.

An object store cannot say "write this only if it is not there" through pyarrow. So the lease is an
object that its holder rewrites every `BEAT_SECONDS`. Who wants it watches it for `LEASE_SECONDS`:
if it does not change, its holder is gone. No clocks are compared. After taking it, one waits and
looks again, since of two who take it at once the last one has it; and a holder who finds that it
was taken stops, as at a first Ctrl-C, and if it still runs a beat later, as at a second one.

The lease also carries its holder's request to stop, which trials on other nodes cannot see in a
file: it ends with the lease, and a holder who has lost it stops nobody else's trials.

What remains possible is that two drivers run for some seconds. That costs time and no result:
trials are known by the hash of their configuration, and a row that is there is not put again.
"""

import _thread
import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.store.locks import LockedError

LEASE_FILE = "lease.json"
BEAT_SECONDS = 10.0
LEASE_SECONDS = 45.0  # several beats: one that is late is no death
SETTLE_SECONDS = 2.0
REQUEST_SECONDS = 1.0  # a request to stop does not wait for the next beat

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def lease(
    folder: ObjectFolder, say: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the lease of a sweep, waiting up to `LEASE_SECONDS` for a holder who may be dead.

    Args:
        folder: of the sweep.
        say: is told if there is something to wait for.
        stopping: asked all the time, in another thread: whether the sweep's trials are to stop.

    Raises:
        LockedError: if another driver holds it.
        OSError: if the store cannot be reached.
    """
    held = _read(folder)
    if held is not None and not _died_here(held):
        say(
            f"{folder} was last run by {_holder(held)}; "
            f"waiting up to {LEASE_SECONDS:g} s to see whether it still is"
        )
        _watch(folder, held)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot(), "id": uuid.uuid4().hex}
    _write(folder, me, 0)
    if held is not None:
        time.sleep(SETTLE_SECONDS)
    taken = _read(folder)
    if taken is None or taken.get("id") != me["id"]:
        raise LockedError(f"{folder} was taken by {_holder(taken or {})} at the same moment")
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(folder, me, over, stopping), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        with contextlib.suppress(OSError):  # it runs out by itself
            if (_read(folder) or {}).get("id") == me["id"]:
                folder.delete(LEASE_FILE)


def is_held(folder: ObjectFolder) -> bool:
    """Whether somebody renewed the lease of a sweep lately, as far as the two clocks agree.

    Raises:
        OSError: if the store cannot be reached.
    """
    found = folder.find(LEASE_FILE)
    if found is None:
        return False
    if found.modified is not None and time.time() - found.modified.timestamp() > LEASE_SECONDS:
        return False
    held = _read(folder)
    return held is not None and not _died_here(held)


def stop_asked(folder: ObjectFolder) -> bool:
    """Whether the holder of a sweep's lease wants its trials to stop.

    Raises:
        OSError: if the store cannot be reached.
    """
    return (_read(folder) or {}).get("stop") is True


def _watch(folder: ObjectFolder, held: dict[str, Any]) -> None:
    """Return if the lease does not change for `LEASE_SECONDS`, or is given back."""
    deadline = time.monotonic() + LEASE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = _read(folder)
        if now is None:
            return
        if now != held:
            raise LockedError(f"{folder} is being run by {_holder(now)}")


def _keep(
    folder: ObjectFolder,
    me: dict[str, Any],
    over: threading.Event,
    stopping: Callable[[], bool],
) -> None:
    """Renew the lease until it is over; interrupt the program if somebody else has taken it."""
    beat, said, due = 0, False, time.monotonic() + BEAT_SECONDS
    while not over.wait(min(REQUEST_SECONDS, BEAT_SECONDS)):
        asked = stopping()
        if asked == said and time.monotonic() < due:
            continue
        beat, due = beat + 1, time.monotonic() + BEAT_SECONDS
        try:
            held = _read(folder)
            if held is not None and held.get("id") != me["id"]:
                _log.error("%s was taken over by %s: stopping here", folder, _holder(held))
                _thread.interrupt_main()
                if not over.wait(BEAT_SECONDS):  # trials on other nodes were not asked
                    _thread.interrupt_main()
                return
            _write(folder, me | {"stop": asked}, beat)
            said = asked
        except OSError as error:  # the store is away: the next beat may reach it
            _log.warning("the lease of %s could not be renewed: %s", folder, error)


def _write(folder: ObjectFolder, me: dict[str, Any], beat: int) -> None:
    folder.write(LEASE_FILE, json.dumps(me | {"beat": beat}).encode())


def _read(folder: ObjectFolder) -> dict[str, Any] | None:
    """What the lease says; None if there is none. Nonsense counts as a lease of somebody's."""
    try:
        content = folder.read(LEASE_FILE)
    except FileNotFoundError:
        return None
    try:
        held = json.loads(content)
    except ValueError:
        held = None
    return held if isinstance(held, dict) else {"id": repr(content[:80])}


def _died_here(held: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    pid = held.get("pid")
    if held.get("boot") != _boot() or not isinstance(pid, int):
        return False
    return not Path(f"/proc/{pid}").exists()


def _boot() -> str:
    """Names this start of this machine, and its view of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # unknown: never equal to another


def _holder(held: dict[str, Any]) -> str:
    return f"process {held.get('pid')!r} on {held.get('host')!r}"
