import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DataError
from kod_bench.data import decoder as decoder_module
from kod_bench.data.decoder import decode
from kod_bench.data.files import SkippedImageError, find_images, printable, reason_kind

GRAY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def decode_gray(path: Path) -> np.ndarray:
    return decode(path, "gray").pixels


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_finds_every_suffix_in_any_case_below_the_folder(tmp_path: Path) -> None:
    names = ["a/x.BMP", "a/b/y.tif", "p.Tiff", "q.png", "r.jpg", "s.JPEG"]
    for name in [*names, "notes.txt", "a/._x.BMP", ".hidden/z.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path, "data folder").names == sorted(names)


def test_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/1.png", "a/2.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = find_images(tmp_path, "data folder")
    walk = os.walk

    def backwards(top, **kwargs):
        for folder, subfolders, names in walk(top, **kwargs):
            subfolders.reverse()
            yield folder, subfolders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert find_images(tmp_path, "data folder") == expected


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").touch()
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    assert find_images(tmp_path, "data folder").names == ["a/x.png"]


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/x.png").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert find_images(tmp_path / "data", "data folder").names == ["link/x.png"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("missing", "does not exist"), ("file", "is not a folder"), ("empty", "holds no image")],
)
def test_refuses_what_is_no_folder_of_images(tmp_path: Path, kind: str, message: str) -> None:
    root = tmp_path / "data"
    if kind == "file":
        root.touch()
    if kind == "empty":
        root.mkdir()
    with pytest.raises(DataError, match=message) as error:
        find_images(root, f"data folder {root}")
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def test_refuses_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated: root, as whom CI may run, reads everything.
    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        find_images(tmp_path, "data folder")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder"
)
def test_an_unreadable_subfolder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    (tmp_path / "locked").mkdir(mode=0o000)
    found = find_images(tmp_path, "data folder")
    assert (found.names, found.unreadable) == (["x.png"], ["locked"])


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SkippedImageError, match="not a regular file"):
        decode_gray(tmp_path / "pipe.png")


def test_gray_is_taken_as_it_is(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif"):
        path = save(tmp_path / f"x.{suffix}", Image.fromarray(GRAY))
        np.testing.assert_array_equal(decode_gray(path), GRAY)


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA", "RGBA"])
def test_other_modes_become_gray(tmp_path: Path, mode: str) -> None:
    checker = Image.fromarray(np.kron(np.eye(4, dtype=np.uint8) * 255, np.ones((4, 4), np.uint8)))
    path = save(tmp_path / "x.png", checker.convert(mode))
    np.testing.assert_array_equal(decode_gray(path), np.asarray(checker))


def test_cmyk_becomes_gray(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", Image.fromarray(GRAY).convert("RGB").convert("CMYK"))
    assert np.abs(decode_gray(path).astype(int) - GRAY).max() <= 1


def test_transparency_becomes_white_paper(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", Image.new("RGBA", (16, 16), (0, 0, 0, 0)))
    assert (decode_gray(path) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    deep = GRAY.astype(np.uint16) * 256 + 7
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(deep))
    np.testing.assert_array_equal(decode_gray(path), GRAY)


def _bomb() -> bytes:
    """A PNG that claims 100000 x 100000 pixels and holds none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"Dear diary,", "not an image"),
        (_bomb(), "more than 20 million"),
    ],
)
def test_skips_what_is_no_image(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(SkippedImageError, match=reason):
        decode_gray(path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_skips_a_truncated_file(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SkippedImageError):
        decode_gray(path)


@pytest.mark.parametrize(("shape", "reason"), [((1, 1), "too small"), ((4000, 5001), "million")])
def test_skips_extreme_sizes(tmp_path: Path, shape: tuple[int, int], reason: str) -> None:
    path = save(tmp_path / "x.png", Image.new("1", shape))
    with pytest.raises(SkippedImageError, match=reason):
        decode(path, "gray", min_side=8)


def test_skips_pixels_without_a_white(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", Image.fromarray(GRAY.astype(np.float32)))
    with pytest.raises(SkippedImageError, match="floating-point"):
        decode_gray(path)


def test_skips_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(GRAY))

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(decoder_module.Image, "open", denied)
    with pytest.raises(SkippedImageError, match=r"^Permission denied$"):
        decode_gray(path)


def test_any_name_can_be_printed() -> None:
    assert printable("a\nb\udcffc") == "a\\nb\\xffc"


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_colour_is_kept_where_it_is_asked_for(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 10))
    path = save(tmp_path / "x.png", image.convert(mode))
    pixels = decode(path, "rgb").pixels
    assert pixels.shape == (16, 16, 3)
    expected = np.asarray(image.convert(mode).convert("RGB"))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("12x8 pixels at scale 0.5, smaller than a patch", "smaller than a patch"),
        ("1x1 pixels, too small", "too small"),
        ("damaged: broken data stream", "damaged"),
        ("empty file", "empty file"),
    ],
)
def test_reasons_are_counted_without_their_details(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind
