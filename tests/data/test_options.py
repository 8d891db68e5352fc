import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from kod_bench.data import DatasetName, DatasetOptions, datasets


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "fingerprint"},
        {"image_size": 7},
        {"image_size": 513},
        {"view": "patch"},
        {"scale": 0},
        {"scale": 1.5},
        {"test_share": 0},
        {"test_share": 0.6},
        {"max_patches_per_image": 0},
        {"synthetic": {"fingers": 1}},
        {"synthetic": {"finger": 3}},
        {"imagesize": 32},
    ],
    ids=str,
)
def test_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetOptions.model_validate({"name": "fingerprints", "image_size": 32, **wrong})


def test_survives_being_written_and_read() -> None:
    options = DatasetOptions(name="fingerprints", image_size=32, view="whole")
    assert DatasetOptions.model_validate_json(options.model_dump_json()) == options


def test_every_name_has_an_entry() -> None:
    assert set(get_args(DatasetName)) == set(datasets._DATASETS)


def test_options_do_not_wait_for_torch() -> None:
    code = "import kod_bench.data, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
