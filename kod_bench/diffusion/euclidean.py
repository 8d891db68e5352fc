"""Denoising diffusion on pixels: the isotropic baseline."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.constants import StepTable, linear_ramp
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    TrainingBatch,
    Variance,
    standard_normal,
)

Schedule = Literal["linear", "cosine"]

#: beta at the first and last of 1000 steps (arXiv 2006.11239, section 4).
_PUBLISHED_RANGE = (1e-4, 0.02)
_PUBLISHED_STEPS = 1000
#: The last of few steps would otherwise leave no signal at all, and divide by it.
_LARGEST_BETA = 0.999


def linear_betas(steps: int) -> Tensor:
    """(T,) float64 variances beta_t: the published line, scaled by 1000 / T, at most 0.999.

    The scaling keeps sum beta_t, hence the signal left at the end, the same for every T that the
    cap does not touch (T above 20).
    """
    first, last = (beta * _PUBLISHED_STEPS / steps for beta in _PUBLISHED_RANGE)
    return linear_ramp(first, last, steps).clamp_max(_LARGEST_BETA)


def cosine_betas(steps: int) -> Tensor:
    """(T,) float64 variances beta_t of arXiv 2102.09672, eq. 17, at most 0.999.

    abar_t = f(t) / f(0) with f(t) = cos(pi / 2 (t / T + 0.008) / 1.008)^2.
    """
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    kept = torch.cos((time + 0.008) / 1.008 * (math.pi / 2)).square()
    return (1 - kept[1:] / kept[:-1]).clamp_max(_LARGEST_BETA)


class DDPM(DiffusionProcess):
    r"""Denoising diffusion probabilistic model, variance preserving (arXiv 2006.11239).

    State: the image itself, in [-1, 1] at t = 0. With alpha_t = 1 - beta_t and abar_t their
    product up to t:

        x_t = sqrt(alpha_t) x_{t-1} + sqrt(beta_t) eps                  (eq. 2)
        x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                   (eq. 4)

    The network predicts eps of the second line, weight 1 (eq. 14). Its x_0 is clamped to [-1, 1].
    The sampler "ancestral" draws x_u, for any u < t, from the posterior (eqs. 6, 7), with
    alpha = abar_t / abar_u and beta = 1 - alpha those of the whole jump:

        mean = [sqrt(abar_u) beta x_0 + sqrt(alpha) (1 - abar_u) x_t] / (1 - abar_t)
        variance = beta (1 - abar_u) / (1 - abar_t) [+ beta^2 / (alpha (1 - abar_t)) (1 - <eps^2>)]

    where the bracket is what an unknown x_0 adds (`variance`).

    The sampler "ddim" (arXiv 2010.02502, eq. 12, eta = 0) adds no noise:

        x_u = sqrt(abar_u) x_0 + sqrt(1 - abar_u) eps

    with the eps that belongs to the clamped x_0. Both give x_0 at u = 0. The prior is standard
    normal.

    Args:
        shape: (C, H, W).
        steps: T.
        schedule: "linear", `linear_betas`; or "cosine", `cosine_betas`.
        beta_range: beta at the first and last step, each in (0, 1), linear between, instead of
            the linear schedule's own.
        variance: of an ancestral step: "posterior", exact if x_0 is known; "forward", beta itself,
            exact if x_0 is standard normal (arXiv 2006.11239, section 3.2); or "analytic", between
            them, the one that is best on average (arXiv 2201.06503, theorem 1), where <eps^2> is
            the mean square of the prediction over the batch and its pixels.

    Attributes:
        noise_std: sqrt(1 - abar_t), the noise in x_t. These two are `StepTable`s.
        signal: sqrt(abar_t), the image in x_t.

    Raises:
        ValueError: if a parameter is out of range.
    """

    samplers = ("ancestral", "ddim")

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        schedule: Schedule = "linear",
        beta_range: tuple[float, float] | None = None,
        variance: Variance = "posterior",
    ) -> None:
        super().__init__(shape, steps)
        check_choice("schedule", schedule, Schedule)
        check_choice("variance", variance, Variance)
        self.variance: Variance = variance
        if beta_range is None:
            beta = linear_betas(steps) if schedule == "linear" else cosine_betas(steps)
        else:
            if schedule != "linear":
                raise ValueError(
                    f"beta_range is {beta_range} but schedule is {schedule!r}; leave one of them "
                    "out"
                )
            ends = check_pair("beta_range", beta_range)
            for value in ends:
                check_number("beta_range", value, 0, 1, open_low=True, open_high=True)
            beta = linear_ramp(*ends, steps)
        kept = torch.cumprod(1 - beta, dim=0)
        self.signal = StepTable(kept.sqrt())
        self.noise_std = StepTable((1 - kept).sqrt())
        self._step_signal = StepTable((1 - beta).sqrt())
        self._step_std = StepTable(beta.sqrt())
        # abar_0..abar_T; a list of floats, for one step at a time.
        self._kept: list[float] = [1.0, *kept.tolist()]

    def encode(self, images: Tensor) -> Tensor:
        """Images in [-1, 1], (B, C, H, W), are states."""
        self.check_states(images)
        return images.clone()

    def decode(self, state: Tensor) -> Tensor:
        """Clamp to [-1, 1]."""
        self.check_states(state)
        return state.clamp(-1, 1)

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches with t uniform on 1..T, independent between samples."""
        check_count("batch_size", batch_size)
        return self._batches(images, batch_size, generator)

    def _batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        while True:
            start = self.encode(images(batch_size))
            step = torch.randint(
                1, self.steps + 1, (batch_size,), generator=generator, device=generator.device
            )
            noise = standard_normal(start, generator)
            signal, std = self.signal.at(step, start), self.noise_std.at(step, start)
            yield TrainingBatch(signal * start + std * noise, step, noise, torch.ones_like(std))

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw standard normal states, (count, C, H, W)."""
        self.check_prior(prior)
        return torch.randn((count, *self.shape), generator=generator, device=generator.device)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T (eq. 2)."""
        self.check_states(state)
        self.check_step(step)
        return self._step_signal[step] * state + self._step_std[step] * standard_normal(
            state, generator
        )

    def reverse_step(
        self,
        state: Tensor,
        step: int,
        to: int,
        prediction: Tensor,
        generator: torch.Generator,
        sampler: str | None = None,
    ) -> Tensor:
        """Draw x_to given x_t; the prediction is eps. No noise at the end."""
        self.check_states(state)
        self.check_jump(step, to)
        sampler = self.check_sampler(sampler)
        noise_part = self.noise_std[step] * prediction.to(state.dtype)
        image = ((state - noise_part) / self.signal[step]).clamp(-1, 1)
        if to == 0:
            return image
        if sampler == "ddim":
            noise = (state - self.signal[step] * image) / self.noise_std[step]
            return self.signal[to] * image + self.noise_std[to] * noise
        before, now = self._kept[to], self._kept[step]
        kept = now / before
        share = (1 - before) / (1 - now)
        mean = math.sqrt(before) * (1 - kept) / (1 - now) * image + math.sqrt(kept) * share * state
        std = self._reverse_std(prediction, kept, share)
        return mean + std * standard_normal(state, generator)

    def _reverse_std(self, prediction: Tensor, kept: float, share: float) -> float | Tensor:
        """Standard deviation of the noise of an ancestral step, see `variance`.

        Args:
            prediction: eps.
            kept: alpha of the jump.
            share: (1 - abar_u) / (1 - abar_t).
        """
        forward = 1 - kept
        posterior = forward * share
        if self.variance == "posterior":
            return math.sqrt(posterior)
        if self.variance == "forward":
            return math.sqrt(forward)
        # beta^2 / (alpha (1 - abar_t)): alpha share is 1 - beta / (1 - abar_t).
        unknown = forward * (1 - kept * share) / kept
        analytic = posterior + unknown * (1 - prediction.float().square().mean())
        return analytic.clamp(posterior, forward).sqrt()
