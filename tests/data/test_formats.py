"""Every format that Pillow reads is found; what looks like an image and is not read is named."""

import io
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DataError, DatasetOptions, formats, load_dataset
from kod_bench.data.decoder import decode
from kod_bench.data.files import find_images

PRINTS = [
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8))
    for seed in range(3)
]
OPTIONS = DatasetOptions(name="folder:/unused", image_size=16)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


READ = {
    "x.jp2": saved(PRINTS[0], "JPEG2000"),
    "x.j2k": saved(PRINTS[0], "JPEG2000"),
    "x.jfif": saved(PRINTS[0], "JPEG"),
    "x.jpe": saved(PRINTS[0], "JPEG"),
    "x.gif": saved(PRINTS[0], "GIF"),
    "x.tga": saved(PRINTS[0], "TGA"),
    "x.pcx": saved(PRINTS[0], "PCX"),
    "x.sgi": saved(PRINTS[0], "SGI"),
    "x.pnm": saved(PRINTS[0], "PPM"),
    "x.ras": b"\x59\xa6\x6a\x95"
    + np.array([24, 24, 8, 576, 1, 0, 0], ">i4").tobytes()
    + bytes(576),
    "without a suffix": saved(PRINTS[0], "PNG"),
    "x.unknown": saved(PRINTS[0], "TIFF"),
    "x.old": saved(PRINTS[0], "BMP"),
    "x.backup": saved(PRINTS[0], "PPM"),
    "x.1": saved(PRINTS[0], "JPEG"),
}
UNREAD = {
    "x.heic": b"\0\0\0\x18ftypheic",
    "x.dcm": bytes(128) + b"DICM",
    "IM000001": bytes(128) + b"DICM",
    "photo": b"\0\0\0\x18ftypheic",
    "x.nef": saved(PRINTS[0], "TIFF"),  # Pillow would read the thumbnail
    "x.jxl": b"\xff\x0a",
    "x.exr": b"\x76\x2f\x31\x01",
    "x.svg": b"<svg/>",
    "x.fits": b"SIMPLE",
}
NO_IMAGE = {
    "notes.txt": b"BMI of the donors\n",
    "P5 notes": b"P5 is a plan",
    "labels.csv": b"name,finger\n",
    "scores.npy": b"\x93NUMPY",
    "empty": b"",
    "video.mpg": b"\0\0\1\xba",
    "table.h5": b"\x89HDF\r\n\x1a\n",
}


@pytest.mark.parametrize("name", READ)
def test_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READ[name])
    found = find_images(tmp_path, "folder")
    assert (found.names, found.unread) == ([name], [])
    assert decode(tmp_path / name, "gray").pixels.shape == (24, 24)


@pytest.mark.parametrize("name", UNREAD)
def test_counted_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(UNREAD[name])
    with pytest.raises(DataError, match=f"1 that cannot be read look like images, first {name}"):
        find_images(tmp_path, "folder")
    (tmp_path / "a.png").write_bytes(saved(PRINTS[0], "PNG"))
    found = find_images(tmp_path, "folder")
    assert (found.names, found.unread) == (["a.png"], [name])


@pytest.mark.parametrize("name", NO_IMAGE)
def test_not_taken_for_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(NO_IMAGE[name])
    (tmp_path / "a.png").write_bytes(saved(PRINTS[0], "PNG"))
    found = find_images(tmp_path, "folder")
    assert (found.names, found.unread) == (["a.png"], [])


def test_labels_beside_images_are_not_opened() -> None:
    def head() -> bytes:
        raise AssertionError("opened")

    assert formats.kind_of(PurePosixPath("a/x.txt"), head) == ""
    assert formats.kind_of(PurePosixPath("a/x.png"), head) == "image"


def test_every_suffix_of_pillow_is_known() -> None:
    known = {
        suffix: formats.kind_of(PurePosixPath(f"x{suffix}"), lambda: b"")
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN
    }
    none = {".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg"}  # no pixels for Pillow
    unread = {".eps", ".ps", ".wmf", ".emf", ".fit", ".fits"}
    assert {suffix for suffix, kind in known.items() if kind == ""} == none
    assert {suffix for suffix, kind in known.items() if kind == "unread"} == unread


def folder_with(root: Path, more: dict[str, bytes]) -> Path:
    root.mkdir()
    for index, image in enumerate(PRINTS):
        (root / f"{index}.png").write_bytes(saved(image, "PNG"))
    for name, content in more.items():
        (root / name).write_bytes(content)
    return root


def test_a_data_set_says_what_it_leaves_out(tmp_path: Path) -> None:
    root = folder_with(tmp_path / "data", {"x.heic": b"", "y.dcm": b"", "t.txt": b"text"})
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.iterdir()):
            file.write(path, path.name)
    for where in (root, archive):
        dataset = load_dataset(DatasetOptions(name=f"folder:{where}", image_size=16), None)
        assert dataset.details.images == 3
        expected = "skipped 2 files of image formats that cannot be read: x.heic, y.dcm"
        assert expected in dataset.warnings


def test_an_archive_is_read_by_content_where_names_say_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for index, image in enumerate(PRINTS):
            file.writestr(f"member{index}", saved(image, "PNG"))
    dataset = load_dataset(DatasetOptions(name=f"folder:{archive}", image_size=16), None)
    assert dataset.details.images == 3


def test_wsq(tmp_path: Path) -> None:
    pytest.importorskip("wsq", reason="the extra kod-bench[wsq]")
    path = tmp_path / "finger.wsq"
    ridges = (np.sin(np.indices((64, 64)).sum(0) / 3) * 100 + 128).astype(np.uint8)
    formats.image_suffixes()
    Image.fromarray(ridges).save(path)
    assert find_images(tmp_path, "folder").names == ["finger.wsq"]
    found = decode(path, "gray").pixels.astype(int)
    assert np.abs(found - ridges).mean() < 5


def test_without_wsq_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = frozenset(formats.image_suffixes()) - {".wsq"}, frozenset({"PNG"})
    monkeypatch.setattr(formats, "_readable", lambda: without)
    (tmp_path / "finger.wsq").write_bytes(b"\xff\xa0\xff\xa8")
    with pytest.raises(DataError, match=r'first finger.wsq \(pip install "kod-bench\[wsq\]"\)'):
        find_images(tmp_path, "folder")
