import socket
from pathlib import Path

import pytest
import torch

from kod_bench.data import DataError, DatasetOptions, load_dataset


@pytest.mark.parametrize(
    ("name", "classes"),
    [("textures", ["brick", "grass", "gravel"]), ("terrain", ["grass", "gravel"])],
)
def test_without_a_folder_or_a_network(
    name: str, classes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    dataset = load_dataset(DatasetOptions(name=name, image_size=32), None)
    assert dataset.name == f"{name}-builtin"
    assert list(dataset.details.classes) == classes
    assert len(dataset.train) > 1500
    assert len(dataset.test) > 400
    assert dataset.train.shape[1:] == (1, 32, 32)
    assert "32 pixels apart" in dataset.details.split


def test_in_rgb_the_channels_are_equal() -> None:
    gray, rgb = (
        load_dataset(DatasetOptions(name="textures", image_size=32, color=color), None).test
        for color in ("gray", "rgb")
    )
    every = {image.numpy().tobytes() for image in gray}
    assert torch.equal(rgb[:, :1].expand_as(rgb), rgb)
    assert {image.numpy().tobytes() for image in rgb[:, :1]} == every


def test_two_or_three_whole_images_are_no_data_set(tmp_path: Path) -> None:
    options = DatasetOptions(name="terrain", image_size=32, view="whole")
    with pytest.raises(DataError, match="2 photographs: set view to patches, or name a folder"):
        load_dataset(options, None, tmp_path)


def test_patches_larger_than_a_part_are_refused() -> None:
    options = DatasetOptions(name="textures", image_size=300)
    with pytest.raises(DataError, match=r"holds no usable image: .* smaller than a patch"):
        load_dataset(options, None)
