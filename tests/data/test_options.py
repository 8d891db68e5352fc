import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from kod_bench.data import DATASETS, DatasetOptions
from kod_bench.data.options import DATASET_NAMES


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
        {"name": "folder:"},
        {"scale": []},
        {"scale": [0.5, 2]},
        {"scale": [0.5, 0.5]},
        {"scale": "half"},
        {"color": "cmyk"},
        {"augment": ["shear"]},
        {"augment": ["rotate", "rotate"]},
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
    assert set(DATASET_NAMES) == set(DATASETS)


def test_options_do_not_wait_for_torch() -> None:
    code = "import kod_bench.data, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_defaults_belong_to_the_data_set() -> None:
    def of(name: str) -> tuple[object, ...]:
        options = DatasetOptions(name=name, image_size=32)
        return options.view, options.scale, options.color, options.augment

    both = ("horizontal-flip", "vertical-flip")
    assert of("fingerprints") == ("patches", 0.5, "gray", ())
    assert of("textures") == ("patches", 1.0, "gray", both)
    assert of("terrain") == ("patches", (1.0, 0.5, 0.25), "gray", both)
    assert of("cifar10") == ("whole", 0.5, "rgb", ("horizontal-flip",))
    assert of("folder:here") == ("whole", 0.5, "auto", ())


def test_what_is_said_goes_before_a_default() -> None:
    options = DatasetOptions(name="cifar10", image_size=32, color="gray", augment=())
    assert (options.color, options.augment) == ("gray", ())


@pytest.mark.parametrize("name", ["terrain", "folder:some where"])
def test_a_plan_is_read_back_strictly(name: str) -> None:
    options = DatasetOptions(name=name, image_size=32)
    assert DatasetOptions.model_validate_json(options.model_dump_json(), strict=True) == options


def test_a_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = DatasetOptions(name="folder:scans", image_size=32)
    assert options.folder == tmp_path / "scans"
    assert DatasetOptions(name="textures", image_size=32).folder is None
