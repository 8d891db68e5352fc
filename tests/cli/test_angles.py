"""A user's own angles, and those that are built in, from the first look to the report."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kod_bench.results import grid_file
from tests.cli.processes import only_sweep
from tests.conftest import Command

#: What makes a sweep of the space `angles` one of seconds: two models, one of them from everywhere.
SMALL = (
    "dataset.image_size=16",
    "network.width=8",
    "network.multipliers=[1, 2]",
    "training.iterations=12",
    "training.batch_size=8",
    "training.warmup=2",
    "training.log_every=6",
    "evaluation={samples: 12, references: 20, batch_size: 12}",
    "parameters={steps: 6, network_evaluations: [6, 3]}",
    *(
        f"models.{name}=null"
        for name in (
            *("local", "global", "uncoupled", "wrapped"),
            *("ddpm-circle", "ddpm-angle", "edm-circle"),
        )
    ),
)


@pytest.fixture
def winds(tmp_path: Path) -> Path:
    """Smooth fields of directions in degrees, forty to a year."""
    folder = tmp_path / "winds"
    folder.mkdir()
    waves = np.fft.fftfreq(24)
    smooth = np.exp(-150 * (waves[:, None] ** 2 + waves**2))
    for year in range(3):
        noise = np.random.default_rng(year).normal(size=(40, 2, 24, 24))
        east, north = np.fft.ifft2(np.fft.fft2(noise) * smooth).real.swapaxes(0, 1)
        np.save(folder / f"{1990 + year}.npy", np.degrees(np.arctan2(east, north)) % 360)
    return folder


@pytest.mark.slow
def test_a_users_winds_are_shown_swept_and_reported(
    kod_bench: Command, winds: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "winds.png"
    name = f"angles:{winds}"
    shown = kod_bench(
        *("data", "show", name, "--image-size", 16, "--unit", "degrees", "--output", picture)
    )
    assert shown.returncode == 0, shown.stderr
    assert "120 images used" in shown.stdout
    Image.open(picture).verify()

    results = tmp_path / "results"
    said = (f"dataset.name={name}", "dataset.angles={unit: degrees, kind: compass}", *SMALL)
    changes = [word for change in said for word in ("--set", change)]
    ours = ("--profile", "laptop", "--seeds", "0", "--results-dir", results)
    done = kod_bench("sweep", "angles", *ours, *changes, timeout=600)
    assert done.returncode == 0, done.stderr
    sweep = only_sweep(results)
    models = set()
    for path in sweep.glob("trials/*/row.parquet"):
        for row in pq.read_table(path).to_pylist():
            models.add(row["model"])
            assert row["dataset"] == "angles-winds"
            assert 0 < row["correlation_distance_real"] < row["correlation_distance"]
            assert 0 < row["vortex_density"] < 1
            way = (row["prior"], row["sampler"], row["network_evaluations"])
            Image.open(path.parent / grid_file(*way)).verify()
    assert models == {"local-1", "torus-flow"}

    reported = kod_bench("report", sweep)
    assert reported.returncode == 0, reported.stderr
    for words in ("Correlation", "Vortices", "local-1", "torus-flow", "hues"):
        assert words in reported.stdout
    assert "data:image/png" in (sweep / "report" / "report.html").read_text()

    without = [word for change in (said[0], *SMALL) for word in ("--set", change)]
    refused = kod_bench("sweep", "angles", *ours, *without)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "1990.npy, field 1 of 40, holds values from" in line
    assert "say angles.unit: degrees" in line
