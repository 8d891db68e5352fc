"""The one abstraction: what a diffusion process must offer, and how any of them is sampled.

The training loop, the sampler, the sweep and the report hold a `DiffusionProcess` and never ask
which one it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count

#: `images(n)` draws n training images: (n, C, H, W) float32 in [-1, 1], on the training device.
ImageSource = Callable[[int], Tensor]

#: `predict(state, step)` is the network: (B, C, H, W) state and (B,) int64 step -> (B, C, H, W).
Predictor = Callable[[Tensor, Tensor], Tensor]

#: `on_step(step, state)` sees the state after each reverse step; step counts T-1, ..., 0.
StepObserver = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class TrainingBatch:
    """One batch of the denoising regression problem.

    The loss is ``mean(weight * (prediction - target) ** 2)``; weight 1 and a perfect guess of
    zero give a loss of about 1 in every process, because targets are noise in units of its own
    standard deviation.
    """

    state: Tensor
    """x_t, (B, C, H, W), in the process's own state space."""
    step: Tensor
    """t, (B,) int64 in 1..T: the step this state has reached."""
    target: Tensor
    """What the network must predict, shaped like the state."""
    weight: Tensor
    """Loss weight, broadcastable to the target. Depends on t alone."""


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent N(0, 1) numbers of the shape and dtype of `like`, on the generator's device."""
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)


class DiffusionProcess(ABC):
    """A forward process that destroys images in T steps, and its time reversal.

    Attributes:
        steps: T, the number of forward steps and of network evaluations when sampling.
        shape: (C, H, W) of one state.
        periodic: whether the state is a phase, identified modulo 2 pi. Networks on such states
            must be 2 pi periodic in them.

    Raises:
        ValueError: from the constructor, if a size or the number of steps is not positive.
    """

    steps: int
    shape: tuple[int, int, int]
    periodic: bool = False

    def __init__(self, shape: tuple[int, int, int], steps: int) -> None:
        if len(shape) != 3 or any(size < 1 for size in shape):
            raise ValueError(f"shape must be three positive sizes (C, H, W), got {shape}")
        self.shape = (shape[0], shape[1], shape[2])
        self.steps = check_count("steps", steps)

    def check_states(self, states: Tensor) -> None:
        """Refuse a batch of images or states of another shape than (B, *shape).

        Raises:
            ValueError: naming both shapes.
        """
        if states.ndim != 4 or states.shape[1:] != self.shape:
            raise ValueError(f"expected (B, *{self.shape}), got {tuple(states.shape)}")

    def check_step(self, step: int) -> None:
        """Refuse a step outside 1..T.

        Raises:
            ValueError: naming the step and T.
        """
        if not 1 <= step <= self.steps:
            raise ValueError(f"step must lie in 1..{self.steps}, got {step}")

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1], (B, C, H, W), to states of the same shape."""

    @abstractmethod
    def decode(self, state: Tensor) -> Tensor:
        """Invert `encode`, clamped to [-1, 1]."""

    def fit(self, images: ImageSource, generator: torch.Generator) -> None:  # noqa: B027
        """Measure on training images what the process needs to know of them.

        A trial calls this once before it trains and once before it samples. Equal generators and
        equal sources must give equal processes, on every worker: a network trained under one
        calibration means nothing under another. Most processes need nothing.
        """

    @abstractmethod
    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield training batches for ever, on the generator's device.

        An iterator, because a process without a closed form for x_t keeps a pool of forward
        chains and advances it by one step per batch. Equal generators and equal sources give
        equal batches.
        """

    @abstractmethod
    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw `count` states x_T, (count, C, H, W), on the generator's device."""

    @abstractmethod
    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T."""

    @abstractmethod
    def reverse_step(
        self, state: Tensor, step: int, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw x_{t-1} given x_t and the network's prediction at (x_t, t), for t in 1..T."""


@torch.no_grad()
def sample(
    process: DiffusionProcess,
    predict: Predictor,
    count: int,
    generator: torch.Generator,
    on_step: StepObserver | None = None,
) -> Tensor:
    """Draw images by running the reverse process from its prior.

    Args:
        process: the process to reverse.
        predict: the trained network.
        count: how many images, all in one batch.
        generator: source of all randomness; its device is where sampling happens.
        on_step: called after each reverse step, for pictures of the way.

    Returns:
        (count, C, H, W) float32 images in [-1, 1].

    Raises:
        ValueError: if `count` is not positive.
    """
    check_count("count", count)
    state = process.prior(count, generator)
    for step in range(process.steps, 0, -1):
        steps = torch.full((count,), step, dtype=torch.int64, device=state.device)
        state = process.reverse_step(state, step, predict(state, steps), generator)
        if on_step is not None:
            on_step(step - 1, state)
    return process.decode(state)
