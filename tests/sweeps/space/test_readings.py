from typing import Any

import pytest

from kod_bench.data import DatasetOptions
from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.sweeps.space.readings import with_reading

ANGLES = DatasetOptions(name="xy", image_size=8)
GRAY = DatasetOptions(name="fingerprints", image_size=8)


def where(path: tuple[str | int, ...]) -> str:
    return f"space.yaml: models.m.{'.'.join(map(str, path))}"


@pytest.fixture(autouse=True)
def _readings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PROCESSES["ddpm"], "angle_readings", ("circle", "angle"))
    monkeypatch.setattr(PROCESSES["heat"], "angle_readings", ())


def test_what_is_left_out_is_filled_in_on_angles_alone() -> None:
    assert with_reading("ddpm", {"steps": 5}, ANGLES, where) == {"steps": 5, "reading": "circle"}
    assert with_reading("ddpm", {"reading": "angle"}, ANGLES, where) == {"reading": "angle"}
    assert with_reading("ddpm", {"steps": 5}, GRAY, where) == {"steps": 5}
    said = {"reading": "intensity"}
    assert with_reading("ddpm", said, GRAY, where) == said


@pytest.mark.parametrize(
    ("process", "said", "dataset", "message"),
    [
        ("ddpm", {"reading": "intensity"}, ANGLES, "models.m.reading: 'intensity' is not for"),
        ("ddpm", {"reading": "circle"}, GRAY, "models.m.reading: 'circle' is of angles"),
        ("ddpm", {"phase_margin": 0.9}, ANGLES, "models.m.phase_margin: is for intensities"),
        ("heat", {}, ANGLES, "models.m.process: 'heat' takes intensities.*: .*ddpm"),
    ],
)
def test_what_does_not_fit_is_refused(
    process: str, said: dict[str, Any], dataset: DatasetOptions, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        with_reading(process, said, dataset, where)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("space.yaml: ")
