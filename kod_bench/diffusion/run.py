"""Running a process: images forward into noise, and noise back into images through a network."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.jumps import Past
from kod_bench.diffusion.process import DiffusionProcess

#: `predict(state, step)` is the network: (B, C, H, W) state and (B,) int64 step -> (B, C, H, W).
Predictor = Callable[[Tensor, Tensor], Tensor]

#: `on_step(step, state)` sees the state that a reverse step has reached, and its t: T-1, ..., 0
#: if none is skipped.
StepObserver = Callable[[int, Tensor], None]


@torch.no_grad()
def run_forward(process: DiffusionProcess, images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise images with the forward process through all T steps.

    Args:
        process: the process to run.
        images: (B, C, H, W) in [-1, 1], on the generator's device.
        generator: source of all randomness.

    Returns:
        x_T, (B, C, H, W).
    """
    every = range(1, process.steps + 1)
    return forward_over(process, process.encode(images), every, generator)


def forward_over(
    process: DiffusionProcess, state: Tensor, steps: range, generator: torch.Generator
) -> Tensor:
    """Draw x_t given x_u through the forward steps u + 1..t."""
    for step in steps:
        state = process.forward_step(state, step, generator)
    return state


@torch.no_grad()
def sample(
    process: DiffusionProcess,
    predict: Predictor,
    count: int,
    generator: torch.Generator,
    *,
    sampler: str | None = None,
    evaluations: int | None = None,
    start: Tensor | None = None,
    on_step: StepObserver | None = None,
) -> Tensor:
    """Draw images by running the reverse process from its prior.

    Args:
        process: the process to reverse.
        predict: the trained network.
        count: how many images, all in one batch.
        generator: source of all randomness; its device is where sampling happens.
        sampler: one of the process's `samplers`; default its first.
        evaluations: how many times the network is asked, 1..T, at the steps of `step_subset`,
            whatever the sampler; default T.
        start: the states x_T to begin at, (count, C, H, W); default drawn from the default prior.
        on_step: called after each reverse step, for pictures of the way.

    Returns:
        (count, C, H, W) float32 images in [-1, 1].

    Raises:
        ValueError: if `count` is not positive or not that of `start`, there is no such sampler,
            or `evaluations` is out of range.
    """
    check_count("count", count)
    sampler = process.check_sampler(sampler)
    asked = process.step_subset(process.steps if evaluations is None else evaluations, sampler)
    way = (*dict.fromkeys(asked), 0)
    if start is None:
        start = process.prior(count, generator)
    process.check_states(start)
    if len(start) != count:
        raise ValueError(f"count is {count} but start holds {len(start)} states")
    state = start

    def ask(state: Tensor, step: int) -> Tensor:
        return predict(state, torch.full((count,), step, dtype=torch.int64, device=state.device))

    past: Past | None = None
    for made, (step, to) in enumerate(pairwise(way), 1):
        prediction = ask(state, step)
        reached = process.reverse_step(state, step, to, prediction, generator, sampler, past)
        if sampler in process.restarting:
            for _ in range(asked.count(step) - 1):
                undone = forward_over(process, reached, range(to + 1, step + 1), generator)
                said = ask(undone, step)
                reached = process.reverse_step(undone, step, to, said, generator, sampler)
        elif asked.count(to) == 2:
            reached = process.correct_step(
                state, step, to, prediction, reached, ask(reached, to), sampler, generator
            )
        if sampler in process.multistep:
            past = Past(step, state, prediction, made)
        state = reached
        if on_step is not None:
            on_step(to, state)
    return process.decode(state)
