"""The shipped conformance suite finds what plug-ins may do wrong."""

import inspect
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kod_bench.data import DatasetOptions, SourceImage
from kod_bench.diffusion import DDPM, ImageSource, TrainingBatch
from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.evaluation import ExtractorError
from kod_bench.testing import DatasetConformance, ExtractorConformance, ProcessConformance


class Clamped(DDPM):
    """Its images leave [-1, 1]."""

    def decode(self, state: Tensor) -> Tensor:
        return state


class Loud(DDPM):
    """Its targets have twice the size."""

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        for batch in super().training_batches(images, batch_size, generator):
            yield TrainingBatch(batch.state, batch.step, 2 * batch.target, batch.weight)


class Global(DDPM):
    """Its prior is drawn from nobody's generator."""

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        self.check_prior(prior)
        return torch.randn((count, *self.shape))


class Neighbourly(DDPM):
    """Each image is moved by the mean of all."""

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        return super().forward_step(state, step, generator) + state.mean()


class Elsewhere(DDPM):
    """Its chains do not end where its samples begin."""

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        return super().prior(count, generator, prior) + 1


class Forgetful(DDPM):
    """Its batches follow each other, and it does not put away how far they are."""

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        drawn = iter(super().training_batches(images, batch_size, generator))
        turns = itertools.count()

        def draw() -> TrainingBatch:
            batch = next(drawn)
            return TrainingBatch(batch.state, batch.step, batch.target + next(turns), batch.weight)

        return IndependentBatches(draw)


def suite(process_class: type[DDPM]) -> ProcessConformance:
    """The suite for a process, as an author would have it."""
    return type("Suite", (ProcessConformance,), {"process_class": process_class})()


@pytest.mark.parametrize(
    ("process_class", "check"),
    [
        (Clamped, "test_decode_stays_in_range"),
        (Global, "test_global_randomness_is_not_touched"),
        (Forgetful, "test_batches_can_be_put_away_and_taken_up"),
        (Neighbourly, "test_samples_in_a_batch_are_independent"),
    ],
)
def test_a_process_that_is_wrong_is_found_out(process_class: type[DDPM], check: str) -> None:
    for tested, right in ((DDPM, True), (process_class, False)):
        tests = suite(tested)
        call = getattr(tests, check)
        process = tests.make("default", (1, 8, 8), 25)
        known = {"process": process, "steps": process.steps, "device": "cpu"}
        wanted = {name: known[name] for name in inspect.signature(call).parameters}
        if right:
            call(**wanted)
        else:
            with pytest.raises(AssertionError):
                call(**wanted)


@pytest.mark.parametrize(
    ("process_class", "check"),
    [
        (Loud, "test_guessing_zero_costs_about_one"),
        (Elsewhere, "test_forward_chains_end_in_the_prior"),
    ],
)
def test_a_law_that_is_wrong_is_found_out(process_class: type[DDPM], check: str) -> None:
    getattr(suite(DDPM), check)("default")
    with pytest.raises(AssertionError):
        getattr(suite(process_class), check)("default")


class Drawn:
    """A source whose images depend on what was read before."""

    name, title, units = "drawn", "drawn", 2
    notes, parallel, split_rule = (), False, ""

    def identity(self) -> dict[str, object]:
        return {}

    def unpack(self, folder: object) -> None:
        pass

    def read(self, unit: int) -> list[SourceImage]:
        pixels = np.full((8, 8), random.randrange(256), np.uint8)
        return [SourceImage(str(unit), pixels)]


def test_a_data_set_that_is_wrong_is_found_out(tmp_path: Any, monkeypatch: Any) -> None:
    tests = DatasetConformance()
    options = DatasetOptions(name="sphere", image_size=8)
    monkeypatch.setattr(tests, "_source", lambda *_: Drawn())
    with pytest.raises(AssertionError):
        tests.test_units_are_independent(Drawn(), options, None, tmp_path)
    monkeypatch.setattr(tests, "name", "other", raising=False)
    with pytest.raises(AssertionError):
        tests.test_rows_can_tell_it_from_others(Drawn())


def centred(device: object) -> Any:
    """An extractor that subtracts what all images have in common."""
    return lambda images: images.float().flatten(1) - images.float().flatten(1).mean(0)


def fixed(device: object) -> Any:
    """An extractor that sees nothing."""
    return lambda images: torch.ones(len(images), 3)


def scalar(device: object) -> Any:
    """An extractor with one number for each image."""
    return lambda images: images.float().mean((1, 2, 3))


def pixels(device: object) -> Any:
    """An extractor with nothing wrong."""
    return lambda images: images.float().flatten(1)


def test_an_extractor_that_is_wrong_is_found_out() -> None:
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)

    def suite_of(factory: Any) -> ExtractorConformance:
        values: dict[str, Any] = {"extractor_class": staticmethod(factory)}
        return type("Suite", (ExtractorConformance,), values)()

    suite_of(pixels).test_each_image_has_a_vector_of_its_own(images)
    suite_of(pixels).test_different_images_have_different_vectors(images)
    with pytest.raises(AssertionError):
        suite_of(centred).test_each_image_has_a_vector_of_its_own(images)
    with pytest.raises(AssertionError):
        suite_of(fixed).test_different_images_have_different_vectors(images)
    with pytest.raises(ExtractorError, match=r"must be \(4, D\)"):
        suite_of(scalar).test_two_of_it_agree(images)
