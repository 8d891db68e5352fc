"""Independent random streams from one seed."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive the seed of a named stream, e.g. ``derive_seed(0, "train", rank)``.

    Hashing keeps the streams of different purposes, ranks and seeds unrelated, which adding small
    numbers to a seed does not.

    Returns:
        An integer in [0, 2^63), the same on every machine.
    """
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
