"""``kod-bench spaces new`` and ``spaces schema``, as their user sees them."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kod_bench.sweeps.plan.catalogue import summarise
from kod_bench.sweeps.space import known_spaces
from kod_bench.sweeps.space.new import TEMPLATE
from kod_bench.sweeps.space.yaml_file import load_yaml
from tests.cli.test_wrong_use import Run, assert_one_line, run

__all__ = ["run"]  # the fixture

MODELINE = "# yaml-language-server: $schema=schema.json\n"


def test_a_new_space_is_valid_and_says_what_to_type_next(run: Run, tmp_path: Path) -> None:
    code, out, err = run("spaces", "new", "study")
    assert (code, err) == (0, "")
    path = tmp_path / "search_spaces" / "study.yaml"
    text = path.read_text()
    assert text.startswith(MODELINE)
    assert load_yaml(path)["name"] == "study"
    assert "template" not in text
    assert summarise(path).problems == ()
    assert text.count("#") > 15  # it is to be read
    assert out.splitlines()[:2] == [
        "search_spaces/study.yaml: written, valid",
        "trials: laptop 4, workstation 4, cluster 12",
    ]
    assert max(map(len, out.splitlines())) <= 80
    for line in ("kod-bench spaces validate study", "kod-bench sweep study --dry-run"):
        assert line in out
    # What it tells to type works, and what an editor needs is beside it.
    assert run("spaces", "validate", "study")[0] == 0
    assert run("sweep", "study", "--dry-run", "--no-timing")[0] == 0
    assert json.loads((path.parent / "schema.json").read_text())["$schema"]


def test_what_the_template_has_in_comments_is_valid_too(run: Run, tmp_path: Path) -> None:
    assert run("spaces", "new", "study")[0] == 0
    path = tmp_path / "search_spaces" / "study.yaml"
    text = path.read_text()
    keys = re.findall(r"^( *)# (\w+: .*)$", text, re.MULTILINE)
    assert len(keys) >= 7
    for indent, said in keys:
        path.write_text(text.replace(f"{indent}# {said}", f"{indent}{said}"))
        assert summarise(path).problems == (), said
    assert TEMPLATE.count("search:") == 1


@pytest.mark.parametrize("name", sorted(known_spaces()))
def test_a_copy_keeps_everything_but_the_name(name: str, run: Run, tmp_path: Path) -> None:
    code, out, err = run("spaces", "new", "mine.2", "--from", name)
    assert (code, err) == (0, "")
    source, path = known_spaces()[name][0], tmp_path / "search_spaces" / "mine.2.yaml"
    assert load_yaml(path) == load_yaml(source) | {"name": "mine.2"}
    before, after = source.read_text().splitlines(), path.read_text().splitlines()
    assert after[0] == MODELINE.strip()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert (f"name: {name}", "name: mine.2") in changed
    for old, new in changed:  # its own commands, and nothing else
        assert old == f"name: {name}" or new == old.replace(f"sweep {name}", "sweep mine.2"), old
    assert "kod-bench sweep mine.2 --dry-run" in out


def test_a_copy_of_ones_own_keeps_its_comments(run: Run, tmp_path: Path, tiny_space: Path) -> None:
    text = tiny_space.read_text().replace(
        "name: tiny", 'name: "tiny"   # mine\n# kod-bench spaces show tiny; not tiny-er\n'
    )
    tiny_space.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert run("spaces", "new", "other", "--from", tiny_space)[0] == 0
    copied = (tmp_path / "search_spaces" / "other.yaml").read_text()
    assert copied.startswith(MODELINE)
    assert "name: other   # mine\n# kod-bench spaces show other; not tiny-er\n" in copied


@pytest.mark.parametrize("name", ["1", "true", "1e5", "2026-01-01", "null"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(
    name: str, run: Run, tmp_path: Path
) -> None:
    assert run("spaces", "new", name)[0] == 0
    path = tmp_path / "search_spaces" / f"{name}.yaml"
    assert load_yaml(path)["name"] == name
    assert summarise(path).problems == ()


def test_a_space_that_hides_a_shipped_one_says_so(run: Run) -> None:
    code, out, _ = run("spaces", "new", "textures", "--from", "textures")
    assert code == 0
    assert re.search(r"^note: it hides /.*/textures\.yaml$", out, re.MULTILINE)


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    for file in ("mine.yaml", "yours.yml", "schema.json"):
        (folder / file).write_text("precious")
    assert_one_line(run("spaces", "new", "mine"), "mine.yaml: exists already")
    assert_one_line(run("spaces", "new", "yours"), "yours.yml: exists already")
    assert run("spaces", "new", "third")[0] == 0
    assert {p.name: p.read_text() for p in folder.iterdir() if p.stem != "third"} == dict.fromkeys(
        ("mine.yaml", "yours.yml", "schema.json"), "precious"
    )


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "a/b", "x" * 61, "näme"])
def test_a_name_must_be_one(name: str, run: Run, tmp_path: Path) -> None:
    assert_one_line(run("spaces", "new", name), "a name has letters, digits and . _ -")
    assert_one_line(run("spaces", "new", "study.yml"), "study.yml: must be a name, without .yml")
    assert not (tmp_path / "search_spaces").exists()


def test_what_cannot_be_copied_is_refused(run: Run, tmp_path: Path, tiny_space: Path) -> None:
    assert_one_line(run("spaces", "new", "a", "--from", "tixtures"), "unknown search space")
    flow = tmp_path / "flow.yaml"
    flow.write_text(json.dumps(load_yaml(tiny_space)))
    assert_one_line(run("spaces", "new", "a", "--from", flow), "has no line 'name: ...'")
    tiny_space.write_text(tiny_space.read_text().replace("iterations: 40", "iterations: 0"))
    result = run("spaces", "new", "a", "--from", tiny_space)
    assert_one_line(result, "--from", "is not valid", "training.iterations: 0 is not allowed")
    assert not (tmp_path / "search_spaces").exists()
    (tmp_path / "search_spaces").write_text("a file")
    assert_one_line(run("spaces", "new", "a"), "search_spaces: cannot be written")


def test_the_schema_is_printed_or_written(run: Run, tmp_path: Path) -> None:
    code, out, err = run("spaces", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["properties"]["training"]
    assert run("spaces", "schema", "--output", tmp_path / "schema.json") == (0, "", "")
    assert (tmp_path / "schema.json").read_text() == out
    missing = tmp_path / "none" / "schema.json"
    assert_one_line(run("spaces", "schema", "--output", missing), "--output", str(missing))
    assert yaml.safe_load(out)["title"] == "Search space of kod-bench"
