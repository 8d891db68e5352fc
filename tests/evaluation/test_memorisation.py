import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kod_bench.evaluation import memorisation
from kod_bench.evaluation.memorisation import Nearest, memorised_share, write_nearest_pairs
from tests.evaluation.pictures import blurred, noise_like


def smooth(count: int, seed: int) -> Tensor:
    """Images of one law: blurred noise, with contrast again."""
    soft = blurred(noise_like(torch.empty(count, 1, 16, 16), seed), 1.5).float()
    return ((soft - 127.5) * 4 + 127.5).clamp(0, 255).to(torch.uint8)


TRAIN, HELD_OUT, FRESH = smooth(600, 0), smooth(400, 1), smooth(400, 2)


def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorisation, "_ROWS", 7)  # several blocks either way
    monkeypatch.setattr(memorisation, "_NUMBERS", 100 * 256)
    found = Nearest.find(HELD_OUT[:20], TRAIN)
    every = torch.cdist(HELD_OUT[:20].flatten(1).double(), TRAIN.flatten(1).double()) / 255 / 16
    nearest = every.sort(dim=1)
    assert torch.equal(found.index, nearest.indices[:, 0])
    np.testing.assert_allclose(found.distance, nearest.values[:, 0], rtol=1e-5)
    expected = nearest.values[:, 0] / nearest.values[:, :50].mean(dim=1)
    np.testing.assert_allclose(found.ratio, expected, rtol=1e-5)


def test_copies_are_memorised_and_fresh_images_are_not() -> None:
    held_out = Nearest.find(HELD_OUT, TRAIN)
    copies = (TRAIN[:300].int() + 3 * (noise_like(TRAIN[:300]) % 3)).clamp(0, 255).to(torch.uint8)
    mixed = torch.cat([copies, FRESH[:100]])
    found = Nearest.find(mixed, TRAIN)
    assert torch.equal(found.index[:300], torch.arange(300))
    assert memorised_share(found, held_out) == pytest.approx(0.75, abs=0.02)
    assert memorised_share(Nearest.find(FRESH, TRAIN), held_out) < 0.04
    assert Nearest.find(TRAIN[5:6], TRAIN).distance == 0


@pytest.mark.parametrize("held_out", [99, 100, 149, 180, 199, 200, 400])
def test_a_perfect_generator_shares_one_percent_at_any_count(held_out: int) -> None:
    """Of any law: what is averaged over both sets of images knows their order alone."""
    draws = np.random.default_rng(held_out).random((4000, held_out + 100)) ** 3
    shares = [
        memorised_share(of_ratios(each[held_out:]), of_ratios(each[:held_out])) for each in draws
    ]
    found = np.array(shares, dtype=float)
    assert found.mean() == pytest.approx(0.01, abs=4 * found.std() / math.sqrt(len(found)))
    assert found.std() / math.sqrt(len(found)) < 3e-4


def test_fewer_than_99_held_out_images_have_no_such_quantile() -> None:
    samples = of_ratios(np.zeros(10))
    assert memorised_share(samples, of_ratios(np.ones(98))) is None
    assert memorised_share(samples, of_ratios(np.ones(99))) == 1.0
    assert memorised_share(of_ratios(np.ones(10)), of_ratios(np.ones(150))) == 0.0
    # Between the smallest and the next but one: 1.5 of 150 are below.
    ordered = of_ratios(np.arange(149) + 1.0)
    assert memorised_share(of_ratios(np.array([0.5, 1.5, 2.5, 3.5])), ordered) == pytest.approx(
        0.5 * 0.25 + 0.5 * 0.5
    )


def of_ratios(ratios: np.ndarray) -> Nearest:
    return Nearest(torch.zeros(len(ratios), dtype=torch.int64), ratios, ratios)


def test_blurred_images_are_near_everything_and_memorised_nothing() -> None:
    held_out, soft = Nearest.find(HELD_OUT, TRAIN), Nearest.find(blurred(FRESH, 3), TRAIN)
    assert np.median(soft.distance) < np.quantile(held_out.distance, 0.01)
    assert memorised_share(soft, held_out) < 0.04


def test_it_repeats_to_the_last_bit() -> None:
    one, two = (Nearest.find(FRESH, TRAIN) for _ in range(2))
    assert np.array_equal(one.ratio, two.ratio)
    assert np.array_equal(one.distance, two.distance)


def test_the_picture_shows_the_closest_pairs_first(tmp_path: Path) -> None:
    images = torch.cat([FRESH[:20], TRAIN[7:8]])
    write_nearest_pairs(tmp_path / "pairs.png", images, TRAIN, Nearest.find(images, TRAIN))
    sheet = np.asarray(Image.open(tmp_path / "pairs.png").convert("L"))
    scale, gap = 4, 4  # 8 columns of 16 pixels, enlarged to 512
    assert sheet.shape == (2 * (32 * scale + gap) + gap, 8 * (16 * scale + gap) + gap)
    upper = sheet[gap : gap + 16 * scale : scale, gap : gap + 16 * scale : scale]
    lower = sheet[gap + 16 * scale : gap + 32 * scale : scale, gap : gap + 16 * scale : scale]
    assert np.array_equal(upper, TRAIN[7, 0].numpy())
    assert np.array_equal(lower, upper)


@pytest.mark.parametrize("train", [TRAIN[:1], TRAIN[:, :, :8], TRAIN.expand(-1, 3, -1, -1)])
def test_other_images_cannot_be_looked_for(train: Tensor) -> None:
    with pytest.raises(ValueError, match="same shape, and at least two"):
        Nearest.find(FRESH, train)
