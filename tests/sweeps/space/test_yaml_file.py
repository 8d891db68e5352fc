"""What a YAML document means, and where it is refused."""

import math
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kod_bench.errors import UsageError
from kod_bench.sweeps.space import yaml_file
from kod_bench.sweeps.space.yaml_file import MAX_BYTES, dump_yaml, load_plan, load_yaml, parse_yaml

#: https://yaml.org/spec/1.2.2/#1032-tag-resolution, and what YAML 1.1 made of the same.
CORE = [
    ("0100", 100),  # 64
    ("010", 10),
    ("08", 8),
    ("0o17", 15),
    ("0x1F", 31),
    ("0b11", "0b11"),  # 3
    ("1:30", "1:30"),  # 90
    ("1_000", "1_000"),  # 1000
    ("yes", "yes"),  # true
    ("Off", "Off"),
    ("y", "y"),
    ("True", True),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("~", None),
    ("NULL", None),
    ("2026-11-29", "2026-11-29"),  # a date
    ("1e-4", 1e-4),  # a text
    ("1.", 1.0),
    ("+.5", 0.5),
    ("1e", "1e"),
    ("=", "="),
    ("-", [None]),
    ("'0100'", "0100"),
    ("!!str 0100", "0100"),
    ("!!float 5", 5.0),
    ("-0.0", -0.0),
]


@pytest.mark.parametrize("parser", [yaml.SafeLoader, yaml.CSafeLoader])
@pytest.mark.parametrize(("text", "value"), CORE)
def test_plain_values_are_those_of_the_core_schema(
    text: str, value: Any, parser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_file, "_Parser", parser)
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("text", "value"), [("1e3", 1000), ("2E5", 200_000), ("12e03", 12_000)])
def test_a_whole_number_may_have_an_exponent(text: str, value: int) -> None:
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (value, int)


def test_a_number_with_a_point_is_no_whole_number() -> None:
    assert type(parse_yaml("1.0e3", "here")) is float
    assert type(parse_yaml("1e16", "here")) is float  # not every whole number below is one of these


def test_infinity_can_be_said() -> None:
    assert parse_yaml("[.inf, -.INF]", "here") == [math.inf, -math.inf]
    assert math.isnan(parse_yaml(".NaN", "here"))


def test_aliases_and_merges_stand_for_copies() -> None:
    found = parse_yaml("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: {<<: [{x: 4}, *a]}", "here")
    assert found == {"a": {"x": 1, "y": [2]}, "b": {"x": 3, "y": [2]}, "c": {"x": 4, "y": [2]}}
    found["b"]["y"].append(0)
    assert found["a"]["y"] == found["c"]["y"] == [2]


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
REFUSED = [
    ("a: 1\nb: 2\na: 3", r"here:3:1: the key 'a' is given twice"),
    ("{1: a, 0x1: b}", r"here:1:8: the key '1' is given twice"),
    ("a: {? [b] : c}", r"here:1:7: a key must be a single value"),
    ("&a [*a]", r"here:1:5: \*a stands inside of what it names"),
    ("a: &a 1\nb: &a 2", r"here:2:4: the anchor &a is given twice"),
    ("a: *b", r"here:1:4: there is no anchor &b above"),
    ("!!python/name:os.system 1", r"here:1:1: the tag tag:yaml.org,2002:python/name:os.system is"),
    ("!mine {a: 1}", r"here:1:1: the tag !mine is not allowed here"),
    ("!!int 1.5", r"here:1:1: the tag tag:yaml.org,2002:int is not allowed here"),
    ("%YAML 1.1\n---\na: 1", r"here:1:1: files are read as YAML 1.2; leave out"),
    ("a: 1\n---\nb: 2", r"here:2:1: a second document begins; keep one"),
    ("<<: 3", r"here:1:1: << takes a mapping"),
    ("a: 1e999", r"here:1:4: 1e999 is beyond what a number can hold"),
    ("a: -1e-999", r"here:1:4: -1e-999 is beyond what a number can hold"),
    ("a: " + "9" * 5000, r"here:1:4: 9{40}\.\.\. is a number of 5,000 characters; at most 100"),
    ("0x" + "f" * 5000, r"here:1:1: 0xf{38}\.\.\. is a number of 5,002 characters; at most 100"),
    ("[" * 200_000, r"here:1:33: is more than 32 levels deep"),
    ("{a: " * 200_000, r"here:1:129: is more than 32 levels deep"),
    ("- " * 200_000, r"here:1:65: is more than 32 levels deep"),
    (BOMB, r"here:\d+:\d+: its aliases make it too large"),
    ("x" * (MAX_BYTES + 1), r"here: has 4,194,305 characters; at most 4,194,304 are read"),
    ("name: \udcff", r"here: holds bytes that are not UTF-8"),
    ("a: [1", r"here:\d+:\d+: is not valid YAML: "),
    ("a: \x00", r"here: is not valid YAML: "),
]


@pytest.mark.parametrize("parser", [yaml.SafeLoader, yaml.CSafeLoader])
@pytest.mark.parametrize(("text", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_is_refused_at_once_in_one_line(
    text: str, message: str, parser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_file, "_Parser", parser)
    began = time.process_time()
    with pytest.raises(UsageError, match=message) as caught:
        parse_yaml(text, "here")
    assert time.process_time() - began < 5
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


def test_forty_thousand_keys_are_read_in_linear_time() -> None:
    text = "".join(f"key{number}: {number}\n" for number in range(40_000))
    began = time.process_time()
    assert len(parse_yaml(text, "here")) == 40_000
    assert time.process_time() - began < 5  # 39 s where each key was compared with all others


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    pipe, large, folder = tmp_path / "pipe", tmp_path / "large.yaml", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for path in (pipe, folder):
        with pytest.raises(UsageError, match=r": is not a regular file$"):
            load_yaml(path)
    with pytest.raises(UsageError, match="has 4,194,305 bytes; at most 4,194,304 are read"):
        load_yaml(large)


def random_value(choose: random.Random, depth: int = 0) -> Any:
    """A plain value whose texts look like anything else."""
    texts = ["08", "0o17", "1e5", "0100", "1:30", "yes", "null", "~", "", "1_0", ".inf", "0x1F"]
    texts += ["2026-11-29", "<<", "=", "a: b", "x\ny", "\x1b", "数", "1.5", "-", "+1", "1e-05"]
    kind = choose.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [random_value(choose, depth + 1) for _ in range(choose.randrange(4))]
    if kind == 7:
        keys = [choose.choice(texts) for _ in range(choose.randrange(4))]
        return {key: random_value(choose, depth + 1) for key in keys}
    number = choose.uniform(-1, 1) * 10 ** choose.randint(-20, 20)
    values = [choose.choice(texts), number, choose.randint(-(10**20), 10**20), True, None, 1e22]
    return values[kind]


@pytest.mark.parametrize("seed", range(50))
def test_plans_are_read_as_they_were_written(seed: int, tmp_path: Path) -> None:
    choose = random.Random(seed)
    value = {"a": [random_value(choose) for _ in range(20)]}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False, width=100))  # by an earlier version
    assert load_plan(path) == value
    path.write_text(dump_yaml(value, width=100))
    assert load_plan(path) == value
    # A resolved space that is written is a space again, for every reader of YAML.
    assert load_yaml(path) == value
    assert yaml.safe_load(path.read_text()) == value


def test_depth_counts_through_aliases() -> None:
    lines = ["a0: &a0 1"]
    lines += [f"a{i}: &a{i} {'[' * 20}*a{i - 1}{']' * 20}" for i in range(1, 40)]
    with pytest.raises(UsageError, match=r"space:3:\d+: is more than 32 levels deep"):
        parse_yaml("\n".join(lines), "space")


def test_keys_are_told_apart_by_their_type() -> None:
    assert parse_yaml("{1: a, true: b, 1.0: c}", "space")[1] == "c"
    with pytest.raises(UsageError, match="is given twice"):
        parse_yaml("{.nan: 1, .nan: 2}", "space")
