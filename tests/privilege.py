"""Tests that root runs, without root's right to read what nobody may read."""

import contextlib
import ctypes
from collections.abc import Iterator

_MAY_READ_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_VERSION_3 = 0x20080522


@contextlib.contextmanager
def without_privilege() -> Iterator[None]:
    """Modes of files count for this thread, and for those it starts, even if root runs the tests.

    Another user would not be let through the folders above the test's own.
    """
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    had = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if library.capget(header, had):
        raise OSError(ctypes.get_errno(), "capget")
    fewer = (ctypes.c_uint32 * 6)(*had)
    fewer[0] &= ~_MAY_READ_ALL
    if library.capset(header, fewer):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        library.capset(header, had)
