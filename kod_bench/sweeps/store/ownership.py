"""How a plan is known as its user's own: by a key that only the user has.

The key is a file in the user's configuration, ``~/.config/kod-bench/key`` (or below
``$XDG_CONFIG_HOME``, or what ``$KOD_BENCH_KEY`` names), made with the first sweep and readable by
its user alone. Whoever makes a plan signs it with HMAC-SHA256: ``sweep.yaml`` in a file beside it,
every trial that is added later in its own line. ``sweep.yaml`` holds the hash of the trials it was
written with. Nobody without the key can change a signed plan, or sign another.

On a cluster the driver signs and checks, on whatever machine it runs; copy the key to drive a sweep
from several. Where no key can be kept, plans are not signed, and `resume` asks as for a stranger's.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from kod_bench.inside import MOST_DOCUMENT, MOST_PLAN, MOST_RECORD, read_bytes
from kod_bench.sweeps.plan.files import SIGNATURE_FILE
from kod_bench.sweeps.plan.sweep import SWEEP_FILE, TRIALS_FILE, Sweep
from kod_bench.sweeps.plan.trials_file import signed_lines

_KEY_BYTES = 32


def key_file() -> Path | None:
    """Where the user's key is or would be; None if the user has no place for it."""
    if named := os.environ.get("KOD_BENCH_KEY"):
        return Path(named).expanduser()
    with contextlib.suppress(RuntimeError):  # a container's user without a home
        home = os.environ.get("XDG_CONFIG_HOME")
        return (Path(home) if home else Path.home() / ".config") / "kod-bench" / "key"
    return None


def _key(make: bool) -> bytes | None:
    """The user's key; None if there is none, or one that others could have written."""
    path = key_file()
    if path is None:
        return None
    try:
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Whole or not at all, and never over one that another process has just made.
            draft = path.with_name(f".key.{secrets.token_hex(8)}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
            try:
                os.link(draft, path)
            finally:
                draft.unlink()
    except FileExistsError:
        pass
    except OSError:
        return None
    try:
        found = path.stat()
        key = path.read_bytes()
    except OSError:
        return None
    is_users_alone = found.st_uid == os.getuid() and not found.st_mode & 0o022
    return key if is_users_alone and len(key) >= _KEY_BYTES else None


def _code(key: bytes, kind: str, content: bytes) -> str:
    return hmac.new(key, kind.encode() + b"\0" + content, hashlib.sha256).hexdigest()


def signature(document: bytes) -> bytes | None:
    """The content of a plan's signature file; None if the user has no key.

    Args:
        document: of ``sweep.yaml``.
    """
    key = _key(make=True)
    return None if key is None else json.dumps({"plan": _code(key, "plan", document)}).encode()


def line_signer(sweep: Sweep) -> Callable[[bytes], str] | None:
    """Signs trials that are added to a sweep's plan; None if the user has no key."""
    key = _key(make=False)
    if key is None:
        return None
    return _line_signer(key, read_bytes(sweep.folder / SWEEP_FILE, MOST_DOCUMENT))


def _line_signer(key: bytes, document: bytes) -> Callable[[bytes], str]:
    # A line belongs to this plan: it cannot be taken from another one of the same user's.
    plan = hashlib.sha256(document).digest()
    return lambda line: _code(key, "trial", plan + line)


def is_own(sweep: Sweep) -> bool:
    """Whether this user made a sweep's plan, and every trial that was added to it since."""
    key = _key(make=False)
    if key is None:
        return False
    try:
        if sweep.remote is not None:
            sweep.remote.download([SIGNATURE_FILE], sweep.folder, missing_ok=True)
        said = json.loads(read_bytes(sweep.folder / SIGNATURE_FILE, MOST_RECORD))["plan"]
        document = read_bytes(sweep.folder / SWEEP_FILE, MOST_DOCUMENT)
        if not hmac.compare_digest(str(said), _code(key, "plan", document)):
            return False
        if sweep.growth is None:
            return True  # the document has the hash of all trials
        content = read_bytes(sweep.folder / TRIALS_FILE, MOST_PLAN)
        sign = _line_signer(key, document)
        return all(
            hmac.compare_digest(name, sign(line))
            for line, name in signed_lines(content, sweep.growth.frozen_bytes)
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
