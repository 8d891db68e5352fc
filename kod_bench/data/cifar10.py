"""CIFAR-10: the published archive through torchvision's loader, or a folder of images.

The archive is looked for in the data folder, then in the cache, and else downloaded into the cache.
torchvision checks it against the published MD5, so that nothing else is ever unpickled.
"""

import tarfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from kod_bench.data.cache_folder import DOWNLOADS, check_own, file_mode, is_shared, own_folder
from kod_bench.data.errors import DataError
from kod_bench.data.files import SourcePixels
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, Source, SourceImage
from kod_bench.errors import one_line

ARCHIVE = "cifar-10-python.tar.gz"
UNPACKED = "cifar-10-batches-py"
_CHUNK = 1000  # images per unit
_COUNTS = {"train": 50_000, "test": 10_000}
_PATIENCE_SECONDS = 10.0


class ArchiveSource:
    """The 60,000 images of the published archive.

    Args:
        options: Which images.
        root: The folder that holds the archive.
        may_download: Whether the archive is fetched into `root` if it is not there.
    """

    split_rule = "as published"
    parallel = False  # they are not encoded: there is nothing to do side by side
    notes: tuple[str, ...] = ()
    units = sum(_COUNTS.values()) // _CHUNK

    def __init__(self, options: DatasetOptions, root: Path, *, may_download: bool) -> None:
        self.name = "cifar10"
        self.title = f"CIFAR-10 archive in {root}"
        self._root = root
        self._may_download = may_download
        self._color = options.color
        self._loaded: dict[str, tuple[SourcePixels, list[str]]] = {}

    def identity(self) -> dict[str, object]:
        """The published archive's MD5: there is only one CIFAR-10."""
        from torchvision.datasets import CIFAR10

        return {"cifar10": CIFAR10.tgz_md5}

    def unpack(self, folder: Path) -> None:
        """Load the batches, downloaded and unpacked in `folder` where they have to be."""
        from torchvision.datasets import CIFAR10

        if self._may_download and not _holds_archive(self._root):
            _download(folder, self._root)
        root = self._root
        try:
            if not (root / UNPACKED).is_dir():
                # torchvision unpacks beside the archive, which may be where nothing may be written.
                (folder / ARCHIVE).symlink_to((root / ARCHIVE).resolve())
                root = folder
            for side in _COUNTS:
                loaded = CIFAR10(str(root), train=side == "train", download=root == folder)
                labels = [loaded.classes[target] for target in loaded.targets]
                self._loaded[side] = (loaded.data, labels)
        except (RuntimeError, tarfile.TarError, EOFError, OSError) as error:
            raise DataError(
                f"{self.title} is damaged or cannot be read ({one_line(error)}); "
                f"put {ARCHIVE} there again"
            ) from None

    def read(self, unit: int) -> Iterable[SourceImage]:
        """A thousand images, named as if they lay in the folder of their class."""
        first = unit * _CHUNK
        side = "train"
        if first >= _COUNTS["train"]:
            side, first = "test", first - _COUNTS["train"]
        pixels, labels = self._loaded[side]
        for index in range(first, min(first + _CHUNK, len(pixels))):
            image = pixels[index]
            if self._color == "gray":
                image = np.asarray(Image.fromarray(image).convert("L"), np.uint8)
            yield SourceImage(f"{side}/{labels[index]}/{index:05d}", image)


def _holds_archive(folder: Path) -> bool:
    return (folder / UNPACKED).is_dir() or (folder / ARCHIVE).is_file()


def _download_folder(cache_dir: Path) -> Path:
    return cache_dir / DOWNLOADS


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source | None:
    if folder is None:
        downloads = _download_folder(cache_dir)
        for path in (downloads, downloads / ARCHIVE, downloads / UNPACKED):
            check_own(path)
        return ArchiveSource(options, downloads, may_download=True)
    if folder.name in (ARCHIVE, UNPACKED):
        folder = folder.parent
    return ArchiveSource(options, folder, may_download=False) if _holds_archive(folder) else None


def _download(work: Path, downloads: Path) -> None:
    """Fetch the archive; what an interruption leaves is in `work`, whose owner clears it."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    try:
        # torchvision's own request has no time limit, and waits for ever behind some firewalls.
        with urllib.request.urlopen(CIFAR10.url, timeout=_PATIENCE_SECONDS):
            pass
        download_url(CIFAR10.url, str(work), ARCHIVE, CIFAR10.tgz_md5)
        own_folder(downloads.parent, downloads.name)
        if not is_shared():
            (work / ARCHIVE).chmod(file_mode())
        (work / ARCHIVE).replace(downloads / ARCHIVE)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"CIFAR-10 cannot be downloaded ({one_line(reason)}): put {ARCHIVE} into "
            f"{downloads}, or name with --data-dir a folder that holds it, or one with "
            "train/<class>/* and test/<class>/*"
        ) from None


def _without_folder(cache_dir: Path) -> str:
    downloads = _download_folder(cache_dir)
    if _holds_archive(downloads):
        return f"archive in {downloads}"
    return f"download to {downloads} (170 MB)"


SPEC = DatasetSpec(
    subject="picture",
    group_noun="source images",
    needs_division=True,
    layout=f"train/<class>/* and test/<class>/*, or {ARCHIVE}",
    licence="Krizhevsky 2009: for research, no licence stated",
    without_folder=_without_folder,
    open_special=_open,
)
