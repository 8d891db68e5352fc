"""`kod-bench evaluate` on fields of angles: arrays of radians of any tool."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_evaluate import Run, run, values  # noqa: F401, the fixture


@pytest.fixture
def winds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Samples in files of one and of many fields, and the data: neighbours that go together."""
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)

    def fields(count: int, spread: float) -> np.ndarray:
        """Random walks along both sides, wrapped."""
        steps = generator.normal(0, spread, (2, count, 16))
        walk = steps[0].cumsum(1)[:, :, None] + steps[1].cumsum(1)[:, None]
        return ((walk + np.pi) % (2 * np.pi) - np.pi).astype(np.float32)

    for name in ("data", "made"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "data" / "winds.npy", fields(120, 0.3))
    np.save(tmp_path / "made" / "many.npy", fields(20, 0.6))
    np.save(tmp_path / "made" / "one.npy", fields(1, 0.6)[0].astype(np.float64))
    np.savez(tmp_path / "made" / "more.npz", angles=fields(5, 0.6)[..., None])
    return tmp_path / "made", tmp_path / "data"


def test_arrays_are_scored_as_angles_with_all_their_metrics(
    run: Run,  # noqa: F811
    winds: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, data = winds
    monkeypatch.setenv("COLUMNS", "80")
    options = (made, "--against", f"angles:{data}", "--features", "own:Pooled")
    code, out, err = run(*options, "--json", "angles.json")
    assert (code, err) == (0, "")
    assert "26 samples of" in out
    assert "24 references of" in " ".join(out.split())  # lines end where paths let them
    assert "vortex_density_difference" in out  # no name is cut on a narrow terminal
    assert "read correlation_distance" in out
    assert "read KID" not in out  # which is that of hues
    found = values(Path("angles.json"))
    assert {"correlation_distance", "vortex_density", "energy", "angle_distance"} <= set(found)
    assert not {"orientation_distance", "minutiae_distance", "spectrum_distance"} & set(found)
    record = json.loads(Path("angles.json").read_text())["metrics"]["correlation_distance"]
    assert record["better"] == "lower"
    assert record["value"] > 2 * record["real_versus_real"] > 0
    assert run(*options, "--json", "again.json")[0] == 0
    assert Path("again.json").read_text() == Path("angles.json").read_text()
    code, out, _ = run(*options, "--metrics", "energy_difference")
    assert code == 0
    assert "kid" not in out


def test_what_angles_have_not_is_refused_and_what_to_do_is_said(
    run: Run,  # noqa: F811
    winds: tuple[Path, Path],
) -> None:
    made, data = winds
    against = ("--against", f"angles:{data}", "--features", "own:Pooled")
    for more, message in (
        ((*against, "--metrics", "minutiae_distance"), "angles have no gray levels"),
        ((*against, "--value-range", "auto"), "holds angles, which have a range of their own"),
        ((*against, "--train", data), "has training images of its own"),
        (("--against", data), "angles in radians are scored --against angles:FOLDER"),
    ):
        code, _, err = run(made, *more)
        assert code == 2
        assert message in " ".join(err.split())
        assert err.startswith("error: ")


def test_references_may_be_in_degrees_and_spins_of_another_temperature(
    run: Run,  # noqa: F811
    winds: tuple[Path, Path],
) -> None:
    made, data = winds
    fields = np.load(data / "winds.npy")
    (data / "winds.npy").unlink()

    def save(turned: np.ndarray) -> None:
        for name, part in (("train", turned[:90]), ("test", turned[90:])):
            (data / name).mkdir(exist_ok=True)
            np.save(data / name / "winds.npy", part)

    save(fields)
    options = ("--features", "own:Pooled", "--metrics", "correlation_distance,energy")
    assert run(made, "--against", f"angles:{data}", *options, "--json", "radians.json")[0] == 0
    save(np.degrees(fields) + 180)
    turned = f"angles:{data}"
    code, _, err = run(made, "--against", turned, *options)
    assert code == 2
    assert "degrees" in err
    code, _, err = run(made, "--against", turned, "--unit", "degrees", *options, "--json", "d.json")
    assert (code, err) == (0, "")
    # Half a turn of all references changes neither; rounding does, a little.
    assert values(Path("d.json")) == pytest.approx(values(Path("radians.json")), abs=1e-4)
    code, _, err = run(made, "--against", turned, "--temperature", "1.0")
    assert (code, err.count("\n")) == (2, 1)
    assert "--temperature is an option of data set xy" in err
