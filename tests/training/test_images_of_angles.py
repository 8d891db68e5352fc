import math

import pytest
import torch
from torch import Tensor

from kod_bench.data import DatasetOptions
from kod_bench.training import ShuffledImages


def directions() -> Tensor:
    """The direction away from a point off the middle, y upwards: (1, 1, 8, 8)."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.atan2(3.2 - rows, columns - 1.3)[None, None]


def of_mirrored(horizontal: bool) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    x, y = (5.7, 3.2) if horizontal else (1.3, 3.8)
    return torch.atan2(y - rows, columns - x)[None, None]


def drawn(stored: Tensor, *changes: str) -> list[Tensor]:
    source = ShuffledImages(stored, torch.Generator().manual_seed(0), changes)
    return [source(1) * math.pi for _ in range(12)]


def apart(one: Tensor, two: Tensor) -> float:
    return float((torch.polar(torch.ones_like(one), one - two) - 1).abs().max())


@pytest.mark.parametrize("horizontal", [True, False])
@pytest.mark.parametrize("kind", ["direction", "compass", "orientation"])
def test_a_mirrored_field_is_that_of_the_mirrored_world(horizontal: bool, kind: str) -> None:
    convert = {
        "direction": lambda theta: theta,
        "compass": lambda theta: math.pi / 2 - theta,  # from north, clockwise
        "orientation": lambda theta: 2 * theta,
    }[kind]
    wrapped = [
        torch.remainder(convert(field) + math.pi, 2 * math.pi) - math.pi
        for field in (directions(), of_mirrored(horizontal))
    ]
    change = f"{'horizontal' if horizontal else 'vertical'}-flip {kind}"
    found = drawn(wrapped[0], change)
    same = [apart(each, wrapped[0]) < 1e-4 for each in found]
    mirrored = [apart(each, wrapped[1]) < 1e-4 for each in found]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same)
    assert any(mirrored)


def test_spins_are_moved_and_keep_their_angle() -> None:
    stored = directions()
    found = drawn(stored, "horizontal-flip")
    assert any(apart(each, stored.flip(3)) < 1e-4 for each in found)


def test_what_is_handed_out_lies_in_minus_one_to_one() -> None:
    stored = torch.tensor([-math.pi, 3.1415925]).repeat(32).reshape(1, 1, 8, 8)
    for each in drawn(stored, "horizontal-flip direction", "vertical-flip direction"):
        unit = each / math.pi
        assert float(unit.min()) >= -1
        assert float(unit.max()) < 1 + 1e-6


def test_bytes_have_no_angles_to_mirror() -> None:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="unknown augmentation"):
        ShuffledImages(images, torch.Generator(), ["horizontal-flip direction"])


def test_what_a_data_set_asks_for() -> None:
    def changes(name: str, **others: object) -> tuple[str, ...]:
        said = {"name": name, "image_size": 8, "augment": ["horizontal-flip"], **others}
        return DatasetOptions.model_validate(said).changes

    assert changes("textures") == ("horizontal-flip",)
    assert changes("xy") == ("horizontal-flip",)
    assert changes("flow") == ("horizontal-flip direction",)
    assert changes("orientation") == ("horizontal-flip orientation",)
    assert changes("angles:/x", angles={"kind": "compass"}) == ("horizontal-flip compass",)
    with pytest.raises(ValueError, match="kind must be said"):
        changes("angles:/x")
    with pytest.raises(ValueError, match="rotate"):
        changes("flow", augment=["rotate"])
