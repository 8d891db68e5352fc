"""What processes measure of images can be kept, and makes an equal process again."""

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import (
    DDPM,
    EDM,
    PROCESSES,
    DiffusionProcess,
    is_fitted_to_images,
    make_process,
    measurements,
    restore_measurements,
    sample,
)

MEASURING = [name for name, each in PROCESSES.items() if each.fit is not DiffusionProcess.fit]
SHAPE, STEPS = (1, 8, 8), 4


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return 0.7 * (2 * torch.rand(count, *SHAPE, generator=generator) - 1)


def fitted(name: str) -> DiffusionProcess:
    process = make_process(name, shape=SHAPE, steps=STEPS)
    process.fit(images, torch.Generator().manual_seed(0))
    return process


def draw(process: DiffusionProcess, prior: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    start = process.prior(4, generator, prior)
    return sample(process, lambda state, step: 0.3 * state.roll(1, -1), 4, generator, start=start)


def test_there_are_such_processes() -> None:
    assert {"edm", "heat", "kuramoto"} <= set(MEASURING)


@pytest.mark.parametrize("name", MEASURING)
def test_an_equal_process_comes_back_to_the_bit(name: str) -> None:
    process = fitted(name)
    found = measurements(process)
    assert found
    again = make_process(name, shape=SHAPE, steps=STEPS)
    restore_measurements(again, {key: value.clone() for key, value in found.items()})
    for prior in process.priors:
        assert torch.equal(draw(process, prior), draw(again, prior))
    restored = measurements(again)
    assert restored.keys() == found.keys()
    assert all(torch.equal(restored[key], found[key]) for key in found)


@pytest.mark.parametrize("name", MEASURING)
def test_measurements_of_another_process_are_refused(name: str) -> None:
    process = make_process(name, shape=SHAPE, steps=STEPS)
    with pytest.raises(ValueError, match="these measurements are not of this"):
        restore_measurements(process, {"other": torch.zeros(2)})


def test_a_process_that_measures_nothing_has_none() -> None:
    process = make_process("ddpm", shape=SHAPE, steps=STEPS)
    assert not is_fitted_to_images(process)
    assert measurements(process) == {}
    restore_measurements(process, {})
    with pytest.raises(ValueError, match="DDPM measures nothing, got"):
        restore_measurements(process, {"scale": torch.zeros(2)})


class Wider(EDM):
    """Measures something else than its parent."""

    def fit(self, images: object, generator: torch.Generator) -> None:
        self.width = 2.0


class Own(DDPM):
    """Says itself what it measures, as a plug-in's process does."""

    width = 0.0

    def fit(self, images: object, generator: torch.Generator) -> None:
        self.width = 2.0

    def measurements(self) -> dict[str, Tensor]:
        return {"width": torch.tensor([self.width])}

    def restore_measurements(self, found: dict[str, Tensor]) -> None:
        self.width = float(found["width"][0])


def test_a_subclass_that_measures_something_else_is_not_taken_for_its_parent() -> None:
    with pytest.raises(ValueError, match="Wider measures training images and does not say what"):
        measurements(Wider(shape=SHAPE, steps=STEPS))


def test_a_plug_in_says_itself_what_it_measures() -> None:
    process = Own(shape=SHAPE, steps=STEPS)
    process.fit(images, torch.Generator())
    again = Own(shape=SHAPE, steps=STEPS)
    restore_measurements(again, measurements(process))
    assert again.width == 2.0
