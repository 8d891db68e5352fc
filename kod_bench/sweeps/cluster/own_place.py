"""Places of Ray's own: for the sockets and the token of this machine's, and a home if need be."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kod_bench.data.cache import default_cache_dir
from kod_bench.errors import UsageError
from kod_bench.sweeps.store.scratch import scratch_folder

#: Bytes of the longest folder that Ray (2.60) can put its sockets in: their names have 107 at most,
#: of which it takes 70 below.
LONGEST = 37
#: Where to look for a shorter one.
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")

_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextlib.contextmanager
def own_place() -> Iterator[Path | None]:
    """For Ray's start and as long as it runs: its token, and its folder where it must be another.

    Ray writes a token to ``~/.ray``, which a container's user need not have, nor be able to write;
    and its sockets below TMPDIR, which Slurm gives names of any length. Ray caches the token in the
    process, so all sessions of one have one.

    Yields:
        Ray's temporary folder; None where the usual one will do.

    Raises:
        UsageError: if there is no folder with a short name.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or _SHORT[0]
    is_short = len(os.fsencode(usual)) <= LONGEST
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(None if is_short else _short_folder(usual)))
        if not any(os.environ.get(name) for name in _TOKEN_VARIABLES):
            path = folder / "token"
            path.touch(0o600)
            path.write_text(_token())
            os.environ[_TOKEN_VARIABLES[1]] = str(path)
            stack.callback(os.environ.pop, _TOKEN_VARIABLES[1], None)
        yield None if is_short else folder


@contextlib.contextmanager
def some_home() -> Iterator[None]:
    """A home for a user who has none, while the body runs.

    Ray's modules look for one as they are imported. The cache stays where it is.
    """
    try:
        Path.home()
    except RuntimeError:  # a container's user without an entry
        with scratch_folder() as folder, contextlib.ExitStack() as stack:
            wanted = {"KOD_BENCH_CACHE": str(default_cache_dir()), "HOME": str(folder)}
            for name in wanted.keys() - os.environ.keys():
                os.environ[name] = wanted[name]
                stack.callback(os.environ.pop, name, None)
            yield
    else:
        yield


def _short_folder(usual: str) -> Path:
    for name in _SHORT:
        if os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    size = len(os.fsencode(usual))
    raise UsageError(
        f"TMPDIR {usual}: its name has {size} bytes, too many for Ray's sockets, and none of "
        f"{', '.join(_SHORT)} can be written; set it to a folder of at most {LONGEST} bytes"
    )


@cache
def _token() -> str:
    return secrets.token_hex(32)
