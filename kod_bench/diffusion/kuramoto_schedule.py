"""How noise and coupling grow along a Kuramoto chain: the released schedules, for any T."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_count
from kod_bench.diffusion.constants import linear_ramp

Preset = Literal["released", "released-100", "released-300", "released-1000"]
Ramp = Literal["linear", "quadratic", "cosine", "constant"]

#: The released schedules by T: 2D and K at the last step.
_RELEASED = {100: (0.1, 0.03), 300: (0.07, 0.02), 1000: (0.015, 0.0045)}
#: 2D and K at the first step, the same for every T.
_RELEASED_FIRST = (1e-4, 3e-5)


@dataclass(frozen=True)
class KuramotoSchedule:
    """Noise and coupling at the steps 1..T, for a unit time step.

    Attributes:
        noise_variance: (T,) s_t^2 = 2 D_t, the variance added at step t, in rad^2.
        coupling: (T,) K_t, in rad per step.
    """

    noise_variance: Tensor
    coupling: Tensor


def ramp(first: float, last: float, steps: int, shape: Ramp = "linear") -> Tensor:
    """(T,) float64 values from first to last, with u evenly spaced from 0 to 1 over the steps.

    Args:
        first: at t = 1, unless T = 1 or the shape is "constant".
        last: at t = T.
        steps: T.
        shape: grows like u ("linear"), u^2 ("quadratic"), (1 - cos(pi u)) / 2 ("cosine"), or not at
            all: "constant" is `last` everywhere.
    """
    if shape == "linear":
        return linear_ramp(first, last, steps)
    return first + (last - first) * _growth(steps, shape)


def _growth(steps: int, shape: Ramp) -> Tensor:
    """(T,) from 0 to 1."""
    u = linear_ramp(0.0, 1.0, steps)
    grown: dict[Ramp, Tensor] = {
        "linear": u,
        "quadratic": u.square(),
        "cosine": (1 - (math.pi * u).cos()) / 2,
        "constant": torch.ones_like(u),
    }
    return grown[shape]


def released_schedule(
    steps: int, preset: Preset = "released", shape: Ramp = "linear"
) -> KuramotoSchedule:
    """The schedule of the paper's authors, carried over to any number of steps.

    2D and K grow linearly in t; the authors give end points for T = 100, 300 and 1000, which are
    reproduced. K / (2D) is nearly constant within each, so the process is one stochastic
    differential equation run for the time tau = sum s_t^2. For another T, tau and the final
    K / (2D) are interpolated linearly in log T (constant outside 100..1000) and the first values
    kept: few steps then make large ones instead of stopping early.

    Args:
        steps: T, at least 1.
        preset: "released-100" and so on take tau and the final K / (2D) from the schedule released
            for that many steps, and run it in T: the same equation, finer or coarser.
        shape: how 2D and K grow, see `ramp`; the authors' is "linear". Of another one, tau, the
            first values and the final K / (2D) are the same.

    Raises:
        ValueError: if `steps` is less than 1, or there is no such preset or shape.
    """
    check_count("steps", steps)
    check_choice("schedule", preset, Preset)
    check_choice("ramp", shape, Ramp)
    at = steps if preset == "released" else int(preset.removeprefix("released-"))
    noise_first, coupling_first = _RELEASED_FIRST
    total_time = _interpolate(
        at, {t: t * (noise_first + noise) / 2 for t, (noise, _) in _RELEASED.items()}
    )
    ratio = _interpolate(at, {t: coupling / noise for t, (noise, coupling) in _RELEASED.items()})
    if total_time / steps < noise_first:
        # So many steps (above 75,000) that even the usual first one is too large.
        coupling_first *= total_time / steps / noise_first
        noise_first = total_time / steps
    mean = float(_growth(steps, shape).mean())  # 1 of one step, which is its end
    noise_last = noise_first + (total_time / steps - noise_first) / mean
    return KuramotoSchedule(
        noise_variance=ramp(noise_first, noise_last, steps, shape),
        coupling=ramp(coupling_first, ratio * noise_last, steps, shape),
    )


def _interpolate(steps: int, values: dict[int, float]) -> float:
    """Piecewise linear in log T through `values`, constant outside them."""
    known = sorted(values)
    if steps <= known[0]:
        return values[known[0]]
    for low, high in pairwise(known):
        if steps <= high:
            share = math.log(steps / low) / math.log(high / low)
            return (1 - share) * values[low] + share * values[high]
    return values[known[-1]]
