"""The identity of a user's extractor: its source, its helpers' and its weights, not its name."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kod_bench.evaluation import Reference, make_extractor
from kod_bench.evaluation.identity import identity_hash
from tests.plugins import Announce

OWN = """
import numpy, torch
{imports}

class Pooled:
    name = "pooled"
    {more}

    def __call__(self, images):
        return SCALE * images.float().mean((2, 3))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes modules into the working folder, none of which is loaded: {stem: source} => name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # times are too coarse for these edits

    def files(imports: str = "SCALE = 1.0", more: str = "", **modules: str) -> str:
        modules["identity_own"] = OWN.format(imports=imports, more=more or INIT)
        for name, source in modules.items():
            path = Path(name.replace("__in__", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        for name in [n for n in sys.modules if n.split(".")[0].startswith("identity_")]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        return "identity_own:Pooled"

    return files


INIT = "def __init__(self, device): pass"


def named(asked: str) -> str:
    """The extractor's name as a row has it."""
    return make_extractor(asked).name


def test_the_name_has_the_own_name_and_a_hash(write: Callable[..., str]) -> None:
    name = named(write())
    assert name.startswith("identity_own:Pooled-pooled-")
    assert len(name.rpartition("-")[2]) == 8
    assert named(write()) == name


def test_an_edited_extractor_that_keeps_its_name_is_another(write: Callable[..., str]) -> None:
    one, edited, again = (named(write(f"SCALE = {scale}")) for scale in (1.0, 3.0, 1.0))
    assert one == again != edited


def test_an_edited_one_does_not_meet_the_others_reference(
    write: Callable[..., str], tmp_path: Path
) -> None:
    """The case of the issue: KID against features of the code before the edit."""
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)

    def measured(asked: str) -> np.ndarray:
        reference = Reference.load(
            train=images[:6],
            test=images[6:],
            data_hash="same",
            sample_count=6,
            reference_count=6,
            seed=0,
            extractor=make_extractor(asked),
            folder=tmp_path / "references",
        )
        assert reference.measured.features is not None
        return reference.measured.features

    one, edited = measured(write("SCALE = 1.0")), measured(write("SCALE = 3.0"))
    np.testing.assert_allclose(edited, 3 * one, rtol=1e-6)
    assert len(list((tmp_path / "references").glob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("imports", "helper"),
    [
        ("from identity_helper import SCALE", "identity_helper"),
        ("import identity_helper; SCALE = identity_helper.SCALE", "identity_helper"),
        ("from identity_pack.deep import SCALE", "identity_pack__in__deep"),
        ("from identity_pack import deep; SCALE = deep.SCALE", "identity_pack__in__deep"),
        ("from identity_pack import SCALE", "identity_pack__in____init__"),
        ("from identity_other import SCALE", "identity_pack__in__deep"),  # through another
    ],
)
def test_helpers_count(write: Callable[..., str], imports: str, helper: str) -> None:
    def version(scale: float) -> str:
        modules = {
            "identity_helper": "SCALE = 1",
            "identity_other": "from identity_pack.deep import *",
            "identity_pack__in____init__": "SCALE = 1",
            "identity_pack__in__deep": "from . import more\nSCALE = 1",
            "identity_pack__in__more": "",
        }
        return named(write(imports, **{**modules, helper: f"SCALE = {scale}"}))

    one, edited, again = version(1), version(2), version(1)
    assert one == again != edited


def test_an_import_within_a_function_and_a_relative_one_count(write: Callable[..., str]) -> None:
    lazy = "SCALE = 1.0\ndef later():\n    from identity_pack import deep"

    def version(content: str) -> str:
        return named(
            write(
                lazy,
                identity_pack__in____init__="",
                identity_pack__in__deep="from .more import X",
                identity_pack__in__more=content,
            )
        )

    assert version("X = 1") == version("X = 1") != version("X = 2")


def test_what_is_not_imported_does_not_count(write: Callable[..., str]) -> None:
    one = named(write(identity_apart="X = 1"))
    assert named(write(identity_apart="X = 2")) == one


def test_what_is_installed_does_not_count(
    write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages of the index have versions, which rows hold."""
    import kod_bench.evaluation.identity as module

    asked = write("from kod_bench.evaluation import CleanFidExtractor\nSCALE = 1.0")
    make_extractor(asked)
    found = module._sources("identity_own", [])
    assert list(found) == ["identity_own"]


@pytest.mark.parametrize("name", ["site-packages", "dist-packages"])
def test_what_another_environment_has_installed_does_not_count(
    write: Callable[..., str], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Modules of a cluster and .pth files lend the packages of others, by PYTHONPATH and sys.path.

    Of PyTorch, which took two minutes to be walked, at every scoring.
    """
    lent = tmp_path / "lib" / name
    lent.mkdir(parents=True)
    monkeypatch.syspath_prepend(lent)

    def version(scale: int) -> str:
        asked = write("from identity_lent import SCALE")
        (lent / "identity_lent.py").write_text(f"SCALE = {scale}")
        return named(asked)

    assert version(1) == version(2)


def test_an_installed_extractor_counts_with_its_own_package(
    write: Callable[..., str], announce: Announce, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import kod_bench.evaluation.identity as module

    monkeypatch.setattr(module, "_libraries", lambda: (tmp_path,))

    def version(deep: str, apart: str) -> str:
        write(
            identity_pack__in____init__="from .deep import Made",
            identity_pack__in__deep=f"import identity_helper\n{deep}\n"
            "class Made:\n    name = 'made'\n    def __init__(self, device): pass\n"
            "    def __call__(self, images): return images.float().mean((2, 3))",
            identity_helper=apart,
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return named("made")

    announce("identity-pack", {"kod_bench.extractors": {"made": "identity_pack:Made"}})
    one = version("X = 1", "Y = 1")
    assert one.startswith("made-made-")
    assert version("X = 2", "Y = 1") != one
    assert version("X = 1", "Y = 2") == one


def test_a_class_that_another_module_makes_counts_with_both(write: Callable[..., str]) -> None:
    helper = (
        "class Made:\n    name = 'made'\n    def __call__(self, images): pass\n"
        "def make(scale):\n    return lambda device: Made(){more}"
    )

    def version(scale: int, more: str = "") -> str:
        write(
            f"import identity_helper\nSCALE = 1\nMade = identity_helper.make({scale})",
            identity_helper=helper.format(more=more),
        )
        return named("identity_own:Made")

    assert len({version(1), version(2), version(1, "  # other")}) == 3


WEIGHTS = """
    def __init__(self, device):
        self.weights = {expression}
"""


@pytest.mark.parametrize(
    "expression",
    [
        "torch.load('weights.pt')",
        "torch.load('weights.pt').numpy()",
        "[dict(of=torch.load('weights.pt'))]",
        "torch.nn.Sequential(torch.nn.ReLU(), torch.nn.PReLU(3)); "
        "self.weights[1].weight.data = torch.load('weights.pt')",
        "type('Wrapper', (), {})(); self.weights.inner = torch.load('weights.pt').bfloat16()",
        "torch.nn.Identity(); self.weights.plain = torch.load('weights.pt')",
        "torch.nn.Identity(); self.weights.register_buffer("
        "'kept', torch.load('weights.pt'), persistent=False)",
        "(lambda held: lambda x: held)(torch.load('weights.pt'))",
        "__import__('functools').partial(max, torch.load('weights.pt'))",
    ],
)
def test_weights_count(write: Callable[..., str], expression: str) -> None:
    def version(value: float) -> str:
        torch.save(torch.full((3,), value), "weights.pt")
        return named(write(more=WEIGHTS.format(expression=expression)))

    one, other, again = version(1.0), version(2.0), version(1.0)
    assert one == again != other


def test_edited_after_it_was_imported_it_is_what_was_imported(write: Callable[..., str]) -> None:
    """A trial that runs on with the old code must not leave a reference under the new name."""
    asked = write("from identity_helper import SCALE", identity_helper="SCALE = 1.0")
    before = named(asked)
    for name in ("identity_own", "identity_helper"):
        path = Path(f"{name}.py")
        path.write_text(path.read_text().replace("1.0", "3.0") + "\n# edited\n")
    assert named(asked) == before
    importlib.reload(sys.modules["identity_helper"])
    importlib.reload(sys.modules["identity_own"])
    assert named(asked) != before


@pytest.mark.slow
def test_another_process_says_the_same(write: Callable[..., str]) -> None:
    torch.save(torch.arange(3.0), "weights.pt")
    asked = write(more=WEIGHTS.format(expression="torch.load('weights.pt')"))
    code = f"from kod_bench.evaluation import make_extractor as m; print(m({asked!r}).name)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == named(asked)


@pytest.mark.filterwarnings("ignore")  # torch is about to part with quantized tensors
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.tensor(1.5),
        lambda: torch.zeros(0),
        lambda: torch.ones(2, 2).to_sparse(),
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.tensor([True, False]),
        lambda: torch.ones(4, 4).T[1:],
        lambda: torch.ones(2, requires_grad=True),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.ones(2, device="meta"),
        lambda: np.array(["a", None], dtype=object),
        lambda: np.array(["2026-11-29"], dtype="datetime64[D]"),
    ],
)
def test_any_tensor_can_be_hashed(make: Callable[[], object]) -> None:
    assert len(identity_hash("json", [], {"held": make()})) == 8


def test_shapes_and_types_count() -> None:
    arrays = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), np.zeros(4)]
    assert len({identity_hash("json", [], [array]) for array in arrays}) == 4


@pytest.mark.filterwarnings("ignore")  # and with scripted networks
def test_a_scripted_network_counts_by_its_weights() -> None:
    def scripted(value: float) -> str:
        network = nn.Linear(2, 2)
        for weight in network.parameters():
            nn.init.constant_(weight, value)
        return identity_hash("json", [], torch.jit.trace(network, torch.zeros(1, 2)))

    assert scripted(1.0) == scripted(1.0) != scripted(2.0)


def test_a_folder_of_a_package_that_is_not_loaded_is_looked_at_all_the_same(
    write: Callable[..., str],
) -> None:
    # CPython raises KeyError for `identity_wrap.inside`: its finder asks for the loaded package.
    helper = "import identity_wrap.inside.made\nSCALE = 1.0"
    asked = write(
        f"def later():\n    {helper.splitlines()[0]}\nSCALE = 1.0",
        identity_wrap__in____init__="",
    )
    (Path("identity_wrap") / "inside").mkdir()
    (Path("identity_wrap") / "inside" / "made.py").write_text("X = 1")
    assert named(asked).startswith(asked)
