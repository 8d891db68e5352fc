import hashlib
import io
import pickle
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets import utils as torchvision_utils

from kod_bench.data import DataError, DatasetOptions, cache, cifar10, load_dataset

OPTIONS = DatasetOptions(name="cifar10", image_size=32)
LABELS = ["airplane", "automobile"]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the published format, whose checksums torchvision takes for right."""
    generator = np.random.default_rng(0)
    files = {"batches.meta": {"label_names": LABELS}}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        files[name] = {"data": data, "labels": [0, 1, 0, 1]}
    path = tmp_path / "published" / cifar10.ARCHIVE
    path.parent.mkdir()
    sums = {}
    with tarfile.open(path, "w:gz") as tar:
        for name, document in files.items():
            content = pickle.dumps(document)
            sums[name] = hashlib.md5(content).hexdigest()
            entry = tarfile.TarInfo(f"{cifar10.UNPACKED}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    batches = [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(cifar10, "_COUNTS", {"train": 20, "test": 4})
    monkeypatch.setattr(cifar10.ArchiveSource, "units", 6)
    monkeypatch.setattr(cifar10, "_CHUNK", 4)
    return path


def assert_read(dataset: object) -> None:
    assert dataset.name == "cifar10"
    assert (dataset.train.shape, dataset.test.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert dataset.details.classes == {"airplane": (10, 2), "automobile": (10, 2)}
    assert dataset.details.split == "as published"


def test_the_archive_in_a_folder_that_stays_as_it_is(archive: Path) -> None:
    assert_read(load_dataset(OPTIONS, archive.parent))
    assert [path.name for path in archive.parent.iterdir()] == [cifar10.ARCHIVE]
    assert len([p for p in cache.default_cache_dir().iterdir() if p.name != ".hashes"]) == 1


def test_the_archive_itself(archive: Path) -> None:
    assert_read(load_dataset(OPTIONS, archive))


def test_the_unpacked_archive_has_the_same_pixels(archive: Path, tmp_path: Path) -> None:
    first = load_dataset(OPTIONS, archive, tmp_path / "one")
    shutil.unpack_archive(archive, tmp_path / "here")
    second = load_dataset(OPTIONS, tmp_path / "here", tmp_path / "two")
    assert_read(second)
    assert first.content_hash == second.content_hash
    entry = pickle.loads((tmp_path / "here" / cifar10.UNPACKED / "test_batch").read_bytes())
    published = {row.reshape(3, 32, 32).tobytes() for row in entry["data"]}
    assert {image.numpy().tobytes() for image in second.test} == published


def test_in_gray_it_is_luma(archive: Path) -> None:
    color, gray = (
        load_dataset(OPTIONS.model_copy(update={"color": color}), archive)
        for color in ("rgb", "gray")
    )
    luma = {
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")).tobytes()
        for image in color.test
    }
    assert {image.numpy().tobytes() for image in gray.test} == luma


def test_a_damaged_archive_is_refused(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged or cannot be read") as error:
        load_dataset(OPTIONS, archive.parent)
    assert "\n" not in str(error.value)
    assert list(cache.default_cache_dir().iterdir()) == []


def test_other_batches_are_never_unpickled(archive: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "here")
    (tmp_path / "here" / cifar10.UNPACKED / "data_batch_3").write_bytes(b"cos\nsystem\n(S'no'\ntR.")
    with pytest.raises(DataError, match="is damaged or cannot be read"):
        load_dataset(OPTIONS, tmp_path / "here")


def test_it_is_downloaded_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        if (Path(root) / filename).exists():  # as torchvision's own does
            return
        downloads.append(url)
        assert hashlib.md5(archive.read_bytes()).hexdigest() == md5
        (Path(root) / filename).write_bytes(archive.read_bytes())

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO())
    monkeypatch.setattr(torchvision_utils, "download_url", download)
    assert_read(load_dataset(OPTIONS, None))
    load_dataset(OPTIONS.model_copy(update={"image_size": 16}), None)
    assert downloads == [CIFAR10.url]


def test_offline_it_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(DataError, match="no route to host") as error:
        load_dataset(OPTIONS, None)
    message = str(error.value)
    assert f"put {cifar10.ARCHIVE} into {cache.default_cache_dir() / 'downloads'}" in message
    assert "\n" not in message
    assert list(cache.default_cache_dir().iterdir()) == []
