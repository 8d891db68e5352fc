"""Built-in images are the same on every processor."""

import json
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kod_bench.data import DatasetOptions, load_dataset, portable

DRAWN: list[dict[str, Any]] = [
    {"name": "xy", "image_size": 16, "xy": {"count": 60}},
    {"name": "flow", "image_size": 16, "flow": {"count": 40}},
    {"name": "orientation", "image_size": 32, "synthetic": {"fingers": 3}},
    {"name": "fingerprints", "image_size": 32, "synthetic": {"fingers": 2, "impressions": 1}},
    {"name": "sphere", "image_size": 16, "sphere": {"count": 20}},
    {"name": "sphere", "image_size": 16, "sphere": {"count": 20, "field": "log-normal"}},
]

_PRINT_HASHES = """
import json, sys
from kod_bench.data import DatasetOptions, load_dataset
options = [DatasetOptions.model_validate(each) for each in json.loads(sys.argv[1])]
print([load_dataset(each, None).content_hash for each in options])
"""


def extensions() -> list[str]:
    """The instruction sets that NumPy has found here, beyond those that it needs."""
    from numpy._core._multiarray_umath import (  # type: ignore[attr-defined]
        __cpu_dispatch__,
        __cpu_features__,
    )

    return [each for each in __cpu_dispatch__ if __cpu_features__.get(each)]


def test_images_are_the_same_without_what_newer_processors_have(tmp_path: Any) -> None:
    if not extensions():
        pytest.skip("NumPy uses no instruction set here that it could do without")
    here = [
        load_dataset(DatasetOptions.model_validate(each), None, tmp_path / "here").content_hash
        for each in DRAWN
    ]
    environment = {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": ",".join(extensions()),
        "OPENBLAS_CORETYPE": "Nehalem",
        "KOD_BENCH_CACHE": str(tmp_path / "there"),
    }
    there = subprocess.run(
        [sys.executable, "-c", _PRINT_HASHES, json.dumps(DRAWN)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == str(here)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (portable.exp, math.exp),
        (portable.tanh, math.tanh),
        (portable.sin, math.sin),
        (portable.cos, math.cos),
        (portable.arctan, math.atan),
        (lambda x: portable.power(np.abs(x), 2.3), lambda x: math.pow(abs(x), 2.3)),
        (lambda x: portable.arctan2(x, 1 - x), lambda x: math.atan2(x, 1 - x)),
    ],
)
def test_to_the_last_digit_in_the_type_that_was_given(
    function: Any, reference: Any, kind: type
) -> None:
    x: NDArray[Any] = np.random.default_rng(0).uniform(-9, 9, (7, 50)).astype(kind)
    found = function(x)
    assert found.dtype == kind
    assert found.shape == x.shape
    if kind is np.float64:
        expected = np.vectorize(reference)(x)
        np.testing.assert_allclose(found, expected, rtol=4e-16)
    else:  # 1 - x is of single precision, too
        expected = np.vectorize(reference)(x.astype(np.float64))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_to_a_power_is_nothing() -> None:
    assert portable.power(np.array([0.0, 1.0, 4.0]), 0.5).tolist() == [0, 1, 2]
