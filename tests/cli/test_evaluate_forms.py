"""`kod-bench evaluate` reads samples of every form alike, and counts what it says it counts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli import test_evaluate as shared
from tests.cli.test_evaluate import Run, assert_one_line, soft, values

run = shared.run  # the fixture

FIDELITY = ("--features", "own:Pooled", "--metrics", "fid,kid")


def gray(count: int, seed: int) -> np.ndarray:
    return soft(count, seed, channels=1)[:, 0].numpy()


def put(folder: Path, images: np.ndarray, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:02}.{suffix}")
    return folder


def as_arrays(path: Path, images: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, images)
    elif path.suffix == ".npy":
        np.save(path, images)
    elif path.name == "one by one":
        path.mkdir()
        for index, image in enumerate(images):
            np.save(path / f"{index:02}.npy", image)
    else:
        path.mkdir()
        np.save(path / "all.npy", images)
    return path


SAMPLES = gray(20, 0)
RGB = np.repeat(SAMPLES[..., None], 3, axis=3)
DEEP = SAMPLES.astype(np.uint16) * 257
FLOATS = SAMPLES.astype(np.float32)

# The same twenty samples, in every form that they may come in; and the range of their values.
FORMS: dict[str, tuple[Callable[[Path], Path], str | None]] = {
    "16-bit PNG": (lambda root: put(root / "s", DEEP), None),
    "16-bit TIFF": (lambda root: put(root / "s", DEEP, "tif"), None),
    "16-bit PGM": (lambda root: put(root / "s", DEEP, "pgm"), None),
    "12 bits in 16": (lambda root: put(root / "s", DEEP // 257 * 16, "tif"), "0,4095"),
    "floats from 0 to 1": (lambda root: put(root / "s", FLOATS / 255, "tif"), "0,1"),
    "floats from -1 to 1": (lambda root: put(root / "s", FLOATS / 127.5 - 1, "tif"), "-1,1"),
    "GIF": (lambda root: put(root / "s", SAMPLES, "gif"), None),
    "JPEG 2000": (lambda root: put(root / "s", SAMPLES, "jp2"), None),
    "npz, RGB": (lambda root: as_arrays(root / "s.npz", RGB), None),
    "npz, gray": (lambda root: as_arrays(root / "s.npz", SAMPLES), None),
    "npz, 16-bit": (lambda root: as_arrays(root / "s.npz", DEEP), None),
    "npy, RGB": (lambda root: as_arrays(root / "s.npy", RGB), None),
    "npy, one channel": (lambda root: as_arrays(root / "s.npy", RGB[..., :1]), None),
    "npy, floats": (lambda root: as_arrays(root / "s.npy", FLOATS / 127.5 - 1), "-1,1"),
    "npy of many in a folder": (lambda root: as_arrays(root / "all", RGB), None),
    "npy, gray, one by one": (lambda root: as_arrays(root / "one by one", SAMPLES), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_score_in_every_form(run: Run, tmp_path: Path, form: str) -> None:
    make, value_range = FORMS[form]
    reference = put(tmp_path / "real", gray(16, 1))
    plain, other = put(tmp_path / "plain", SAMPLES), make(tmp_path)
    options = ("--against", reference, *FIDELITY)
    assert run(plain, *options, "--json", "plain.json")[0] == 0
    said = [] if value_range is None else [f"--value-range={value_range}"]
    code, _, err = run(other, *options, *said, "--json", "other.json")
    assert (code, err) == (0, "")
    assert values(Path("other.json")) == values(Path("plain.json"))
    document = json.loads(Path("other.json").read_text())
    assert (document["sample_count"], document["reference_count"]) == (20, 16)
    assert (document["value_range"] is None) is (value_range is None)


def test_references_may_be_arrays_too(run: Run, tmp_path: Path) -> None:
    samples, reference = put(tmp_path / "s", SAMPLES), gray(16, 1)
    folder, batch = put(tmp_path / "real", reference), as_arrays(tmp_path / "real.npz", reference)
    for against in (folder, batch):
        run(samples, "--against", against, *FIDELITY, "--json", f"{against.name}.json")
    assert values(Path("real.json")) == values(Path("real.npz.json"))


def test_auto_is_one_range_for_all_folders(run: Run, tmp_path: Path) -> None:
    samples = put(tmp_path / "s", FLOATS / 127.5 - 1, "tif")
    reference = put(tmp_path / "real", gray(16, 1).astype(np.float32) / 127.5 - 1, "tif")
    code, _, err = run(
        samples, "--against", reference, *FIDELITY, "--value-range", "auto", "--json", "o.json"
    )  # fmt: skip
    assert (code, err) == (0, "")
    both = np.concatenate([FLOATS.ravel(), gray(16, 1).ravel().astype(np.float32)]) / 127.5 - 1
    expected = [float(both.min()), float(both.max())]
    assert json.loads(Path("o.json").read_text())["value_range"] == expected


def test_ranges_that_are_not_filled_are_noted(run: Run, tmp_path: Path) -> None:
    reference = put(tmp_path / "real", gray(16, 1))
    dark = put(tmp_path / "dark", DEEP // 257 * 16, "tif")
    _, out, _ = run(dark, "--against", reference, *FIDELITY)
    assert "20 images of 16 bits reach no more than" in out
    assert "(12 bits)" in " ".join(out.split())
    _, out, _ = run(reference, "--against", reference, *FIDELITY, "--value-range", "0,1")
    assert "Value_range changes nothing: all images have 8 bits" in out


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (
            lambda root: put(root / "s", FLOATS / 255, "tif"),
            "20 of 20 images cannot be read, first",
        ),
        (lambda root: as_arrays(root / "s.npz", FLOATS), "32-bit floating-point numbers: no value"),
        (lambda root: as_arrays(root / "s.npy", RGB.transpose(0, 3, 1, 2)), "channels come last"),
        (lambda root: as_arrays(root / "s.npy", RGB[:3, ..., 0]), "channels come last"),
        (lambda root: as_arrays(root / "s.npy", SAMPLES.astype(complex)), "needs real numbers"),
        (lambda root: as_arrays(root / "s.npy", SAMPLES[0, 0]), "shape (24,); needs (H, W)"),
    ],
)
def test_arrays_and_depths_that_are_not_allowed(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], part: str
) -> None:
    reference = put(tmp_path / "real", gray(16, 1))
    assert_one_line(run(make(tmp_path), "--against", reference, *FIDELITY), part)


def test_an_archive_of_other_arrays_is_named(run: Run, tmp_path: Path) -> None:
    reference = put(tmp_path / "real", gray(16, 1))
    np.savez(tmp_path / "s.npz", mu=np.zeros(4), sigma=np.eye(4))
    np.save(tmp_path / "p.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    for name, part in (
        ("s.npz", "holds mu, sigma, and not arr_0"),
        ("p.npy", "pickled Python objects"),
        ("broken.npz", "no NumPy array, or cut short"),
    ):
        assert_one_line(run(tmp_path / name, "--against", reference, *FIDELITY), part)


def linked(root: Path) -> tuple[Path, Path]:
    reference = put(root / "real", gray(16, 1))
    samples = put(root / "run", SAMPLES)
    (samples / "data").symlink_to(reference)
    return samples, reference


def nested(root: Path) -> tuple[Path, Path]:
    return put(root / "run", SAMPLES), put(root / "run" / "real", gray(16, 1))


def nested_the_other_way(root: Path) -> tuple[Path, Path]:
    reference, samples = nested(root)
    return samples, reference


def copied(root: Path) -> tuple[Path, Path]:
    put(root / "run", SAMPLES)
    put(root / "run" / "reference of last week", gray(16, 1))
    return root / "run", put(root / "real", gray(16, 1))


@pytest.mark.parametrize("make", [nested, nested_the_other_way, linked, copied])
def test_a_reference_among_the_samples_is_refused(
    run: Run, tmp_path: Path, make: Callable[[Path], tuple[Path, Path]]
) -> None:
    samples, reference = make(tmp_path)
    assert_one_line(run(samples, "--against", reference, *FIDELITY), "be counted")


def test_training_images_among_others_are_refused(run: Run, tmp_path: Path) -> None:
    samples, reference = put(tmp_path / "s", SAMPLES), put(tmp_path / "real", gray(16, 1))
    train = put(tmp_path / "real" / "train", gray(16, 2))
    assert_one_line(run(samples, "--against", reference, "--train", train, *FIDELITY), "be counted")


def test_a_sampler_that_copies_some_images_is_scored(run: Run, tmp_path: Path) -> None:
    reference = put(tmp_path / "real", gray(16, 1))
    samples = put(tmp_path / "s", np.concatenate([SAMPLES, gray(15, 1)]))
    assert run(samples, "--against", reference, *FIDELITY)[0] == 0


def test_images_of_other_formats_are_not_left_out(run: Run, tmp_path: Path) -> None:
    reference = put(tmp_path / "real", gray(16, 1))
    samples = put(tmp_path / "s", SAMPLES)
    (samples / "x.heic").write_bytes(b"")
    (samples / "z.dcm").write_bytes(b"")
    assert_one_line(
        run(samples, "--against", reference, *FIDELITY),
        "holds 2 files of image formats that cannot be read: x.heic, z.dcm; remove or convert them",
    )


def test_counts_are_named_after_what_they_count(run: Run, tmp_path: Path) -> None:
    reference, samples = put(tmp_path / "real", gray(16, 1)), put(tmp_path / "s", SAMPLES)
    _, out, _ = run(samples, "--against", reference, *FIDELITY)
    out = " ".join(out.split())
    assert out.startswith("20 samples of ")
    assert " against 16 references of " in out
    assert "FID of 20 samples against 16 references, fewer than 2048, is biased upwards" in out
    assert "8 references against 8, the halves of the reference" in out


@pytest.mark.parametrize("text", ["1,0", "0", "a,b", "0,1,2", "nan,1", "0,inf", ""])
def test_a_bad_range_is_one_line(run: Run, tmp_path: Path, text: str) -> None:
    folder = put(tmp_path / "s", SAMPLES)
    assert_one_line(
        run(folder, "--against", folder, *FIDELITY, f"--value-range={text}"),
        "must be auto, or two numbers LOW,HIGH",
    )
