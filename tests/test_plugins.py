"""Plug-ins: found without being imported, named like what is built in, never by a stranger."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import kod_bench as package
from kod_bench import plugins
from kod_bench.cli.main import main
from kod_bench.data import DatasetOptions, open_dataset
from kod_bench.diffusion import DDPM, find_process, make_process, process_names
from kod_bench.errors import UsageError
from kod_bench.plugins import PluginError, find_plugin
from kod_bench.reports.frame import frame_of
from kod_bench.reports.make import make_content
from kod_bench.results import Row, provenance
from kod_bench.source_hash import folder_hash, module_hash
from kod_bench.sweeps.plan import Sweep, create_sweep, make_trials, open_sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.trust import changed_plugins, check_trusted, permissions
from tests.conftest import Command
from tests.plugins import Announce, write_package
from tests.rows import make_row

PROCESSES, DATASETS = "kod_bench.processes", "kod_bench.datasets"

BLUR = """
{before}
from kod_bench.diffusion import DDPM

class Blur(DDPM):
    structured = True

    def __init__(self, *, shape: tuple[int, int, int], steps: int, radius: float = 1.0) -> None:
        super().__init__(shape=shape, steps=steps)
        if radius < 0:
            raise ValueError(f"radius must be at least 0, got {{radius}}")
        self.radius = radius
"""

DOTS = """
{before}
import numpy as np
from kod_bench.data import DatasetSpec, SourceImage, unless_folder

class Dots:
    name, title, units = "{name}", "dots", 20
    notes, parallel, split_rule = (), False, ""
    def __init__(self, options):
        self.size = options.image_size
    def identity(self):
        return {{}}
    def unpack(self, folder):
        pass
    def read(self, unit):
        pixels = np.full((self.size, self.size), {value}, np.uint8)
        pixels.flat[unit] = 0
        return [SourceImage(str(unit), pixels)]

DOTS = DatasetSpec(
    subject="picture", group_noun="dots", layout="any", licence="free",
    without_folder=lambda _: "drawn", open_special=unless_folder(Dots), defaults={defaults},
)
"""


def blur(announce: Announce, name: str, before: str = "", **more: str) -> None:
    """Install a process; names differ between tests, since classes are imported once."""
    module = f"plugged_{name}"
    source = {f"{module}.py": BLUR.format(before=before)}
    announce(f"bench-{name}", {PROCESSES: {name: f"{module}:Blur"}}, source, **more)


def dots(
    announce: Announce,
    name: str,
    *,
    before: str = "",
    source_name: str = "",
    value: int = 255,
    defaults: str = "{'view': 'whole'}",
) -> None:
    """Install a data set."""
    module = f"plugged_{name}"
    text = DOTS.format(before=before, name=source_name or name, value=value, defaults=defaults)
    announce(f"bench-{name}", {DATASETS: {name: f"{module}:DOTS"}}, {f"{module}.py": text})


def marked(mark: Path) -> str:
    """Source that leaves a mark when it runs."""
    return f"open({str(mark)!r}, 'w').close()"


def write_space(folder: Path, models: str, dataset: str = "fingerprints", more: str = "") -> Path:
    path = folder / "study.yaml"
    path.write_text(
        f"name: study\ndataset: {{name: {dataset}, image_size: 16}}\n"
        "training: {iterations: 10, batch_size: 8}\n"
        f"evaluation: {{samples: 16, references: 16, features: efficientnet-lite0}}\n{more}"
        f"models:\n{models}\n"
    )
    return path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run kod-bench in this process, which has torch already."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["kod-bench", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            main()
        signal.signal(signal.SIGTERM, before)
        code = ended.value.code or 0
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(code), said.out, said.err)

    return run


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
    assert "'blur-c' is not a process; known: ddpm, " in refused.stderr
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


# Plans and rows


def plan(tmp_path: Path, models: str, dataset: str = "fingerprints", more: str = "") -> Sweep:
    space = load_space(write_space(tmp_path, models, dataset, more), "auto")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )


def test_the_source_is_part_of_a_trials_identity(announce: Announce, tmp_path: Path) -> None:
    models = "  one: {process: blur-f, steps: 4}\n  ddpm: {process: ddpm, steps: 4}"
    blur(announce, "blur-f")
    before = {trial.model: trial for trial in plan(tmp_path, models).trials}
    (known,) = before["one"].plugins
    assert (known["kind"], known["name"], known["package"]) == ("process", "blur-f", "bench-blur-f")
    assert "plugins" not in before["ddpm"].values  # whose id is what it was without plug-ins
    blur(announce, "blur-f", "# another comment")
    after = {trial.model: trial for trial in plan(tmp_path, models).trials}
    assert after["one"].id != before["one"].id
    assert after["ddpm"].id == before["ddpm"].id


def test_a_resume_says_that_a_plugin_has_changed(announce: Announce, tmp_path: Path) -> None:
    blur(announce, "blur-g")
    sweep = plan(tmp_path, "  one: {process: blur-g, steps: 4}")
    assert changed_plugins(sweep) == []
    before = module_hash("plugged_blur-g")
    blur(announce, "blur-g", "# another comment")
    ((planned, now),) = changed_plugins(open_sweep(sweep.folder))
    assert planned == f"process 'blur-g' of bench-blur-g 1.0+{before}"
    assert now == f"process 'blur-g' of bench-blur-g 1.0+{module_hash('plugged_blur-g')}"


def test_a_report_knows_of_plugins_by_their_rows_alone() -> None:
    said = {
        "kind": "process",
        "name": "blur-x",
        "package": "bench-blur",
        "version": "1.2",
        "source": "0123456789ab",
        "structured": True,
    }
    rows = [
        row_of(seed=seed, model=name, process=name, plugins=json.dumps([said]) if known else None)
        for seed in (0, 1)
        for name, known in (("blur-x", True), ("ddpm", False), ("blur-y", False))
    ]
    content = make_content(frame_of(rows), title="study")
    structured = {cell.model: cell.structured for group in content.groups for cell in group.cells}
    assert structured == {"blur-x": True, "ddpm": False, "blur-y": None}
    assert content.provenance.statements[0] == (
        "Process blur-x is a plug-in: bench-blur 1.2, source 0123456789ab (2 rows)."
    )
    other = row_of(seed=2, model="blur-x", process="blur-x", plugins="[{}, 3]")
    assert make_content(frame_of([*rows, other]), title="study").rows is not None


def row_of(**changes: object) -> Row:
    return make_row(trial=f"{changes['model']}-{changes['seed']}", **changes)


# Strangers


@pytest.mark.parametrize("kind", ["process", "dataset", "extractor", "search"])
def test_resume_imports_no_plugin_that_its_user_did_not_name(
    announce: Announce, call: Command, tmp_path: Path, kind: str
) -> None:
    mark, dataset, more = tmp_path / "ran", "fingerprints", ""
    models = "  one: {process: ddpm, steps: 4}"
    name = f"plug-{kind}"
    if kind == "dataset":
        dots(announce, name)
        dataset = name
    elif kind == "extractor":
        source = "class Means:\n    def __init__(self, device): ...\n"
        reference = {"kod_bench.extractors": {name: "plugged_means:Means"}}
        announce(f"bench-{name}", reference, {"plugged_means.py": source})
    else:
        blur(announce, name)
        models = f"  one: {{process: {name}, steps: 4}}"
        if kind == "search":
            models = f"  one: {{process: {name}, steps: 4, radius: {{uniform: [0.5, 1.0]}}}}"
            more = "search: {strategy: optuna, trials: 3}\n"
    path = write_space(tmp_path, models, dataset, more)
    if kind == "extractor":
        path.write_text(path.read_text().replace("efficientnet-lite0", name))
    space = load_space(path, "auto")
    sweep = create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )
    assert (sweep.growth is not None) is (kind == "search")
    # The same package, now with something to notice.
    site = tmp_path / "site-packages"
    for module in site.glob("plugged_*.py"):
        module.write_text(marked(mark) + "\n" + module.read_text())
    for verb in ("status", "report"):
        assert "Traceback" not in call(verb, sweep.folder).stderr
    refused = call("resume", sweep.folder)
    assert refused.returncode == 2
    assert f"its plan imports {'data set' if kind == 'dataset' else ''}" in refused.stderr
    assert refused.stderr.endswith(
        f"of package bench-{name} 1.0; if you know that code and trust it, add "
        f"--plugin bench-{name}\n"
    )
    assert len(refused.stderr.splitlines()) == 1
    assert call("resume", sweep.folder, "--plugin", "another").returncode == 2
    assert not mark.exists()
    for trusted in (name, f"bench-{name}"):
        check_trusted(sweep, None, [trusted])
    assert permissions(sweep) == ("--plugin", f"bench-{name}")
    own = replace(sweep, permissions=permissions(sweep))
    assert own.resume_command == f"kod-bench resume {sweep.folder} --plugin bench-{name}"
    assert open_sweep(sweep.folder).resume_command == f"kod-bench resume {sweep.folder}"


def test_what_is_not_installed_is_named(announce: Announce, call: Command, tmp_path: Path) -> None:
    blur(announce, "blur-h")
    sweep = plan(tmp_path, "  one: {process: blur-h, steps: 4}")
    for path in (tmp_path / "site-packages").rglob("*"):
        if path.is_file():
            path.unlink()
    plugins.forget()
    for verb in ("status", "report"):
        assert "Traceback" not in call(verb, sweep.folder).stderr
    refused = call("resume", sweep.folder, "--plugin", "blur-h")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: {sweep.folder}: its plan needs process 'blur-h', which is not built in, and no "
        "installed package has one; it was planned with bench-blur-h 1.0\n"
    )


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
