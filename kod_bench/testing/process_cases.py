"""Which process is tested, in which cases, at which sizes; and what its tests have in common."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import DiffusionProcess, ImageSource, TrainingBatch

Shape = tuple[int, int, int]
#: (C, H, W) of images, and T.
Size = tuple[Shape, int]

#: Every T at one shape, every shape at many and at one T.
SIZES: tuple[Size, ...] = (
    *(((1, 8, 8), steps) for steps in (1, 2, 25)),
    *(((3, 6, 9), steps) for steps in (1, 25)),
    ((1, 1, 1), 25),
)
DEVICES = ("cpu", *(["cuda"] if torch.cuda.is_available() else []))


class ProcessCases:
    """What a subclass says of its process.

    Attributes:
        process_class: to be tested.
        cases: the constructor's parameters besides shape and steps, by a name for each case.
        sizes: shapes of images and numbers of steps that it is tested at.
        shapes: of images that a process can take, for those that cannot take every shape: maps
            each shape of the tests to one.
        far: images, even between these two, whose states are nothing like the priors.
        stochastic: samplers that draw noise; others must not.
        name: of the entry point that announces the process, if a package does.
    """

    process_class: ClassVar[type[DiffusionProcess]]
    cases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    sizes: ClassVar[Sequence[Size]] = SIZES
    far: ClassVar[tuple[float, float]] = (-1, 1)
    stochastic: ClassVar[Sequence[str]] = ("ancestral", "restart")
    name: ClassVar[str | None] = None

    @classmethod
    def fitting(cls, shape: Shape) -> Shape:
        """The shape itself, or one like it that the process can take."""
        return shape

    @classmethod
    def images(cls, shape: Shape, generator: torch.Generator) -> ImageSource:
        """Training images, on the generator's device: smooth columns with noise."""

        def draw(number: int) -> Tensor:
            device = generator.device
            noise = torch.rand(number, *shape, generator=generator, device=device)
            wave = torch.linspace(0, 9, shape[2], device=device).sin()
            return (0.7 * wave + 0.6 * noise - 0.3).clamp(-1, 1)

        return draw

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run each test in the cases, at the sizes and on the devices that it asks for."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(cls.cases))
        if "size" in metafunc.fixturenames:
            metafunc.parametrize("size", list(cls.sizes), ids=_size_id)
        if "device" in metafunc.fixturenames:
            metafunc.parametrize("device", DEVICES)

    @pytest.fixture
    def shape(self, size: Size) -> Shape:
        """(C, H, W) of the images."""
        return self.fitting(size[0])

    @pytest.fixture
    def steps(self, size: Size) -> int:
        """T."""
        return size[1]

    @pytest.fixture
    def process(self, case: str, size: Size) -> DiffusionProcess:
        """A process of this case and size, fitted; the test's own."""
        return self.make(case, *size)

    @classmethod
    def make(cls, case: str, shape: Shape, steps: int) -> DiffusionProcess:
        """A fitted process, whose fit is made once for all tests."""
        key = (cls, case, shape, steps)
        if key not in _FITTED:
            fitting = cls.fitting(shape)
            _FITTED[key] = cls.fitted_to(cls.images(fitting, seeded(98)), case, fitting, steps)
        return deepcopy(_FITTED[key])

    @classmethod
    def fitted_to(
        cls, images: ImageSource, case: str, shape: Shape, steps: int
    ) -> DiffusionProcess:
        """A process fitted to images of its shape."""
        process = cls.process_class(shape=shape, steps=steps, **cls.cases[case])
        process.fit(images, seeded(97))
        return process

    def take(
        self,
        process: DiffusionProcess,
        number: int,
        seed: int = 0,
        batch_size: int = 4,
        device: str = "cpu",
    ) -> list[TrainingBatch]:
        """The first batches of its training."""
        source = self.images(process.shape, seeded(99, device))
        batches = process.training_batches(source, batch_size, seeded(seed, device))
        return list(islice(batches, number))


_FITTED: dict[tuple[type[ProcessCases], str, Shape, int], DiffusionProcess] = {}


def _size_id(size: Size) -> str:
    return "x".join(map(str, size[0])) + f"-T{size[1]}"


def seeded(seed: int = 0, device: str = "cpu") -> torch.Generator:
    """A generator."""
    return torch.Generator(device).manual_seed(seed)


def check_states(
    process: DiffusionProcess, states: Tensor, number: int, device: str = "cpu"
) -> None:
    """That these can be states of the process."""
    assert states.shape == (number, *process.state_shape)
    assert states.dtype == torch.float32
    assert states.device.type == device
    assert torch.isfinite(states).all()
    if process.periodic:
        assert (states >= -torch.pi).all()
        assert (states < torch.pi).all()


def tensors(batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The parts of a batch."""
    return (batch.state, batch.step, batch.target, batch.weight)


def tensors_within(value: object) -> list[Tensor]:
    """Those in dictionaries and lists, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for each in value for t in tensors_within(each)] if isinstance(value, list) else []


def all_equal(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether tensors are equal, pair by pair."""
    return all(torch.equal(a, b) for a, b in zip(ones, others, strict=True))


def guess(state: Tensor, step: Tensor) -> Tensor:
    """Stands in for a network; any function of state and step."""
    return 0.5 * state.sin() * (1 + step.view(-1, 1, 1, 1).float()).rsqrt()
