"""Feature extractors by name: built in, installed, the user's own; and where weights come from."""

import hashlib
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.utils import ResizeDataset
from PIL import Image
from torch import Tensor, nn

from kod_bench.evaluation import (
    ExtractorError,
    check_extractor,
    choose_extractor,
    inception,
    look_for_modules_in,
    make_extractor,
)
from kod_bench.evaluation.efficientnet import EfficientNetLite0
from tests.plugins import Announce


def noise(count: int, channels: int = 3, side: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator
    )


class Layers(nn.Module):
    """Stands in for Inception's layers: small, not linear, and 2048 wide at 299 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.convolution(x))
        return nn.functional.adaptive_avg_pool2d(x, 16)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TorchScript file of Inception's form under its name, and the checksum that it has."""
    torch.manual_seed(0)
    path = tmp_path / inception.WEIGHTS_NAME
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # clean-fid's weights are TorchScript
        torch.jit.script(Network().eval()).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", digest)
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, an empty cache; returns the cache's folder."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(inception.WEIGHTS_VARIABLE, raising=False)
    return tmp_path / "cache"


def test_inception_is_clean_fids_path_with_the_same_file(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inception.WEIGHTS_VARIABLE, str(stand_in))
    extractor = make_extractor("inception")
    for channels, side in ((3, 20), (1, 400)):  # enlarged, and shrunk
        images = noise(3, channels, side)
        files = []
        for index, image in enumerate(images):
            files.append(tmp_path / f"{side}-{index}.png")
            pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
            Image.fromarray(pixels).save(files[-1])
        dataset = ResizeDataset(files, mode="clean")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            network = InceptionV3W(str(tmp_path), download=False, resize_inside=False)
        with torch.no_grad():
            theirs = network(torch.stack([dataset[i] for i in range(3)])).numpy()
        np.testing.assert_allclose(extractor(images), theirs, rtol=1e-5, atol=1e-6)
    assert extractor(noise(2)).shape == (2, 2048)
    assert extractor.name == f"inception-{inception.WEIGHTS_SHA256[:8]}"
    assert np.array_equal(extractor(noise(3)), extractor(noise(3)))


def test_gray_enters_inception_as_three_equal_channels(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(inception.WEIGHTS_VARIABLE, str(stand_in))
    extractor = make_extractor("inception")
    gray = noise(2, channels=1)
    np.testing.assert_array_equal(extractor(gray), extractor(gray.expand(-1, 3, -1, -1)))


def test_weights_in_the_cache_are_found(stand_in: Path, offline: Path) -> None:
    offline.mkdir()
    stand_in.rename(offline / inception.WEIGHTS_NAME)
    assert choose_extractor("inception") == ("inception", "")
    assert choose_extractor("auto") == ("inception", "features: inception")


def test_weights_are_downloaded_into_the_cache_once(
    stand_in: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def serve(url: str, timeout: float):  # type: ignore[no-untyped-def]
        asked.append(url)
        assert timeout <= 10
        return stand_in.open("rb")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert make_extractor("auto").name.startswith("inception-")
    make_extractor("inception")
    assert asked == [inception.WEIGHTS_URL]
    assert [path.name for path in offline.iterdir()] == [inception.WEIGHTS_NAME]


def test_a_download_that_is_another_file_leaves_nothing(
    stand_in: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stand_in.parent / "other").write_bytes(b"a page of a proxy")
    monkeypatch.setattr(
        urllib.request, "urlopen", lambda *_, **__: (stand_in.parent / "other").open("rb")
    )
    with pytest.raises(ExtractorError, match="sha256"):
        make_extractor("inception")
    assert list(offline.iterdir()) == []


def test_without_weights_and_network_one_line_says_where_to_put_them(offline: Path) -> None:
    with pytest.raises(ExtractorError) as raised:
        choose_extractor("inception")
    message = str(raised.value)
    assert "\n" not in message
    for part in ("no route to host", inception.WEIGHTS_URL, str(offline), "KOD_BENCH_INCEPTION"):
        assert part in message
    name, remark = choose_extractor("auto")
    assert name == "efficientnet-lite0"
    assert remark.startswith("features: efficientnet-lite0 (the Inception weights are not there")


def test_a_file_that_is_not_the_known_one_is_refused(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content, part in ((b"else", "is not inception-2015-12-05.pt"), (None, "no such file")):
        path = tmp_path / "given.pt"
        path.unlink(missing_ok=True)
        if content:
            path.write_bytes(content)
        monkeypatch.setenv(inception.WEIGHTS_VARIABLE, str(path))
        with pytest.raises(ExtractorError, match=part):
            make_extractor("inception")
        # A file that was named and is wrong is an error; "auto" does not look past it.
        with pytest.raises(ExtractorError, match=part):
            choose_extractor("auto")


OWN = """
class Means:
    {name}
    def __init__(self, device):
        self.device = device
    def __call__(self, images):
        return {returned}
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Write a module of the user's into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])

    def write(
        returned: str = "images.float().mean((2, 3))", name: str = "name = 'rgb-v1'", stem: str = ""
    ) -> str:
        module = f"own_{stem or tmp_path.name}".replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        Path(f"{module}.py").write_text(OWN.format(returned=returned, name=name))
        return f"{module}:Means"

    return write


def test_a_users_module_in_the_working_folder(own_module) -> None:  # type: ignore[no-untyped-def]
    asked = own_module()
    assert choose_extractor(asked) == (asked, "")
    extractor = make_extractor(asked)
    assert extractor.name.startswith(f"{asked}-rgb-v1-")
    images = noise(4)
    found = extractor(images)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, images.double().mean((2, 3)), rtol=1e-6)


def test_a_users_folder_stands_behind_the_libraries(  # type: ignore[no-untyped-def]
    own_module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = own_module()
    Path("fractions.py").write_text("raise AssertionError('not the library')")
    Path("beside_it.py").write_text("FACTOR = 2")
    own = Path(asked.partition(":")[0]).with_suffix(".py")
    own.write_text("import beside_it\nimport fractions\n" + own.read_text())
    monkeypatch.delitem(sys.modules, "fractions", raising=False)
    assert make_extractor(asked).name.startswith(f"{asked}-rgb-v1-")
    assert sys.path[-1] == str(tmp_path)
    import fractions

    assert fractions.Fraction(1, 2) == 0.5


def test_a_module_is_looked_for_in_the_folder_that_is_named(  # type: ignore[no-untyped-def]
    own_module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = own_module()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ExtractorError, match="No module named"):
        make_extractor(asked)
    look_for_modules_in(tmp_path)
    assert make_extractor(asked).name.startswith(f"{asked}-rgb-v1-")


def test_without_a_name_the_source_is_the_identity(own_module) -> None:  # type: ignore[no-untyped-def]
    first = make_extractor(own_module(name="", stem="a")).name
    assert first == make_extractor(own_module(name="", stem="a")).name
    changed = make_extractor(own_module("images.float().amax((2, 3))", name="", stem="b")).name
    assert changed.rsplit("-")[-1] != first.rsplit("-")[-1]


@pytest.mark.parametrize(
    ("returned", "part"),
    [
        ("images.float().mean()", "must be (4, D)"),
        ("images.float().mean((1, 2, 3))", r"returned shape (4,)"),
        ("images.float().mean((2, 3))[:2]", r"returned shape (2, 3) for 4 images"),
        ("images.float().mean((2, 3))[:, :0]", "must be (4, D)"),
        ("images.float().mean((2, 3)) / 0 * 0", "not finite for 4 of 4 images"),
        ("'features'", "fails: ValueError"),
        ("undefined", "fails: NameError"),
    ],
)
def test_what_a_users_extractor_returns_is_checked(own_module, returned: str, part: str) -> None:  # type: ignore[no-untyped-def]
    extractor = make_extractor(own_module(returned))
    with pytest.raises(ExtractorError) as raised:
        extractor(noise(4))
    assert part in str(raised.value)
    assert "Means" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("inceptoin", "did you mean 'inception'"),
        ("clip", "my_module:MyExtractor"),
        ("", "known: auto, inception, efficientnet-lite0"),
        ("no_such_module:Extractor", "ModuleNotFoundError"),
        ("json:Extractor", "AttributeError"),
        ("json:__name__", "is not a class"),
        ("json:loads", "loads(device) fails: JSONDecodeError"),
    ],
)
def test_names_that_lead_nowhere(name: str, part: str) -> None:
    with pytest.raises(ExtractorError) as raised:
        make_extractor(name)
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("group", ["kod_bench.extractors", "kod_bench.feature_extractors"])
def test_installed_packages_announce_extractors(announce: Announce, group: str) -> None:
    source = OWN.format(returned="images.float().mean((2, 3))", name="name = 'rgb-v1'")
    announce("my-means", {group: {"means": "my_means:Means"}}, {"my_means.py": source})
    assert check_extractor("means") == "means"
    assert "my_means" not in sys.modules  # before anybody wants it
    assert make_extractor("means").name.startswith("means-rgb-v1-")
    with pytest.raises(ExtractorError, match="did you mean 'means'"):
        check_extractor("mean")


def test_installed_extractors_that_cannot_be_had(announce: Announce) -> None:
    announce("broken-one", {"kod_bench.extractors": {"broken": "no_such_module:Extractor"}})
    with pytest.raises(ExtractorError) as raised:
        make_extractor("broken")
    assert str(raised.value) == (
        "feature extractor 'broken' of package broken-one 1.0 cannot be imported from "
        "no_such_module:Extractor: ModuleNotFoundError: No module named 'no_such_module'"
    )
    announce("taker", {"kod_bench.extractors": {"inception": "json:loads"}})
    with pytest.raises(ExtractorError, match=r"'inception' is built in, and the .* taker 1\.0"):
        choose_extractor("inception")


def test_the_layout_in_memory_changes_roundings_and_nothing_else() -> None:
    extractor = EfficientNetLite0(input_size=32)
    images = torch.randint(0, 256, (4, 3, 24, 24), dtype=torch.uint8)
    network = extractor._network
    stem = next(each for each in network.modules() if isinstance(each, nn.Conv2d))
    assert stem.weight.is_contiguous(memory_format=torch.channels_last)
    features = extractor(images)
    network.to(memory_format=torch.contiguous_format)
    with torch.inference_mode():
        x = F.interpolate(
            images.float(), (32, 32), mode="bilinear", antialias=True, align_corners=False
        )
        plain = network.extract_features((x - 127) / 128).mean((2, 3)).double().numpy()
    assert np.abs(features - plain).max() < 1e-5 * np.abs(plain).max()
