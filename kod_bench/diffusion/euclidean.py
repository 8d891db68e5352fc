"""Denoising diffusion on pixels: the isotropic baseline."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count, check_number, check_pair
from kod_bench.diffusion.constants import StepTable, linear_ramp
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    TrainingBatch,
    standard_normal,
)

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


class DDPM(DiffusionProcess):
    r"""Denoising diffusion probabilistic model, variance preserving (arXiv 2006.11239).

    State: the image itself, in [-1, 1] at t = 0. With alpha_t = 1 - beta_t and abar_t their
    product up to t:

        x_t = sqrt(alpha_t) x_{t-1} + sqrt(beta_t) eps                  (eq. 2)
        x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                   (eq. 4)

    The network predicts eps of the second line, weight 1 (eq. 14). Its x_0 is clamped to [-1, 1]
    and x_{t-1} drawn from the posterior (eqs. 6, 7):

        mean = [sqrt(abar_{t-1}) beta_t x_0 + sqrt(alpha_t) (1 - abar_{t-1}) x_t] / (1 - abar_t)
        variance = beta_t (1 - abar_{t-1}) / (1 - abar_t)

    which is zero at t = 1. The prior is standard normal.

    Args:
        shape: (C, H, W).
        steps: T.
        beta_range: beta at the first and last step, each in (0, 1), linear between; default
            `linear_betas`.

    Attributes:
        noise_std: sqrt(1 - abar_t), the noise in x_t. These two are `StepTable`s.
        signal: sqrt(abar_t), the image in x_t.

    Raises:
        ValueError: if a parameter is out of range.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        beta_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(shape, steps)
        if beta_range is None:
            beta = linear_betas(steps)
        else:
            ends = check_pair("beta_range", beta_range)
            for value in ends:
                check_number("beta_range", value, 0, 1, open_low=True, open_high=True)
            beta = linear_ramp(*ends, steps)
        kept = torch.cumprod(1 - beta, dim=0)
        kept_before = torch.cat([kept.new_ones(1), kept[:-1]])
        self.signal = StepTable(kept.sqrt())
        self.noise_std = StepTable((1 - kept).sqrt())
        self._step_signal = StepTable((1 - beta).sqrt())
        self._step_std = StepTable(beta.sqrt())
        self._posterior_image = StepTable(kept_before.sqrt() * beta / (1 - kept))
        self._posterior_state = StepTable((1 - beta).sqrt() * (1 - kept_before) / (1 - kept))
        self._posterior_std = StepTable((beta * (1 - kept_before) / (1 - kept)).sqrt())

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

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal states, (count, C, H, W)."""
        return torch.randn((count, *self.shape), generator=generator, device=generator.device)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T (eq. 2)."""
        self.check_states(state)
        self.check_step(step)
        return self._step_signal[step] * state + self._step_std[step] * standard_normal(
            state, generator
        )

    def reverse_step(
        self, state: Tensor, step: int, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw x_{t-1} given x_t; the prediction is eps. No noise at t = 1."""
        self.check_states(state)
        self.check_step(step)
        noise_part = self.noise_std[step] * prediction.to(state.dtype)
        image = ((state - noise_part) / self.signal[step]).clamp(-1, 1)
        mean = self._posterior_image[step] * image + self._posterior_state[step] * state
        if step == 1:
            return mean
        return mean + self._posterior_std[step] * standard_normal(state, generator)
