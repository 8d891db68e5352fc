"""Lets a process that computes on a CPU keep the memory it frees, instead of asking anew for it."""

import ctypes

# Parameters of mallopt, as glibc's malloc.h numbers them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: A network's activations are blocks of up to some MiB. Above 128 KiB, which grows to 32 MiB at
#: most, glibc takes each from the system and gives it back, so that every use of it begins with
#: page faults: measured, a third of the time of a forward pass on one thread.
_KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Have malloc keep up to 1 GiB of what this process frees, for it to be used again.

    The numbers that are computed are the same. Peak memory is what it was; what was freed goes
    back to the system when the process ends, or in part when more than that is free at once.
    For processes of kod-bench's own: which malloc a user's program has is for its user to say.

    Returns:
        Whether the system's malloc knows of this: glibc's does, musl's and macOS's do not.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows wants a name
        return False
    return all(mallopt(name, _KEPT_BYTES) == 1 for name in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
