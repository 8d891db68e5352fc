"""Variance exploding on the flat torus: phases that noise scatters, each for itself."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.diffusion.checks import check_choice, check_count, check_number
from kod_bench.diffusion.circle import (
    MAX_WRAPPED_STD,
    TWO_PI,
    wrap,
    wrapped_normal_log_density,
    wrapped_normal_score,
)
from kod_bench.diffusion.constants import StepTable
from kod_bench.diffusion.edm import rho_sigmas
from kod_bench.diffusion.jumps import Jump, Variance, is_restarted
from kod_bench.diffusion.phases import IndependentPhases, reverse_noise_std
from kod_bench.diffusion.process import (
    ImageSource,
    TrainingBatch,
    standard_normal,
)
from kod_bench.diffusion.readings import PhaseReading

LevelWeight = Literal["noise", "unit", "likelihood"]

#: Noise narrower than this does not wrap: e^-50 of it.
_NEVER_WRAPS = 0.3
_NODES = 4096
#: The score vanishes where noise has covered the circle; there is nothing to magnify.
_LEAST_RMS = 1e-3


class WrappedDiffusion(IndependentPhases):
    r"""Diffusion on the flat torus with a kernel in closed form: no coupling, no reference.

    theta_t = wrap(theta_0 + sigma_t eps), from level t = 1 to T, with

        sigma_t = (sigma_min^(1/rho) + (t-1) / (T-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho

    (arXiv 2206.00364, eq. 5). The score of a phase given where it began is that of a wrapped
    normal law, as for the torsions of arXiv 2206.01729; the network predicts

        -score / rms_t

    with rms_t the score's own root mean square, exactly. It is what `KuramotoDiffusion` is without
    coupling and reference, but for the target's noise and for the schedule: the control that tells
    what coupling does from what the circle does. The prior is uniform on the torus, exact up to
    e^{-sigma_max^2 / 2} in the first moment.

    The sampler "ancestral" steps back with the score, and noise of the given `variance`, as
    `KuramotoDiffusion` does, and so does "restart"; "probability-flow" is Euler's method for
    d theta = -sigma score d sigma; "heun" is of second order, see `DiffusionProcess.step_subset`.

    Args:
        shape: (C, H, W).
        steps: T.
        reading: what images hold: "intensity", or "angle" divided by pi.
        phase_margin: of intensities, share of the half circle that white and black are apart from
            gray, None for 0.9; angles have none.
        sigma_min: of the first level, in radians.
        sigma_max: of the last one, at most 4.
        rho: how much more densely small sigma are covered; 1 is evenly.
        level_weight: of the squared error of the prediction at t: "unit", 1; "noise",
            (sigma_t rms_t)^2, which is that of the score in units of 1 / sigma_t and leaves little
            to levels that are nearly flat; or "likelihood", (sigma_t^2 - sigma_{t-1}^2) rms_t^2
            (arXiv 2101.09258). Scaled to mean 1 over t.
        variance: of an ancestral step: "posterior", "forward" or "analytic".

    Attributes:
        sigma: sigma_t, a `StepTable`.
        scale: the network's prediction over -score, 1 / rms_t.

    Raises:
        ValueError: if a parameter is out of range.
    """

    samplers = ("ancestral", "probability-flow", "heun", "restart")
    second_order = ("heun",)
    restarting = ("restart",)

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        reading: PhaseReading = "intensity",
        phase_margin: float | None = None,
        sigma_min: float = 0.02,
        sigma_max: float = 3.0,
        rho: float = 1.0,
        level_weight: LevelWeight = "noise",
        variance: Variance = "posterior",
    ) -> None:
        super().__init__(shape, steps, reading, phase_margin)
        check_number("sigma_min", sigma_min, 0, MAX_WRAPPED_STD, open_low=True)
        check_number("sigma_max", sigma_max, sigma_min, MAX_WRAPPED_STD, open_low=True)
        check_number("rho", rho, 0, open_low=True)
        check_choice("level_weight", level_weight, LevelWeight)
        check_choice("variance", variance, Variance)
        self.variance: Variance = variance
        sigma = rho_sigmas(sigma_min, sigma_max, rho, steps)
        self.sigma = StepTable(sigma)
        # At t = 0, 1, ..., T.
        self._sigma: list[float] = [0.0, *sigma.tolist()]
        rms = score_rms(sigma).clamp_min(_LEAST_RMS)
        self.scale = StepTable(1 / rms)
        weights = {
            "unit": torch.ones_like(sigma),
            "noise": (sigma * rms).square(),
            "likelihood": sigma.square().diff(prepend=sigma.new_zeros(1)) * rms.square(),
        }[level_weight]
        self._weights = StepTable(weights / weights.mean())

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches with t uniform on 1..T, independent between samples."""
        check_count("batch_size", batch_size)

        def draw() -> TrainingBatch:
            start = self.encode(images(batch_size))
            step = torch.randint(
                1, self.steps + 1, (batch_size,), generator=generator, device=generator.device
            )
            std = self.sigma.at(step, start)
            moved = std * standard_normal(start, generator)
            target = -self.scale.at(step, start) * wrapped_normal_score(moved, std)
            weight = self._weights.at(step, start)
            return TrainingBatch(wrap(start + moved), step, target, weight)

        return IndependentBatches(draw)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw theta_t given theta_{t-1}, for step t in 1..T."""
        self.check_states(state)
        self.check_step(step)
        added = math.sqrt(self._sigma[step] ** 2 - self._sigma[step - 1] ** 2)
        return wrap(state + added * standard_normal(state, generator))

    def flow_change(self, state: Tensor, at: int, jump: Jump, prediction: Tensor) -> Tensor:
        """(sigma_t - sigma_u) sigma (-score)."""
        removed = self._sigma[jump.step] - self._sigma[jump.to]
        return (removed * self._sigma[at] / self.scale[at]) * prediction

    def is_made_again(self, to: int) -> bool:
        """By sigma_u, see `jumps.is_restarted`."""
        return is_restarted(self._sigma[to])

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw theta_u given theta_t. No noise at the end."""
        if jump.sampler not in ("ancestral", "restart"):
            return self.step_along_flow(state, jump, prediction)
        minus_score = prediction / self.scale[jump.step]
        now, before = self._sigma[jump.step] ** 2, self._sigma[jump.to] ** 2
        mean = state - (now - before) * minus_score
        if jump.to == 0:
            return wrap(mean)
        variance = self.variance if jump.sampler == "ancestral" else "analytic"
        std = reverse_noise_std(variance, minus_score, now, before)
        return wrap(mean + std * standard_normal(state, generator))


def score_rms(sigma: Tensor) -> Tensor:
    """Root mean square of the score of wrapped normal laws, by quadrature.

    Args:
        sigma: (T,) float64 standard deviations before wrapping, at most `MAX_WRAPPED_STD`.

    Returns:
        (T,) float64; 1 / sigma where the law is too narrow to wrap.
    """
    angle = torch.arange(_NODES, dtype=torch.float64) * (TWO_PI / _NODES) - math.pi
    wide = sigma.clamp_min(_NEVER_WRAPS).unsqueeze(1)
    density = wrapped_normal_log_density(angle, wide).exp()
    squared = (density * wrapped_normal_score(angle, wide).square()).sum(1) * (TWO_PI / _NODES)
    return torch.where(sigma < _NEVER_WRAPS, 1 / sigma, squared.sqrt())
