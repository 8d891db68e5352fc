"""The one abstraction: what a diffusion process must offer.

The training loop, the sampler (`run`), the sweep and the report hold a `DiffusionProcess` and never
ask which one it is. The network is handed the state as it is: a process whose noisy images would be
too large for it keeps them divided by what makes their variance 1, and scaling its input is then
part of its state space. What the network predicts is the process's own affair, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_batch_shape, check_count, check_name
from kod_bench.diffusion.grid import Grid
from kod_bench.diffusion.jumps import Jump, Past
from kod_bench.diffusion.step_grids import (
    corrected_steps,
    even_steps,
    restarted_steps,
    steps_to_one,
)

#: `images(n)` draws n training images: (n, C, H, W) float32 in [-1, 1], on the training device.
ImageSource = Callable[[int], Tensor]

#: What a process is with its parameters: its forward process has structure; or is such a one with
#: the structure taken away, the control that tells what the structure does from what comes along
#: with it; or adds independent Gaussian noise to pixels.
Kind = Literal["structured", "control", "euclidean"]


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
    """t, (B,) int64 in 1..T: the step this state has reached. Where a process trains in continuous
    time, float32 in [1, T]."""
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
        steps: T, the number of forward steps and, at most, of network evaluations when sampling.
        shape: (C, H, W) of one image.
        state_shape: (C, H, W) of one state; that of an image unless a process says otherwise.
        grid: where networks act, if not on the state itself.
        periodic: whether the state is a phase, identified modulo 2 pi. Networks on such states
            must be 2 pi periodic in them.
        structured: whether the forward process does more than add independent Gaussian noise to
            pixels, with some of its parameters at least.
        kind: what it is with those that it was made with.
        samplers: names of the ways to go back, the first the default.
        second_order: those of them that ask the network a second time, where a step has led; see
            `step_subset` and `correct_step`.
        correctors: those of `second_order` whose second question is for a step of its own, which
            stays where the first has led and draws noise: see `step_in_place`.
        multistep: those that also use what was known at the step before: `Jump.past`.
        restarting: those that undo some of their steps by forward ones and make them again.
        priors: names of the laws of x_T that sampling can start from, the first the default.
        angle_readings: values of the constructor's `reading` with which it takes angles divided by
            pi for images, the first the default on such data; none if it takes no angles.

    Raises:
        ValueError: from the constructor, if a size or the number of steps is not positive.
    """

    steps: int
    shape: tuple[int, int, int]
    state_shape: tuple[int, int, int]
    grid: Grid | None = None
    periodic: bool = False
    structured: bool = False
    kind: Kind
    samplers: tuple[str, ...]
    second_order: tuple[str, ...] = ()
    correctors: tuple[str, ...] = ()
    multistep: tuple[str, ...] = ()
    restarting: tuple[str, ...] = ()
    priors: tuple[str, ...] = ("standard-normal",)
    angle_readings: tuple[str, ...] = ()

    def __new__(cls, *_: Any, **parameters: Any) -> Self:
        """Note the kind from the constructor's parameters, whatever process's they are."""
        process = super().__new__(cls)
        process.kind = cls.kind_of(parameters)
        return process

    def __init__(self, shape: tuple[int, int, int], steps: int) -> None:
        self.check_shape(shape)
        self.shape = (shape[0], shape[1], shape[2])
        self.state_shape = self.shape
        self.steps = check_count("steps", steps)

    @classmethod
    def kind_of(cls, parameters: Mapping[str, Any]) -> Kind:
        """What a process is with parameters of its constructor; those left out have their defaults.

        Of parameters alone, so that results can be classified without making the process. A process
        whose structure can be turned off says here by which of them.
        """
        return "structured" if cls.structured else "euclidean"

    @classmethod
    def identity_of(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """All of the constructor's parameters as a trial's identity has them.

        Those that there were not always are left out at the value that was meant before them.
        """
        return dict(parameters)

    @classmethod
    def state_channels(cls, channels: int, parameters: Mapping[str, Any]) -> int:
        """C of the states of images of so many channels, by what a constructor is given."""
        return channels

    @classmethod
    def check_shape(cls, shape: tuple[int, int, int]) -> None:
        """Refuse images of a shape that the process cannot take.

        Raises:
            ValueError: naming the shape and what is allowed.
        """
        if len(shape) != 3 or any(size < 1 for size in shape):
            raise ValueError(f"shape must be three positive sizes (C, H, W), got {shape}")

    def check_images(self, images: Tensor) -> None:
        """Refuse a batch of images of another shape than (B, *shape).

        Raises:
            ValueError: naming both shapes.
        """
        check_batch_shape(images, self.shape)

    def check_states(self, states: Tensor) -> None:
        """Refuse a batch of states of another shape than (B, *state_shape).

        Raises:
            ValueError: naming both shapes.
        """
        check_batch_shape(states, self.state_shape)

    def check_step(self, step: int) -> None:
        """Refuse a step outside 1..T.

        Raises:
            ValueError: naming the step and T.
        """
        if not 1 <= step <= self.steps:
            raise ValueError(f"step must lie in 1..{self.steps}, got {step}")

    def check_jump(self, step: int, to: int) -> None:
        """Refuse a way back that does not lead from 1..T to an earlier step, at least 0.

        Raises:
            ValueError: naming both steps and what is allowed.
        """
        self.check_step(step)
        if not 0 <= to < step:
            raise ValueError(f"a reverse step from {step} must lead to 0..{step - 1}, got {to}")

    def check_sampler(self, sampler: str | None) -> str:
        """Return the sampler's name, the default one for None.

        Raises:
            ValueError: naming the samplers there are.
        """
        return check_name("sampler", sampler, self.samplers)

    def check_prior(self, prior: str | None) -> str:
        """Return the prior's name, the default one for None.

        Raises:
            ValueError: naming the priors there are.
        """
        return check_name("prior", prior, self.priors)

    def step_subset(self, evaluations: int, sampler: str | None = None) -> tuple[int, ...]:
        """The steps t at which a network is asked, if it is asked so many times.

        One entry for each evaluation, from T down, where the prior is. A sampler of second order
        asks twice at a step that it has reached, see `step_grids.corrected_steps`; one of
        `restarting` where it makes a step again, see `step_grids.restarted_steps`.

        Args:
            evaluations: how many, 1..T.
            sampler: one of `samplers`; default the first.

        Raises:
            ValueError: if there are fewer than 1 or more than T, or there is no such sampler.
        """
        check_count("evaluations", evaluations)
        if evaluations > self.steps:
            raise ValueError(f"evaluations must be at most T = {self.steps}, got {evaluations}")
        sampler = self.check_sampler(sampler)
        grid = partial(self.step_grid, sampler=sampler)
        if sampler in self.second_order:
            return corrected_steps(grid, evaluations)
        if sampler in self.restarting:
            return restarted_steps(grid, evaluations, self.is_made_again)
        return grid(evaluations)

    def is_made_again(self, to: int) -> bool:
        """Whether samplers of `restarting` make a step again that has led to u = `to`."""
        return False

    def step_grid(self, count: int, sampler: str) -> tuple[int, ...]:
        """The steps at which so many jumps begin, 1..T of them, from T down.

        For samplers of first order as DDIM has it, `even_steps`. In most schedules here the
        standard deviation of the noise grows about like t, so the last of n jumps removes a noise
        of 1 / n of the largest; evenly in its variance it would be 1 / sqrt(n). For those of
        second order `steps_to_one`: the last jump, never corrected, begins where there is least.
        """
        even = steps_to_one if sampler in self.second_order else even_steps
        return even(self.steps, count)

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1], (B, *shape), to states, (B, *state_shape)."""

    @abstractmethod
    def decode(self, state: Tensor) -> Tensor:
        """Invert `encode`, clamped to [-1, 1]."""

    def fit(self, images: ImageSource, generator: torch.Generator) -> None:  # noqa: B027
        """Measure on training images what the process needs to know of them.

        A trial calls this once before it trains and once before it samples. Equal generators and
        equal sources must give equal processes, on every worker: a network trained under one
        calibration means nothing under another. (A generator draws other numbers on a GPU than on
        a CPU: on the two, processes are equal to Monte Carlo's error.) Most need nothing.
        """

    def diagnostics(self, prior: str | None = None) -> dict[str, float]:
        """What a reader of the results should know of the process, by column name.

        What `fit` has measured, or what the process's parameters make of its noise.

        Args:
            prior: the prior that was sampled from; default the first.
        """
        return {}

    def shard(self, workers: int) -> "DiffusionProcess":
        """The process as one of so many workers trains it, all of them together as one would.

        A process that keeps state while training divides it; most need nothing. Which share a
        worker holds is decided by the generator it passes to `training_batches`, its own.
        """
        return self

    @abstractmethod
    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield training batches for ever, on the generator's device.

        An iterator, because a process without a closed form for x_t keeps a pool of forward
        chains and advances it by one step per batch. Equal generators and equal sources give
        equal batches. If it is a `batches.ResumableBatches`, a training goes on to the bit.
        """

    @abstractmethod
    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw `count` states x_T, (count, *state_shape), on the generator's device.

        Args:
            count: how many.
            generator: source of all randomness.
            prior: one of `priors`; default the first.

        Raises:
            ValueError: if there is no such prior.
        """

    @abstractmethod
    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T."""

    def reverse_step(
        self,
        state: Tensor,
        step: int,
        to: int,
        prediction: Tensor,
        generator: torch.Generator,
        sampler: str | None = None,
        past: Past | None = None,
    ) -> Tensor:
        """Draw x_to given x_t and the network's prediction at (x_t, t).

        Args:
            state: x_t, (B, C, H, W).
            step: t in 1..T.
            to: where to go, in 0..t-1.
            prediction: shaped like the state, in any floating dtype.
            generator: source of noise.
            sampler: one of `samplers`; default the first.
            past: the step that has led here, for a sampler of `multistep`; others leave it alone.

        Raises:
            ValueError: if the state does not fit, or there is no such step or sampler.
        """
        self.check_states(state)
        self.check_jump(step, to)
        sampler = self.check_sampler(sampler)
        known = past.in_dtype(state.dtype) if past and sampler in self.multistep else None
        jump = Jump(step, to, sampler, known)
        return self.step_back(state, jump, prediction.to(state.dtype), generator)

    @abstractmethod
    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What `reverse_step` draws: it has checked its arguments; all are of the state's dtype."""

    def correct_step(
        self,
        state: Tensor,
        step: int,
        to: int,
        prediction: Tensor,
        reached: Tensor,
        prediction_there: Tensor,
        sampler: str | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Make the step of `reverse_step` again, knowing what the network says at its far end.

        Only samplers of `second_order` do, and only where `to` is at least 1.

        Args:
            state: x_t, (B, C, H, W).
            step: t in 1..T.
            to: in 1..t-1.
            prediction: at (x_t, t).
            reached: what `reverse_step` has given.
            prediction_there: at (`reached`, to).
            sampler: one of `second_order`.
            generator: source of noise; those of `correctors` need one.

        Raises:
            ValueError: if the state does not fit, there are no such steps, the sampler asks once
                per step, or it needs a generator.
        """
        sampler = self.check_sampler(sampler)
        if sampler not in self.second_order:
            raise ValueError(f"sampler {sampler!r} corrects no step")
        self.check_states(state)
        self.check_jump(step, to)
        self.check_step(to)
        here, there = (each.to(state.dtype) for each in (prediction, prediction_there))
        if sampler not in self.correctors:
            return self.step_corrected(state, Jump(step, to, sampler), here, reached, there)
        if generator is None:
            raise ValueError(f"sampler {sampler!r} draws noise in its corrections: no generator")
        return self.step_in_place(reached, to, there, generator)

    def step_corrected(
        self,
        state: Tensor,
        jump: Jump,
        prediction: Tensor,
        reached: Tensor,
        prediction_there: Tensor,
    ) -> Tensor:
        """What `correct_step` gives, likewise; for processes with samplers of `second_order`."""
        raise NotImplementedError(f"{type(self).__name__} corrects no step of {jump.sampler!r}")

    def step_in_place(
        self, state: Tensor, step: int, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw another x_t nearer to its law; for processes with samplers of `correctors`."""
        raise NotImplementedError(f"{type(self).__name__} has no step that stays where it is")
