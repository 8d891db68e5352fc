"""What users really have in their folders. Each kind is used, skipped and counted, or refused.

A good folder of prints gets one bad file (or is replaced by something that is no good folder).
"used" means that the file's pixels are among the prepared images. "skipped" means that the others
are prepared as if it were not there, with a warning that says how many and why. "ignored" is the
same without a warning, for files that no one takes for an image of the set. "refused" is one line.
Whatever happens, the cache holds complete entries and nothing else.
"""

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kod_bench.data import DataError, DatasetOptions, archives, cache, load_dataset

OPTIONS = DatasetOptions(name="fingerprints", image_size=16, view="whole")
Make = Callable[[Path], None]
PRINT = Image.fromarray((np.indices((40, 40)).sum(0) % 9 * 28).astype(np.uint8))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def put(name: str, content: bytes) -> Make:
    return lambda root: (root / name).write_bytes(content) and None


def image(name: str, picture: Image.Image, kind: str, **options: object) -> Make:
    return put(name, encoded(picture, kind, **options))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    empty = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + empty


def truncated(kind: str) -> bytes:
    picture = NOISE.convert("RGB") if kind in ("JPEG", "WEBP") else NOISE
    content = encoded(picture, kind)
    return content[: len(content) // 2]


def damaged_in_the_middle() -> bytes:
    content = bytearray(encoded(NOISE, "PNG"))
    content[len(content) // 2] ^= 255
    return bytes(content)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to see it upright
    return encoded(PRINT.rotate(90), "PNG", exif=exif)


def link(name: str, target: str) -> Make:
    return lambda root: (root / name).symlink_to(target)


def a_folder(name: str) -> Make:
    return lambda root: (root / name).mkdir()


def inside(folder: str, name: str) -> Make:
    def make(root: Path) -> None:
        (root / folder).mkdir(parents=True)
        PRINT.save(root / folder / name)

    return make


FRAMES = [PRINT.rotate(90), PRINT.rotate(180)]
PALETTE = PRINT.convert("P")
TRANSPARENT = PRINT.convert("LA")
TRANSPARENT.putalpha(Image.fromarray(np.full((40, 40), 255, np.uint8)))
DEEP = Image.fromarray(np.asarray(PRINT).astype(np.uint16) * 256 + 7)
WIDE = Image.fromarray(np.tile(np.asarray(PRINT), (1, 500)))  # 20,000 x 40

USED: dict[str, Make] = {
    "16-bit gray PNG": image("x.png", DEEP, "PNG"),
    "16-bit gray TIFF": image("x.tif", DEEP, "TIFF"),
    "CMYK JPEG": image("x.jpg", PRINT.convert("RGB").convert("CMYK"), "JPEG"),
    "palette PNG": image("x.png", PALETTE, "PNG"),
    "gray with alpha": image("x.png", TRANSPARENT, "PNG"),
    "RGBA": image("x.png", TRANSPARENT.convert("RGBA"), "PNG"),
    "one bit per pixel": image("x.png", PRINT.convert("1"), "PNG"),
    "a PNG called .bmp": put("x.bmp", encoded(PRINT, "PNG")),
    "a JPEG called .tif": put("x.tif", encoded(PRINT, "JPEG")),
    "upper-case suffix": put("X.PNG", encoded(PRINT, "PNG")),
    "turned by EXIF": put("x.png", turned()),
    "damaged EXIF": image("x.png", PRINT, "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff"),
    "another size": image("x.png", PRINT.resize((400, 240)), "PNG"),
    "20,000 pixels wide": image("x.png", WIDE, "PNG"),
    "unicode name": put("指纹 ø.png", encoded(PRINT, "PNG")),
    "newline in the name": put("a\nb.png", encoded(PRINT, "PNG")),
    "name that is not UTF-8": lambda root: put(os.fsdecode(b"\xff.png"), encoded(PRINT, "PNG"))(
        root
    ),
    "bytes after the end": put("x.png", encoded(PRINT, "PNG") + b"\0" * 100),
}
FIRST = "used the first of several frames of 1 image"
USED_WITH_REMARK: dict[str, tuple[Make, str]] = {
    "palette PNG with transparency": (
        image("x.png", PALETTE, "PNG", transparency=0),
        "filled the transparent parts of 1 image with white",
    ),
    "animated GIF": (
        image("x.gif", PRINT, "GIF", save_all=True, append_images=FRAMES),
        FIRST,
    ),
    "animated PNG": (
        image("x.png", PRINT, "PNG", save_all=True, append_images=FRAMES),
        FIRST,
    ),
    "animated WebP": (
        image(
            *("x.webp", PRINT.convert("RGB"), "WEBP"),
            save_all=True,
            append_images=FRAMES,
            lossless=True,
        ),
        FIRST,
    ),
    "TIFF of several pages": (
        image("x.tif", PRINT, "TIFF", save_all=True, append_images=FRAMES),
        FIRST,
    ),
}
SKIPPED: dict[str, tuple[Make, str]] = {
    "zero bytes": (put("x.png", b""), "empty file"),
    "text called .png": (put("x.png", b"Dear diary,"), "not an image"),
    "HTML of a failed download": (put("x.jpg", b"<!doctype html><html>404"), "not an image"),
    "numpy array called .png": (put("x.png", b"\x93NUMPY\x01\x00v\x00{'descr'"), "not an image"),
    **{
        f"truncated {kind}": (put(f"x.{suffix}", truncated(kind)), "damaged")
        for kind, suffix in [
            ("PNG", "png"),
            ("JPEG", "jpg"),
            ("BMP", "bmp"),
            ("TIFF", "tif"),
            ("GIF", "gif"),
            ("WEBP", "webp"),
            ("PPM", "pgm"),
        ]
    },
    "a flipped byte": (put("x.png", damaged_in_the_middle()), "damaged"),
    "only a header": (put("x.png", png_header(64, 64)), "damaged"),
    "one pixel": (image("x.png", Image.new("L", (1, 1)), "PNG"), "1x1 pixels, too small"),
    "one pixel high": (image("x.png", Image.new("L", (500, 1)), "PNG"), "500x1 pixels, too small"),
    "blank": (image("x.png", Image.new("L", (64, 64), 255), "PNG"), "blank"),
    "floating-point TIFF": (
        image("x.tif", Image.fromarray(np.ones((40, 40), np.float32)), "TIFF"),
        "32-bit floating-point numbers: no value is known to be white; value_range",
    ),
    "32-bit TIFF": (
        image("x.tif", Image.fromarray(np.full((40, 40), 70_000, np.int32)), "TIFF"),
        "32-bit signed integers: no value is known to be white; value_range",
    ),
    "decompression bomb": (put("x.png", png_header(60_000, 60_000)), "more than 20 million"),
    "20,000 x 20,000 pixels": (put("x.png", png_header(20_000, 20_000)), "more than 20 million"),
    "dangling link": (link("x.png", "nowhere"), "No such file"),
    "link to itself": (link("x.png", "x.png"), "symbolic links"),
    "named pipe": (lambda root: os.mkfifo(root / "x.png"), "not a regular file"),
}
IGNORED: dict[str, Make] = {
    ".DS_Store": put(".DS_Store", b"\0\0\0\1Bud1"),
    "macOS's ._x.png": put("._x.png", b"\0\5\x16\7"),
    "Thumbs.db": put("Thumbs.db", b"\xd0\xcf\x11\xe0"),
    "__MACOSX": inside("__MACOSX", "x.png"),
    "a hidden folder": inside(".thumbnails", "x.png"),
    "a folder called x.png": a_folder("x.png"),
    "a .npy file": put("x.npy", b"\x93NUMPY"),
    "a label file": put("labels.csv", b"name,finger\n"),
    "a loop of links": link("again", "."),
    "a link to an upper folder": link("up", ".."),
}


@pytest.fixture
def good(prints: Callable[..., Path]) -> Path:
    return prints()


def assert_clean(cache_dir: Path) -> None:
    """Nothing half-written: every entry is complete, and there is nothing else."""
    if not cache_dir.exists():
        return
    for path in cache_dir.iterdir():
        assert path.name == ".hashes" or cache.read_entry(path) is not None


def prepare(root: Path) -> tuple[set[bytes], tuple[str, ...]]:
    cache_dir = cache.default_cache_dir()
    dataset = load_dataset(OPTIONS, root)
    assert_clean(cache_dir)
    pixels = {image.numpy().tobytes() for side in (dataset.train, dataset.test) for image in side}
    # That some of these names say no finger is no matter here.
    return pixels, tuple(w for w in dataset.warnings if not w.startswith("the names of"))


@pytest.mark.parametrize("kind", USED)
def test_used(good: Path, kind: str) -> None:
    before, _ = prepare(good)
    USED[kind](good)
    after, warnings = prepare(good)
    assert len(after) == len(before) + 1
    assert before < after
    assert warnings == ()


@pytest.mark.parametrize("kind", USED_WITH_REMARK)
def test_used_with_a_remark(good: Path, kind: str) -> None:
    before, _ = prepare(good)
    make, remark = USED_WITH_REMARK[kind]
    make(good)
    after, warnings = prepare(good)
    assert len(after) == len(before) + 1
    assert warnings == (remark,)


@pytest.mark.parametrize("kind", SKIPPED)
def test_skipped(good: Path, kind: str) -> None:
    before, _ = prepare(good)
    make, reason = SKIPPED[kind]
    make(good)
    after, (warning,) = prepare(good)
    assert after == before
    assert warning.startswith("skipped 1 unusable image: x.")
    assert reason in warning
    assert "\n" not in warning


@pytest.mark.parametrize("kind", IGNORED)
def test_ignored(good: Path, kind: str) -> None:
    before, _ = prepare(good)
    IGNORED[kind](good)
    assert prepare(good) == (before, ())


def test_turned_upright_is_the_same(good: Path) -> None:
    (good / "x.png").write_bytes(turned())
    (good / "y.png").write_bytes(encoded(PRINT, "PNG"))
    _, warnings = prepare(good)
    assert warnings == ("dropped 1 exact duplicate: y.png",)


def nothing(root: Path) -> None:
    """Leaves the folder as it is: empty."""


REFUSED: dict[str, tuple[Make | None, str]] = {
    "missing folder": (None, "does not exist"),
    "empty folder": (nothing, "holds no image"),
    "folder without images": (put("notes.txt", b"no image"), "holds no image"),
    "only hidden files": (inside(".hidden", "x.png"), "holds no image"),
    "one image": (image("x.png", PRINT, "PNG"), "at least 2 groups of images, found 1"),
    "one finger": (
        lambda root: [PRINT.rotate(90 * i).save(root / f"7_{i}.png") for i in (1, 2)] and None,
        "at least 2 groups of images, found 1, in 2 images",
    ),
    "copies of one image": (
        lambda root: [PRINT.save(root / f"{name}.png") for name in "abc"] and None,
        "found 1, in 1 images (dropped 2 exact duplicates: b.png, c.png)",
    ),
    "nothing but damage": (put("x.png", b"no"), "skipped 1 unusable image: x.png (not an image)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(tmp_path: Path, kind: str) -> None:
    make, message = REFUSED[kind]
    root = tmp_path / "data"
    if make is not None:
        root.mkdir()
        make(root)
    assert_refused(root, message)


def assert_refused(root: Path, message: str, options: DatasetOptions = OPTIONS) -> None:
    cache_dir = cache.default_cache_dir()
    with pytest.raises(DataError) as error:
        load_dataset(options, root)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert_clean(cache_dir)
    assert not [path for path in cache_dir.glob("*") if path.name != ".hashes"]


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    PRINT.save(tmp_path / "x.png")
    assert_refused(tmp_path / "x.png", "is not a folder; name the one that holds the images")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1.png", "train/dog/1.png"], "needs train/<class>/* and test/<class>/*"),
        (["cat/1.png", "dog/1.png"], "needs train/<class>/* and test/<class>/*"),
        (["train/cat/1.png", "test/cat/bad.png"], "no usable image on the side 'test'"),
    ],
)
def test_cifar10_without_a_division(tmp_path: Path, names: list[str], message: str) -> None:
    for number, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        PRINT.rotate(90 * number).save(tmp_path / "data" / name)
    for bad in (tmp_path / "data").rglob("bad.png"):
        bad.write_bytes(b"")
    assert_refused(tmp_path / "data", message, DatasetOptions(name="cifar10", image_size=16))


def test_a_test_image_that_is_also_for_training_is_for_testing(tmp_path: Path) -> None:
    for name, turns in [("train/a/1", 0), ("train/a/2", 1), ("test/a/copy", 1), ("test/b/3", 2)]:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        PRINT.rotate(90 * turns).save(tmp_path / "data" / f"{name}.png")
    (tmp_path / "data/stray.png").write_bytes(encoded(NOISE, "PNG"))
    dataset = load_dataset(DatasetOptions(name="cifar10", image_size=16), tmp_path / "data")
    assert (len(dataset.train), len(dataset.test)) == (1, 2)
    assert dataset.warnings == (
        "skipped 1 image outside train and test: stray.png",
        "dropped 1 exact duplicate: train/a/2.png",
    )


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w", **special: bytes) -> bytes:
    """A tar; `special` maps a member's name to its type, for links and devices."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, kind in special.items():
            entry = tarfile.TarInfo(f"{name}.png")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    return buffer.getvalue()


def zip_with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """A zip whose last header of a kind has other bytes at an offset."""
    changed = bytearray(content)
    start = changed.rindex(signature) + offset
    changed[start : start + len(value)] = value
    return bytes(changed)


def encrypted() -> bytes:
    content = zipped({**GOOD, "x.png": encoded(NOISE, "PNG")})
    return patched(patched(content, b"PK\1\2", 8, b"\1\0"), b"PK\3\4", 6, b"\1\0")


def huge_declared() -> bytes:
    content = zipped({**GOOD, "x.png": encoded(NOISE, "PNG")})
    return patched(content, b"PK\1\2", 24, struct.pack("<I", 2**32 - 2))


GOOD = {
    f"scans/{finger}_{i}.png": encoded(PRINT.rotate(90 * i).resize((40 + finger, 40)), "PNG")
    for finger in (1, 2, 3)
    for i in (1, 2)
}
X = encoded(PRINT.resize((80, 80)), "PNG")
ARCHIVES: dict[str, tuple[str, bytes, str]] = {
    # Name, content, and the warning about the one member that is not used ("" for none).
    "zip": ("a.zip", zipped(GOOD), ""),
    "stored zip": ("a.ZIP", zipped(GOOD, zipfile.ZIP_STORED), ""),
    "tar": ("a.tar", tarred(GOOD), ""),
    "tar.gz": ("a.tar.gz", tarred(GOOD, "w:gz"), ""),
    "tar.xz called tgz": ("a.tgz", tarred(GOOD, "w:xz"), ""),
    "with macOS's extras": ("a.zip", zipped({**GOOD, "__MACOSX/scans/._1_1.png": b"\0\5"}), ""),
    "with a text": ("a.zip", zipped({**GOOD, "scans/readme.txt": b"hello"}), ""),
    "zip leading out": ("a.zip", zipped({**GOOD, "../../x.png": X}), "leads out of the archive"),
    "tar leading out": ("a.tar", tarred({**GOOD, "../../x.png": X}), "leads out of the archive"),
    "absolute name": ("a.tar", tarred({**GOOD, "/tmp/x.png": X}), "leads out of the archive"),
    "drive letter": ("a.zip", zipped({**GOOD, "C:\\x.png": X}), "leads out of the archive"),
    "symbolic link in a zip": ("a.zip", zip_with_link(), "a link"),
    "symbolic link in a tar": ("a.tar", tarred(GOOD, x=tarfile.SYMTYPE), "a link"),
    "hard link in a tar": ("a.tar", tarred(GOOD, x=tarfile.LNKTYPE), "a link"),
    "device in a tar": ("a.tar", tarred(GOOD, x=tarfile.CHRTYPE), "not a regular file"),
    "pipe in a tar": ("a.tar", tarred(GOOD, x=tarfile.FIFOTYPE), "not a regular file"),
    "encrypted member": ("a.zip", encrypted(), "encrypted"),
    "huge declared size": ("a.zip", huge_declared(), "more than 256 MB unpacked"),
    "nested archive": (
        "a.zip",
        zipped({**GOOD, "more.zip": zipped(GOOD)}),
        "skipped 1 archive within the archive: more.zip",
    ),
    "damaged member": ("a.tar", tarred({**GOOD, "x.png": b"no"}), "not an image"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_are_read_like_folders(tmp_path: Path, kind: str) -> None:
    name, content, warning = ARCHIVES[kind]
    expected = folder_of(tmp_path / "folder", GOOD)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / name).write_bytes(content)
    found, warnings = prepare(tmp_path / "here" / name)
    assert found == prepare(expected)[0]
    assert len(warnings) == (1 if warning else 0)
    assert warning in "".join(warnings)
    assert [path.name for path in (tmp_path / "here").iterdir()] == [name]
    assert not (tmp_path / "x.png").exists()


def folder_of(root: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


BAD_ARCHIVES: dict[str, tuple[str, bytes, str]] = {
    "truncated zip": ("a.zip", zipped(GOOD)[:-30], "is damaged or cut short"),
    "truncated tar": ("a.tar", tarred(GOOD)[:2000], "is damaged or cut short"),
    "truncated tar.gz": ("a.tar.gz", tarred(GOOD, "w:gz")[:-200], "is damaged or cut short"),
    "tar.gz whose sum does not fit": (
        "a.tar.gz",
        tarred(GOOD, "w:gz")[:-8] + bytes(8),
        "is damaged",
    ),
    "text called zip": ("a.zip", b"Dear diary,", "is damaged or cut short"),
    "empty file called tar": ("a.tar", b"", "is damaged or cut short"),
    "empty zip": ("a.zip", zipped({}), "holds no image"),
    "only archives inside": ("a.zip", zipped({"b.zip": zipped(GOOD)}), "holds no image"),
}


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_archives_that_are_refused(tmp_path: Path, kind: str) -> None:
    name, content, message = BAD_ARCHIVES[kind]
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, message)


@pytest.mark.parametrize(("name", "mode"), [("a.zip", ""), ("a.tar.gz", "w:gz")])
def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 2**20)
    zeros = {f"{i}.png": bytes(2**20) for i in range(8)}
    content = tarred(zeros, mode) if mode else zipped(zeros)
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, "unpacks to more than")


def test_a_full_disk_while_unpacking_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(GOOD))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.ArchivedSource, "_copy", full)
    assert_refused(tmp_path / "a.zip", "cannot be read into the cache: No space left on device")


def test_a_member_is_cut_off_where_it_outgrows_what_it_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({**GOOD, "x.png": bytes(5000)}))
    monkeypatch.setattr(archives, "MAX_FILE", 4000)
    _, (warning,) = prepare(tmp_path / "a.zip")
    assert "x.png (more than 0 MB unpacked)" in warning


def test_at_least_forty_kinds() -> None:
    kinds = [USED, USED_WITH_REMARK, SKIPPED, IGNORED, REFUSED, ARCHIVES, BAD_ARCHIVES]
    assert sum(map(len, kinds)) >= 40
