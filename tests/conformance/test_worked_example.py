"""CONTRIBUTING's example of a process passes what every process must, and needs nothing else."""

import inspect
import re
import sys
import types
from pathlib import Path

import pytest

from kod_bench.diffusion import PROCESSES
from kod_bench.sweeps.space import load_space
from tests.conformance import test_processes as suite

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
CHECKS = {name: check for name, check in vars(suite).items() if name.startswith("test_")}
SIZES = [((1, 8, 8), 25), ((3, 6, 9), 1)]


@pytest.fixture(scope="module", autouse=True)
def _fading():
    """Do what the page says: a file in diffusion/, an entry, a case."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    module = types.ModuleType("kod_bench.diffusion.fading")
    sys.modules[module.__name__] = module
    exec(compile(block, str(PAGE), "exec"), vars(module))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROCESSES, "fading", module.Fading)
        patch.setitem(suite.KINDS, "fading", ("fading", {}))
        yield
    del sys.modules[module.__name__]


@pytest.mark.parametrize("size", SIZES, ids=["T25", "T1"])
@pytest.mark.parametrize("name", CHECKS)
def test_the_example_passes_the_conformance_suite(name, size):
    check = CHECKS[name]
    shape, steps = size
    known = {
        "process": suite.make("fading", shape, steps),
        "shape": shape,
        "steps": steps,
        "device": "cpu",
        "kind": "fading",
        "number": 3,
    }
    check(**{argument: known[argument] for argument in inspect.signature(check).parameters})


def test_a_search_space_knows_the_example(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: study\ndataset: {name: fingerprints, image_size: 16}\ntraining: {iterations: 10}\n"
        "models: {fading: {process: fading, steps: 100, power: {grid: [1.0, 2.0]}, "
        "samplers: [straight]}}\n"
    )
    variants = load_space(path, "auto").variants
    assert [(v.process, v.parameters, v.samplers) for v in variants] == [
        ("fading", {"power": power}, ("straight",)) for power in (1.0, 2.0)
    ]
    path.write_text(path.read_text().replace("straight", "euler"))
    with pytest.raises(Exception, match="no sampler 'euler'; choose from ancestral, straight"):
        load_space(path, "auto")
