"""Runs kod-bench on a damaged sweep in this process, and says what it did that it may not do."""

import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kod_bench.cli.main import main
from kod_bench.visible import visible
from tests.privilege import without_privilege

MOST_SECONDS = 20  # of work: other processes may have the processor
MOST_WAIT = 120  # for what never comes, such as a writer of a pipe

#: What a resume says here in place of beginning trials.
WOULD_RUN = "here no trial is run"


class TooLongError(BaseException):
    """A command has not ended in time. No command catches it."""


@dataclass(frozen=True)
class Ended:
    """How a command has ended."""

    code: int
    out: str
    err: str
    seconds: float


def run(*words: object) -> Ended:
    """Run kod-bench in this process, without the rights of an administrator."""
    out, err = io.BytesIO(), io.BytesIO()
    begun = time.process_time()
    with (
        io.TextIOWrapper(out, "utf-8", write_through=True) as stdout,
        # As Python opens them: what cannot be encoded ends who prints it.
        io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True) as stderr,
    ):
        with (
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            _in_time(),
            without_privilege(),
            _arguments(words),
        ):
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            except TooLongError:
                traceback.print_exc()
                code = -1
        return Ended(code, _text(out), _text(err), time.process_time() - begun)


def _text(whole: io.BytesIO) -> str:
    return whole.getvalue().decode()


@contextlib.contextmanager
def _arguments(words: Sequence[object]) -> Iterator[None]:
    """What a process of its own would have for itself."""
    before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["kod-bench", *map(str, words)]
    try:
        yield
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
        logging.getLogger("kod_bench").handlers.clear()


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Interrupts the main thread, which may be waiting for a pipe."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGUSR1, over)
    main_thread = threading.main_thread().ident or 0
    timer = threading.Timer(MOST_WAIT, signal.pthread_kill, (main_thread, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def copy_sweep(base: Path, folder: Path) -> Path:
    """A sweep to be damaged. Trials' files are shared: mutations replace them, and none is run."""
    for path in base.iterdir():
        if path.name == "trials":
            shutil.copytree(path, folder / path.name, copy_function=os.link)
        elif path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy2(path, folder)
    return folder


def fault(words: Sequence[object], ended: Ended, codes: Sequence[int]) -> str | None:
    """What is wrong with how a command ended, if anything is."""
    lines = ended.err.splitlines()
    wrong = None
    if ended.code == -1 or ended.seconds > MOST_SECONDS:
        wrong = f"took more than {MOST_SECONDS} s"
    elif ended.code not in codes:
        wrong = f"exit status {ended.code}"
    elif "Traceback" in ended.err or "--debug" in ended.err:
        wrong = "an error that nobody foresaw"
    elif ended.code == 2 and not lines[-1].startswith("error: "):
        wrong = "no reason for exit status 2"
    elif ended.code == 2 and sum(line.startswith("error: ") for line in lines) != 1:
        wrong = "more than one reason"
    elif max(map(len, lines), default=0) > 5000:
        wrong = "a line of more than 5000 characters"
    elif any(visible(text) != text for text in (ended.out, ended.err)):
        wrong = "a control character was printed"
    if wrong is None:
        return None
    told = ended.err[-1500:]
    if "--debug" in told:
        told += _why(words)
    return f"{' '.join(map(str, words))}: {wrong}: {told}"


def _why(words: Sequence[object]) -> str:
    """The traceback behind a line that advises `--debug`."""
    os.environ["KOD_BENCH_DEBUG"] = "1"
    try:
        run(*words)
    except Exception:
        return "".join(traceback.format_exc().splitlines(keepends=True)[-14:])
    finally:
        del os.environ["KOD_BENCH_DEBUG"]
    return ""
