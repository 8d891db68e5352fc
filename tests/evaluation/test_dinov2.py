"""DINOv2's extractors, with a small random network in the form of the published files."""

import hashlib
import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.fid import frechet_distance
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from kod_bench.cli.main import app
from kod_bench.evaluation import ExtractorError, choose_extractor, make_extractor
from kod_bench.evaluation.dinov2 import DINOv2Base, DINOv2Large
from kod_bench.evaluation.vision_transformer import Layout, VisionTransformer

SMALL = Layout(width=24, depth=2, heads=3)


def published_form(layout: Layout) -> dict[str, Tensor]:
    """Random weights, under the names and in the shapes that Meta's files have."""
    rng = torch.Generator().manual_seed(0)
    width = layout.width

    def draw(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=rng)

    weights = {
        "cls_token": draw(1, 1, width),
        "pos_embed": draw(1, 1 + 37**2, width),
        "mask_token": draw(1, width),
        "patch_embed.proj.weight": draw(width, 3, 14, 14),
        "patch_embed.proj.bias": draw(width),
        "norm.weight": 1 + draw(width),
        "norm.bias": draw(width),
    }
    for block in range(layout.depth):
        shapes = {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }
        weights |= {f"blocks.{block}.{name}": draw(*shape) for name, shape in shapes.items()}
    return weights


def written_out(weights: dict[str, Tensor], layout: Layout, pixels: Tensor) -> Tensor:
    """The class token by torch's own attention layer, on the grid of 518 pixels."""
    width = layout.width
    x = F.conv2d(
        pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=14
    )
    x = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1)
    x = x + weights["pos_embed"]
    for block in range(layout.depth):
        w = {
            name.removeprefix(f"blocks.{block}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{block}.")
        }
        attention = nn.MultiheadAttention(width, layout.heads, batch_first=True)
        attention.load_state_dict(
            {
                "in_proj_weight": w["attn.qkv.weight"],
                "in_proj_bias": w["attn.qkv.bias"],
                "out_proj.weight": w["attn.proj.weight"],
                "out_proj.bias": w["attn.proj.bias"],
            }
        )
        h = F.layer_norm(x, (width,), w["norm1.weight"], w["norm1.bias"], 1e-6)
        x = x + w["ls1.gamma"] * attention(h, h, h, need_weights=False)[0]
        h = F.layer_norm(x, (width,), w["norm2.weight"], w["norm2.bias"], 1e-6)
        h = F.gelu(h @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"])
        x = x + w["ls2.gamma"] * (h @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"])
    return F.layer_norm(x, (width,), weights["norm.weight"], weights["norm.bias"], 1e-6)[:, 0]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, an empty cache; returns the cache's folder."""

    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "cache"))
    for extractor in (DINOv2Base, DINOv2Large):
        monkeypatch.delenv(extractor.weights.variable, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: Path) -> Path:
    """A file in the published form under its name, of a small network, and known by its hash."""
    path = tmp_path / DINOv2Base.weights.name
    torch.save(published_form(SMALL), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(DINOv2Base, "layout", SMALL)
    monkeypatch.setattr(DINOv2Base, "weights", replace(DINOv2Base.weights, sha256=digest))
    return path


def noise(count: int, channels: int = 3, side: int = 32) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=rng)


def test_the_network_is_that_of_the_file() -> None:
    weights = published_form(SMALL)
    network = VisionTransformer(SMALL).eval()
    network.load_state_dict(weights)  # every name, every shape
    pixels = torch.randn(2, 3, 518, 518, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = written_out(weights, SMALL, pixels)
        assert torch.allclose(network(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("extractor", "count"), [(DINOv2Base, 86_580_480), (DINOv2Large, 304_368_640)]
)
def test_the_sizes_are_the_published_ones(
    extractor: type[DINOv2Base | DINOv2Large], count: int
) -> None:
    with torch.device("meta"):
        network = VisionTransformer(extractor.layout)
    assert sum(each.numel() for each in network.parameters()) == count


def test_places_are_resampled_and_kept_in_order() -> None:
    network = VisionTransformer(SMALL).eval()
    # An embedding that is the place itself: resampled it nearly still is, up to the edge. (torch's
    # bicubic kernel, a = -0.75, does not keep lines exactly.)
    rows, columns = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    with torch.no_grad():
        network.pos_embed.zero_()
        network.pos_embed[0, 1:, 0] = rows.flatten()
        network.pos_embed[0, 1:, 1] = columns.flatten()
        network.pos_embed[0, 0] = 5.0
        places = network._places(16)
    assert places.shape == (1, 1 + 16**2, 24)
    assert (places[0, 0] == 5.0).all()
    grid = places[0, 1:].view(16, 16, 24)
    expected = (torch.arange(16.0) + 0.5) * 37 / 16.1 - 0.5
    inner = slice(1, 15)
    assert torch.allclose(grid[inner, 3, 0], expected[inner], atol=0.1)
    assert torch.allclose(grid[3, inner, 1], expected[inner], atol=0.1)


def test_images_enter_as_the_papers_do(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DINOv2Base.weights.variable, str(stand_in))
    extractor = make_extractor("dinov2-vitb14")
    images = noise(3)
    network = VisionTransformer(SMALL).eval()
    network.load_state_dict(torch.load(stand_in, weights_only=True))
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for image, found in zip(images, extractor(images), strict=True):
        planes = [
            np.asarray(
                Image.fromarray(plane.numpy().astype(np.float32)).resize(
                    (224, 224), Image.Resampling.BICUBIC
                )
            ).clip(0, 255)
            for plane in image
        ]
        pixels = (np.stack(planes, -1) / 255 - mean) / deviation
        inputs = torch.from_numpy(pixels).permute(2, 0, 1).float().unsqueeze(0)
        with torch.no_grad():
            np.testing.assert_allclose(found, network(inputs)[0].numpy(), atol=1e-4)
    assert extractor.name == f"dinov2-vitb14@224-{DINOv2Base.weights.sha256[:8]}"
    gray = noise(2, channels=1)
    np.testing.assert_array_equal(extractor(gray), extractor(gray.expand(-1, 3, -1, -1)))


def test_folders_are_scored_on_its_features(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(DINOv2Base.weights.variable, str(stand_in))
    pixels = {"made": noise(30) // 2, "real": noise(40)}
    for name, images in pixels.items():
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{index}.png")
    output = tmp_path / "scores.json"
    words = ["evaluate", tmp_path / "made", "--against", tmp_path / "real"]
    words += ["--features", "dinov2-vitb14", "--metrics", "fid,kid", "--json", output]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    scores = json.loads(output.read_text())
    extractor = make_extractor("dinov2-vitb14")
    assert extractor.name in output.read_text()
    made, real = (np.concatenate([extractor(images)]) for images in pixels.values())
    expected = frechet_distance(
        made.mean(0), np.cov(made, rowvar=False), real.mean(0), np.cov(real, rowvar=False)
    )
    assert scores["metrics"]["fid"]["value"] == pytest.approx(expected, rel=1e-6)
    assert scores["metrics"]["kid"]["value"] > 0


def test_weights_come_from_the_cache_or_a_checked_download(
    stand_in: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def serve(url: str, timeout: float):  # type: ignore[no-untyped-def]
        asked.append(url)
        return stand_in.open("rb")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert choose_extractor("dinov2-vitb14") == ("dinov2-vitb14", "")
    make_extractor("dinov2-vitb14")
    assert asked == [DINOv2Base.weights.url]
    assert [path.name for path in offline.iterdir()] == [DINOv2Base.weights.name]
    (offline / DINOv2Base.weights.name).write_bytes(b"else")
    with pytest.raises(ExtractorError, match=r"is not dinov2_vitb14_pretrain.pth \(sha256"):
        make_extractor("dinov2-vitb14")


def test_without_weights_one_line_says_where_to_put_them(offline: Path) -> None:
    for name, extractor in (("dinov2-vitb14", DINOv2Base), ("dinov2-vitl14", DINOv2Large)):
        with pytest.raises(ExtractorError) as raised:
            choose_extractor(name)
        message = str(raised.value)
        assert "\n" not in message
        for part in (extractor.weights.url, str(offline), extractor.weights.variable):
            assert part in message


def test_a_file_of_another_network_is_refused_in_one_line(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DINOv2Base, "layout", replace(SMALL, depth=3))
    monkeypatch.setenv(DINOv2Base.weights.variable, str(stand_in))
    with pytest.raises(ExtractorError, match="holds no weights of DINOv2 ViT-B/14") as raised:
        make_extractor("dinov2-vitb14")
    assert "\n" not in str(raised.value)
