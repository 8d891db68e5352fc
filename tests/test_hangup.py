"""SIGHUP asks to stop, as SIGTERM does, unless it is ignored; and then nothing can be printed."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kod_bench import hangup
from kod_bench.hangup import Echoes, asks_to_stop, deaf_children, leave_terminal
from tests.conftest import PATIENCE


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


def test_it_asks_to_stop_unless_it_is_ignored() -> None:
    assert signal.SIGHUP in asks_to_stop()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert asks_to_stop() == (signal.SIGINT, signal.SIGTERM)


def test_children_do_not_hear_it_and_the_parent_does_again() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    with deaf_children():
        child = subprocess.Popen(["sleep", "60"])
    os.kill(child.pid, signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.kill()
    child.wait()
    assert heard == [signal.SIGHUP]


def test_what_is_printed_to_a_terminal_that_is_gone_goes_nowhere() -> None:
    terminal, end = pty.openpty()
    program = (
        "import signal, sys\n"
        "from kod_bench.hangup import leave_terminal\n"
        "sys.stdin.readline()\n"
        "leave_terminal(signal.SIGTERM)\n"  # nothing is gone then
        "leave_terminal(signal.SIGHUP)\n"
        "print('said', flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=end, stdout=end, stderr=subprocess.PIPE
    )
    os.close(end)
    os.close(terminal)  # its line ends with the terminal
    _, said = child.communicate(timeout=PATIENCE)
    assert (child.returncode, said) == (0, b"")


def test_files_are_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    leave_terminal(signal.SIGHUP)
    os.write(1, b"kept")
    assert capfd.readouterr().out == "kept"


def test_a_signal_that_was_passed_on_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(hangup.time, "monotonic", lambda: now)
    echoes = Echoes()
    assert not echoes.is_one(signal.SIGTERM)
    now += 0.2
    assert echoes.is_one(signal.SIGTERM)
    assert not echoes.is_one(signal.SIGINT)  # another is no echo
    now += 0.3  # after the first, not after its echo: else a key held down would never count
    assert not echoes.is_one(signal.SIGTERM)
