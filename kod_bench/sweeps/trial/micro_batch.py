"""How much of a batch a trial takes at once, after memory has run out: kept in its folder.

In a file, because the attempt that needs to know may be another process: a restarted group of
workers, or `kod-bench resume` on another day.
"""

import json
import logging
from pathlib import Path

from kod_bench.atomic import atomic_write
from kod_bench.inside import read_json
from kod_bench.sweeps.plan.files import MEMORY_FILE

_log = logging.getLogger(__name__)


def recorded_micro_batch(folder: Path) -> int | None:
    """What the next attempt is to begin with; None if memory has not run out, or who knows."""
    try:
        size = read_json(folder / MEMORY_FILE)["micro_batch_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if type(size) is int and 0 < size < 2**31 else None


def halve_micro_batch(folder: Path, too_large: int) -> int:
    """Record half of what did not fit, for the next attempt.

    Returns:
        The half, at least 1.
    """
    half = max(1, too_large // 2)
    with atomic_write(folder / MEMORY_FILE) as file:
        file.write(json.dumps({"micro_batch_size": half}).encode())
    _log.warning("out of memory with micro-batches of %d: the next try takes %d", too_large, half)
    return half
