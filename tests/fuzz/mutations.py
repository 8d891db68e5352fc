"""What may have become of a file: each change follows from a path, a kind and a seed alone."""

import hashlib
import io
import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

Random = random.Random


@dataclass(frozen=True)
class Mutation:
    """One change of one file, or folder, of a sweep.

    Attributes:
        path: in the sweep's folder.
        kind: a key of `KINDS`.
        seed: of what is chosen at random.
    """

    path: str
    kind: str
    seed: str

    def apply(self, sweep: Path) -> None:
        """Change the file. Files may be shared with other copies of the sweep: none is written to.

        What a mutation cannot be done to, such as a number in what is no JSON, becomes noise.
        """
        path = sweep / self.path
        chooser = Random(self.seed)
        try:
            KINDS[self.kind](path, chooser)
        except (OSError, ValueError, LookupError, pa.ArrowException):
            put(path, chooser.randbytes(100))


def remove(path: Path) -> None:
    """Whatever lies there, and no more than that."""
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path: Path, content: bytes) -> None:
    """Another file in place of what lies there."""
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# Bytes.


def _of_bytes(change: Callable[[bytes, Random], bytes]) -> Callable[[Path, Random], None]:
    return lambda path, chooser: put(path, change(path.read_bytes(), chooser))


def _cut(content: bytes, chooser: Random) -> bytes:
    return content[: chooser.randrange(len(content) + 1)]


def _flipped(content: bytes, chooser: Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(chooser.choice((1, 1, 2, 8, 64))):
        changed[chooser.randrange(len(changed))] ^= 1 << chooser.randrange(8)
    return bytes(changed)


def _noise(content: bytes, chooser: Random) -> bytes:
    start = chooser.randrange(len(content) + 1)
    length = chooser.choice((1, 4, 16, 1000))
    return content[:start] + chooser.randbytes(length) + content[start + length :]


def _pieces(content: bytes, chooser: Random) -> bytes:
    """Pieces in another order, some twice, some not at all: as after a bad merge."""
    edges = sorted(chooser.randrange(len(content) + 1) for _ in range(3))
    parts = [content[a:b] for a, b in zip([0, *edges], [*edges, len(content)], strict=True)]
    return b"".join(chooser.choices(parts, k=chooser.randrange(1, 7)))


def _lines(content: bytes, chooser: Random) -> bytes:
    """Lines twice, in another order, or with a line of something else."""
    lines = content.splitlines(keepends=True) or [b""]
    lines = chooser.choices(lines, k=len(lines) + chooser.randrange(3))
    lines.insert(chooser.randrange(len(lines)), chooser.choice(_TEXTS).encode("latin-1"))
    return b"".join(lines)


def _whole(content: bytes, chooser: Random) -> bytes:
    return chooser.choice(_TEXTS).encode("latin-1")


#: Contents that are nothing, or more than anybody reads.
_TEXTS = (
    *("", " ", "\n", "\0", "\xff\xfe", "null", "true", "0", '"a"', "[]", "{}", "[1, 2]", "[[]]"),
    *("{", "NaN", "-Infinity", "1e999", "\ufeff{}".encode().decode("latin-1")),
    *("[" * 100_000, '{"a":' * 50_000, "1" * 5000, "1" + "0" * 400, "{}\n" * 20_000),
    *('{"iteration": 1, "loss": 1}\r', "a: " * 50, "- " * 2000, "{" * 5000, "!!python/object:x {}"),
    *("\x1b]0;owned\x07\x1b[2J", "%PDF-1.7", "PAR1PAR1", "PK\x03\x04", "GIF89a", "<svg/>"),
)


# Values.

#: What a value becomes; as text where JSON's writer would not write it.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 2**31, 2**53, 2**63, -(2**63), 10**30, 10**400),
    *(float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324),
    *("", "a", "1", "NaN", "..", ".", "/", "/etc/passwd", "../../x", "a/b", "a\0b", "-", "--help"),
    *("\x1b[31m\x1b]0;owned\x07", "\u202egnorw", "\ud800", "\u2028", "a\nb\r\nc", "[red]x[/red]"),
    *("<script>alert(1)</script>", "{{ 7 * 7 }}", "=1+1", "s3://bucket/x", "os:getcwd", "x" * 5000),
    *([], {}, [[]], [1, 2], [None], ["a"], {"a": 1}, {"": None}, [0] * 5000, [[0.0, 1.0]] * 50),
)


def _deep(depth: int, chooser: Random) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if chooser.random() < 0.5 else {"a": value}
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Where a value can be changed: every container in it and every key of that."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        keys: Iterable[Any] = ()
        if isinstance(each, dict):
            keys = list(each)
        elif isinstance(each, list):
            keys = range(len(each))
        for key in keys:
            found.append((each, key))
            waiting.append(each[key])
    return found


def changed_value(value: Any, chooser: Random) -> Any:
    """A value of which one or two parts are another one's, gone, renamed or added."""
    holder = [json.loads(json.dumps(value))]
    for _ in range(chooser.choice((1, 1, 1, 2))):
        places = _places(holder)
        # As likely the whole or a section as any of the many numbers in it.
        place, key = chooser.choice(places if chooser.random() < 0.7 else places[:40])
        how = chooser.randrange(10)
        if how < 7 or not isinstance(place, dict):
            place[key] = chooser.choice(_VALUES)
        elif how == 7:
            del place[key]
        elif how == 8:
            place[chooser.choice(("", "a", "kid", "\x1b[2J", "x" * 300))] = place.pop(key)
        else:
            place[key] = _deep(chooser.choice((3, 200, 400)), chooser)
    return holder[0]


def _json(path: Path, chooser: Random) -> None:
    content = path.read_bytes() if path.exists() else b'{"error": "it broke", "traceback": ""}'
    put(path, json.dumps(changed_value(json.loads(content), chooser)).encode())


def _json_lines(path: Path, chooser: Random) -> None:
    lines = path.read_bytes().splitlines()
    for place in {chooser.randrange(len(lines)) for _ in range(chooser.choice((1, 3)))}:
        lines[place] = json.dumps(changed_value(json.loads(lines[place]), chooser)).encode()
    put(path, b"\n".join(lines) + b"\n")


def _yaml(path: Path, chooser: Random) -> None:
    changed = changed_value(yaml.safe_load(path.read_text()), chooser)
    put(path, json.dumps(changed).encode())  # all JSON is YAML, and PyYAML's writer is slow


def _planned_trials(path: Path, chooser: Random) -> None:
    """Other trials, of which the plan's document says that they are those it was written with."""
    _json_lines(path, chooser)
    content = path.read_bytes()
    document = path.with_name("sweep.yaml")
    plan = yaml.safe_load(document.read_text())
    plan["trials"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    put(document, yaml.safe_dump(plan).encode())


# Rows.

_OTHER_TYPES = (
    *(pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.float32(), pa.bool_()),
    *(pa.list_(pa.float64()), pa.dictionary(pa.int32(), pa.string()), pa.null()),
    *(pa.timestamp("us", "UTC"), pa.struct([("a", pa.int64())]), pa.decimal128(38, 3)),
)
_TEXT_VALUES = [value for value in _VALUES if isinstance(value, str) and value != "\ud800"]
_FLOATS = [value for value in _VALUES if isinstance(value, float)]
_INTS = (0, 1, -1, 25, 2**31, 2**53, 2**63 - 1, -(2**63), 10**12)


def _rows(path: Path, chooser: Random) -> None:
    table = pq.read_table(path)
    for _ in range(chooser.choice((1, 1, 2, 5))):
        table = _changed_table(table, chooser)
    whole = io.BytesIO()
    pq.write_table(table, whole)
    put(path, whole.getvalue())


def _changed_table(table: pa.Table, chooser: Random) -> pa.Table:
    how = chooser.randrange(12)
    place = chooser.randrange(table.num_columns)
    name = table.column_names[place]
    if how < 7:
        kind = table.schema.field(place).type
        return table.set_column(place, pa.field(name, kind), _column(table, name, chooser))
    if how == 7:
        kind = chooser.choice(_OTHER_TYPES)
        return table.set_column(place, pa.field(name, kind), pa.nulls(len(table), kind))
    if how == 8:
        return table.drop_columns([name])
    if how == 9:
        return table.append_column(
            chooser.choice((name, "", "a.b", "\x1b[2J")), table.column(place)
        )
    if how == 10:
        return pa.concat_tables([table] * chooser.choice((2, 3, 50)))
    return table.slice(chooser.randrange(2), chooser.randrange(2))


def _column(table: pa.Table, name: str, chooser: Random) -> pa.Array:
    """Other values of the same type, in one row or in all."""
    column, kind = table[name].to_pylist(), table.schema.field(name).type
    value: Any = None
    if chooser.random() < 0.9:
        if pa.types.is_string(kind):
            value = chooser.choice(_TEXT_VALUES)
            if name in ("config", "packages") and column[0]:
                value = json.dumps(changed_value(json.loads(column[0]), chooser))
        elif pa.types.is_floating(kind):
            value = chooser.choice(_FLOATS)
        elif pa.types.is_integer(kind):
            value = chooser.choice(_INTS)
        else:
            value = chooser.choice((True, False))
    column[chooser.randrange(len(column))] = value
    return pa.array([value] * len(column) if chooser.random() < 0.5 else column, kind)


def _many_rows(path: Path, chooser: Random) -> None:
    """More rows than any trial has, in few bytes: equal values are written once."""
    table = pq.read_table(path)
    table = pa.concat_tables([table.slice(0, 1)] * chooser.choice((2_000, 20_000)))
    whole = io.BytesIO()
    pq.write_table(table.combine_chunks(), whole, compression="zstd")
    put(path, whole.getvalue())


# Pictures.


def _picture(path: Path, chooser: Random) -> None:
    form = chooser.choice(("PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG", "PPM", "ICO"))
    mode = chooser.choice(("1", "L", "RGB"))
    size = chooser.choice(((1, 1), (128, 128), (1, 3000), (3000, 1), (9000, 9000)))
    if form in ("WEBP", "ICO", "TIFF", "BMP") or mode != "1":
        size = min(size, (300, 300))
    whole = io.BytesIO()
    Image.new(mode, size).save(whole, form)
    put(path, whole.getvalue())


# Links.


def _link(path: Path, chooser: Random) -> None:
    """A link out of the sweep, into it, to itself, up, or to what is not there."""
    sweep = path.parent
    while not (sweep / "sweep.yaml").is_file():
        sweep = sweep.parent
    outside = sweep.parent / "outside"
    inside = sorted(each for each in outside.rglob("*"))
    targets = (
        *(outside, *chooser.sample(inside, 2), outside / "not-there", outside / "row.parquet"),
        *(Path(os.path.relpath(outside, path.parent)), path, path.parent, Path(".."), sweep),
        *(Path("/"), Path("/dev/zero"), Path("/proc/self/environ"), sweep / "trials"),
    )
    remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(chooser.choice(targets))


# What is no file.


def _pipe(path: Path, _: Random) -> None:
    remove(path)
    os.mkfifo(path)


def _socket(path: Path, _: Random) -> None:
    remove(path)
    os.mknod(path, stat.S_IFSOCK | 0o600)


def _folder(path: Path, chooser: Random) -> None:
    remove(path)
    path.mkdir()
    for number in range(chooser.choice((0, 0, 1, 50))):
        (path / f"iteration-{number:08d}.pt").touch()


def _deep_folder(path: Path, _: Random) -> None:
    remove(path)
    path.joinpath(*["d"] * 200).mkdir(parents=True)


def _gone(path: Path, _: Random) -> None:
    remove(path)


def _forbidden(path: Path, chooser: Random) -> None:
    """Not to be read, or not to be written. The content is not another copy's."""
    if not path.is_dir():
        put(path, path.read_bytes())
    path.chmod(chooser.choice((0o000, 0o000, 0o200, 0o400, 0o444, 0o100)))


def _huge(path: Path, chooser: Random) -> None:
    """As large as the disk can say; it takes no room there."""
    content = path.read_bytes()
    put(path, content[: chooser.choice((0, len(content)))])
    os.truncate(path, chooser.choice((2**21, 2**27, 2**34, 10**13)))


def _strange_names(path: Path, chooser: Random) -> None:
    """Files beside it with names that nobody has given."""
    folder = path.parent
    for name in chooser.sample(_NAMES, 3):
        folder.joinpath(name).write_bytes(b"")


_NAMES = (
    *("a\nb", "\x1b[2J", "\u202egnp", os.fsdecode(b"\xff\xfe.png"), "-rf", " ", "x" * 255, "'; x"),
    *("iteration-99999999999999999999999999.pt", "iteration-٣.pt", "iteration-.pt", "samples-.png"),
    *(
        "measured--1-1.json",
        "row.parquet.tmp",
        ".row.parquet.1.tmp",
        "$(x)",
        "[a-z]*?",
        "~",
        "%s%n",
    ),
)


def _other_file(path: Path, chooser: Random) -> None:
    """Another file's content under this name, and any of this trial's will do."""
    others = sorted(each for each in path.parent.iterdir() if each.is_file() and each != path)
    put(path, chooser.choice(others).read_bytes())


KINDS: dict[str, Callable[[Path, Random], None]] = {
    "cut": _of_bytes(_cut),
    "bits": _of_bytes(_flipped),
    "noise": _of_bytes(_noise),
    "pieces": _of_bytes(_pieces),
    "lines": _of_bytes(_lines),
    "other text": _of_bytes(_whole),
    "json": _json,
    "json lines": _json_lines,
    "yaml": _yaml,
    "planned trials": _planned_trials,
    "rows": _rows,
    "many rows": _many_rows,
    "picture": _picture,
    "link": _link,
    "pipe": _pipe,
    "socket": _socket,
    "folder": _folder,
    "deep folder": _deep_folder,
    "gone": _gone,
    "forbidden": _forbidden,
    "huge": _huge,
    "strange names": _strange_names,
    "other file": _other_file,
}

_BYTES = ("cut", "bits", "noise", "pieces", "lines", "other text", "other file", "huge")
_NO_FILE = ("pipe", "socket", "folder", "deep folder", "gone", "forbidden", "strange names")


def kinds_for(path: Path) -> tuple[str, ...]:
    """What can become of a file or folder; of a file, what fits its format as often as all else."""
    if path.is_dir():
        return _NO_FILE
    by_ending = {
        ".json": ("json",),
        ".jsonl": ("json lines",),
        ".journal": ("json lines",),
        ".parquet": ("rows", "rows", "rows", "many rows"),
        ".yaml": ("yaml",),
        ".png": ("picture",),
        ".gif": ("picture",),
    }
    fitting = by_ending.get(path.suffix, ())
    plain = (*_BYTES, *_NO_FILE)
    return (*plain, *(fitting * (len(plain) // len(fitting)) if fitting else ()))
