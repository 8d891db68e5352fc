"""Plug-ins: found without being imported, named like what is built in, never by a stranger."""

import re
import sys
from pathlib import Path

import pytest

import kod_bench as package
from kod_bench import plugins
from kod_bench.data import DatasetOptions, open_dataset
from kod_bench.diffusion import DDPM, find_process, make_process, process_names
from kod_bench.errors import UsageError
from kod_bench.plugins import PluginError, find_plugin
from kod_bench.source_hash import folder_hash, module_hash
from kod_bench.sweeps.space import load_space
from tests.conftest import Command
from tests.plugins import (
    BLUR,
    DATASETS,
    PROCESSES,
    Announce,
    blur,
    dots,
    marked,
    write_package,
    write_space,
)

# Finding


def test_finding_imports_nothing(announce: Announce, tmp_path: Path) -> None:
    blur(announce, "blur-a", marked(tmp_path / "ran"))
    dots(announce, "dots-a", before=marked(tmp_path / "ran"))
    assert "blur-a" in process_names()
    found = find_plugin("process", "blur-a", ())
    assert found is not None
    assert found.identity() == {
        "kind": "process",
        "name": "blur-a",
        "package": "bench-blur-a",
        "version": "1.0",
        "source": module_hash("plugged_blur-a"),
    }
    assert DatasetOptions(
        name="dots-a", image_size=16, view="whole", scale=1.0, color="gray", augment=()
    )
    assert not (tmp_path / "ran").exists()
    assert find_process("blur-a").structured
    assert (tmp_path / "ran").exists()


def test_light_commands_import_no_plugin(announce: Announce, call: Command, tmp_path: Path) -> None:
    blur(announce, "blur-b", marked(tmp_path / "ran"))
    dots(announce, "dots-b", before=marked(tmp_path / "ran"))
    listed = call("data", "list")
    assert listed.returncode == 0, listed.stderr
    assert "dots-b\n  from     package bench-dots-b 1.0; not prepared\n" in listed.stdout
    space = write_space(tmp_path, "  ddpm: {process: ddpm, steps: 4}")
    assert call("spaces", "validate", space).returncode == 0
    assert not (tmp_path / "ran").exists()
    wrong = write_space(tmp_path, "  one: {process: blur-c, steps: 4}")
    refused = call("spaces", "validate", wrong)
    assert "'blur-c' is not a process; known: blurring, ddpm, " in refused.stderr
    assert "blur-b" in refused.stderr
    assert not (tmp_path / "ran").exists()


def test_a_built_in_name_cannot_be_taken_over(
    announce: Announce, call: Command, tmp_path: Path
) -> None:
    announce("taker", {PROCESSES: {"ddpm": "json:loads"}, DATASETS: {"textures": "json:loads"}})
    with pytest.raises(PluginError, match=r"process 'ddpm' is built in, and the .* taker 1\.0"):
        make_process("ddpm", shape=(1, 8, 8), steps=4)
    space = write_space(tmp_path, "  one: {process: ddpm, steps: 4}")
    refused = call("spaces", "validate", space)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {space}: models.one.process: process 'ddpm' is built in, and the installed taker "
        "1.0 announces another of this name; uninstall it, or have it renamed\n"
    )
    refused = call("data", "prepare", "textures")
    assert refused.returncode == 2
    assert "data set 'textures' is built in, and the installed taker 1.0" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert make_process("edm", shape=(1, 8, 8), steps=4).steps == 4  # the others go on


def test_two_packages_of_one_name_are_both_named(announce: Announce) -> None:
    for each in ("one", "other"):
        announce(each, {PROCESSES: {"twice": "json:loads"}, DATASETS: {"twice": "json:loads"}})
    for kind in ("process", "dataset"):
        with pytest.raises(PluginError, match=r"announced by two .* one 1\.0 and other 1\.0; unin"):
            find_plugin(kind, "twice", ())  # type: ignore[arg-type]


def test_the_same_package_twice_on_the_path_is_one(
    announce: Announce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce("shadow", {PROCESSES: {"shadow": "shadow:New"}}, version="2.0")
    write_package(tmp_path / "old", "shadow", {PROCESSES: {"shadow": "shadow:Old"}}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "old")])
    plugins.forget()
    found = find_plugin("process", "shadow", ())
    assert found is not None
    assert found.version == "2.0"  # the one that would be imported


# Wrong ones

WRONG = {
    "gone": ("no_such_module:Process", "", "ModuleNotFoundError: No module named 'no_such_module'"),
    "lost": ("plugged_lost:Process", "", "has no attribute 'Process'"),
    "raises": ("plugged_raises:P", "1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("plugged_exits:P", "import sys; sys.exit(3)", "SystemExit: 3"),
    "number": ("plugged_number:P", "P = 3", "3 is no subclass of DiffusionProcess"),
    "partial": (
        "plugged_partial:P",
        "from kod_bench.diffusion import DiffusionProcess\nclass P(DiffusionProcess): ...",
        "P lacks decode, encode",
    ),
    "bare": (
        "plugged_bare:P",
        "from kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple, steps: int, power=1): ...",
        "parameter 'power' of P has no annotation",
    ),
    "open": (
        "plugged_open:P",
        "from kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple, steps: int, **more: int): ...",
        "parameter 'more' of P cannot be given by keyword",
    ),
    "stepless": (
        "plugged_stepless:P",
        "from kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple): ...",
        "has no parameter 'steps'",
    ),
    "reserved": (
        "plugged_reserved:P",
        "from kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple, steps: int, network: int): ...",
        "parameter 'network' of P: this key of search spaces means something else",
    ),
    "hidden": (
        "plugged_hidden:P",
        "from __future__ import annotations\nfrom kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple, steps: int, x: Unknown): ...",
        "the annotations of P cannot be read: name 'Unknown' is not defined",
    ),
    "unsayable": (
        "plugged_unsayable:P",
        "import torch\nfrom kod_bench.diffusion import DDPM\n"
        "class P(DDPM):\n    def __init__(self, *, shape: tuple, steps: int, x: torch.Tensor): ...",
        "its parameters cannot be validated",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_process_that_is_none_gets_one_line(
    announce: Announce, tmp_path: Path, name: str
) -> None:
    reference, source, message = WRONG[name]
    modules = {f"plugged_{name}.py": source} if name != "gone" else {}
    announce(f"bench-{name}", {PROCESSES: {name: reference}}, modules)
    space = write_space(tmp_path, f"  one: {{process: {name}, steps: 4}}")
    with pytest.raises(UsageError) as raised:
        load_space(space, "auto")
    said = str(raised.value)
    assert message in said
    assert f"process '{name}'" in said
    assert "\n" not in said
    if name != "unsayable":
        assert f"of package bench-{name} 1.0" in said
        assert f"{space}: models.one.process: " in said


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("dots-c", {"before": "1 / 0"}, "cannot be imported from plugged_dots-c:DOTS: ZeroDivis"),
        ("dots-d", {"before": "import sys\n"}, "names"),
        ("dots-e", {"defaults": "{'image_size': 3}"}, "has a default for image_size; allowed"),
        ("dots-f", {"defaults": "{'view': 'hole'}"}, "its default view: Input should be"),
        ("dots-g", {"source_name": "textures-builtin"}, "calls itself 'textures-builtin'; it must"),
    ],
)
def test_a_data_set_that_is_none_gets_one_line(
    announce: Announce, call: Command, name: str, more: dict[str, str], message: str
) -> None:
    if message == "names":
        announce(f"bench-{name}", {DATASETS: {name: "json:loads"}})
        message = "json:loads is no DatasetSpec, but <function loads"
    else:
        dots(announce, name, **more)  # type: ignore[arg-type]
    refused = call("data", "prepare", name, "--image-size", "16")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("where", ["dataset.name", "models.one.dataset.name"])
def test_a_search_space_says_where_it_names_one(
    announce: Announce, tmp_path: Path, where: str
) -> None:
    name = f"dots-{len(where)}"
    dots(announce, name, before="1 / 0")
    common = where == "dataset.name"
    model = "  one: {process: ddpm, steps: 4" + (
        "}" if common else f", dataset: {{name: {name}}}}}"
    )
    path = write_space(tmp_path, model, name if common else "fingerprints")
    with pytest.raises(UsageError) as raised:
        load_space(path, "auto")
    assert str(raised.value) == (
        f"{path}: {where}: data set '{name}' of package bench-{name} 1.0 cannot be imported from "
        f"plugged_{name}:DOTS: ZeroDivisionError: division by zero"
    )


# Search spaces


def test_a_process_with_postponed_annotations_can_be_named(
    announce: Announce, tmp_path: Path
) -> None:
    blur(announce, "blur-d", "from __future__ import annotations")
    models = "  one: {process: blur-d, steps: 4, radius: {grid: [1.0, 2.0]}}"
    space = load_space(write_space(tmp_path, models), "auto")
    assert [variant.parameters for variant in space.variants] == [{"radius": 1.0}, {"radius": 2.0}]
    wrong = models.replace("2.0", "-2.0")
    with pytest.raises(UsageError, match=r"models\.one: radius must be at least 0, got -2\.0"):
        load_space(write_space(tmp_path, wrong), "auto")


def test_conditions_may_be_on_a_plugged_process_and_its_parameters(
    announce: Announce, tmp_path: Path
) -> None:
    blur(announce, "blur-e")
    models = "  ddpm: {process: ddpm, steps: 4}\n  one: {process: blur-e, steps: 4, radius: 2.0}\n"
    path = write_space(tmp_path, models)
    path.write_text(
        path.read_text().replace(
            "iterations: 10",
            "weight_decay: {value: 0.1, when: {radius: 2.0}}, iterations: 10, "
            "gradient_clip: {value: 2.0, when: {process: blur-e}}",
        )
    )
    found = {v.model: v.training for v in load_space(path, "auto").variants}
    assert found["one"].weight_decay == 0.1
    assert found["one"].gradient_clip == 2.0
    assert found["ddpm"].weight_decay != 0.1
    assert found["ddpm"].gradient_clip != 2.0


def test_a_process_that_takes_only_squares_can_be_validated(
    announce: Announce, tmp_path: Path
) -> None:
    check = (
        "\n    @classmethod\n    def check_shape(cls, shape):\n"
        "        if shape[1] != shape[2] or shape[0] != 3:\n"
        "            raise ValueError(f'colour squares only, not {shape}')\n"
    )
    source = BLUR.format(before="") + check
    announce(
        "bench-square",
        {PROCESSES: {"square": "plugged_square:Blur"}},
        {"plugged_square.py": source},
    )
    path = write_space(tmp_path, "  one: {process: square, steps: 4, radius: 2.0}")
    assert load_space(path, "auto").variants[0].parameters == {"radius": 2.0}


def test_defaults_are_the_data_sets_own(announce: Announce) -> None:
    dots(announce, "dots-h", defaults="{'view': 'whole', 'augment': ['rotate']}")
    options = DatasetOptions(name="dots-h", image_size=16)
    assert (options.view, options.augment, options.scale) == ("whole", ("rotate",), 0.5)
    assert hash(options)


def test_the_source_is_part_of_the_key_of_prepared_images(
    announce: Announce, tmp_path: Path
) -> None:
    dots(announce, "dots-i")
    options = DatasetOptions(name="dots-i", image_size=16)
    first = open_dataset(options, None, tmp_path / "cache")
    assert not first.cached
    assert open_dataset(options, None, tmp_path / "cache").cached
    dots(announce, "dots-i", value=254)
    changed = open_dataset(options, None, tmp_path / "cache")
    assert not changed.cached


# Source hashes


def test_source_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hashed_one.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "hashed" / "inner").mkdir(parents=True)
    (tmp_path / "hashed" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "hashed" / "inner" / "deep.py").write_text("")
    (tmp_path / "hashed_space" / "part").mkdir(parents=True)  # no __init__.py: shared by others
    (tmp_path / "hashed_space" / "part" / "__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "hashed_space" / "other.py").write_text("")
    found = {
        name: module_hash(name)
        for name in ("hashed_one", "hashed.inner.deep", "hashed_space.part", "hashed_space.other")
    }
    assert len(set(found.values())) == 4
    assert found["hashed.inner.deep"] == module_hash("hashed") == folder_hash(tmp_path / "hashed")
    (tmp_path / "hashed_space" / "other.py").write_text("# changed")
    assert module_hash("hashed_space.part") == found["hashed_space.part"]
    assert module_hash("hashed_space.other") != found["hashed_space.other"]
    (tmp_path / "hashed" / "inner" / "deep.py").write_text("# changed")
    assert module_hash("hashed") != found["hashed.inner.deep"]
    kept = module_hash("hashed")
    (tmp_path / "hashed" / "__pycache__").mkdir()
    (tmp_path / "hashed" / "__pycache__" / "deep.cpython-311.pyc").write_bytes(b"0")
    assert module_hash("hashed") == kept
    for missing in ("hashed_none", "hashed_space.none", "hashed_space"):
        with pytest.raises(ModuleNotFoundError):
            module_hash(missing)


# The suite is for tests alone


def test_only_the_suite_imports_pytest() -> None:
    root = Path(package.__file__).parent
    importing = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if re.search(r"^\s*(import|from) _?pytest\b", path.read_text(), re.M)
    }
    assert importing == {"testing"}
    elsewhere = re.compile(r"^\s*(import|from) kod_bench\.testing\b", re.M)
    for path in root.rglob("*.py"):
        assert "testing" in path.relative_to(root).parts or not elsewhere.search(path.read_text())


def test_a_subclass_of_a_built_in_process_is_no_built_in_one(announce: Announce) -> None:
    blur(announce, "blur-i")
    assert issubclass(find_process("blur-i"), DDPM)
    assert make_process("blur-i", shape=(1, 8, 8), steps=4, radius=3.0).steps == 4
    with pytest.raises(ValueError, match="blur-i has no colour; it takes radius"):
        make_process("blur-i", shape=(1, 8, 8), steps=4, colour=3.0)
