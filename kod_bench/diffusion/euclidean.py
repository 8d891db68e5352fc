"""Denoising diffusion on pixels: the isotropic baseline."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.constants import StepTable, linear_ramp
from kod_bench.diffusion.jumps import Jump, Variance, is_restarted, mean_square
from kod_bench.diffusion.pixels import PixelDiffusion
from kod_bench.diffusion.process import (
    ImageSource,
    TrainingBatch,
    standard_normal,
)
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading
from kod_bench.diffusion.step_grids import steps_even_in

Schedule = Literal["linear", "cosine"]

#: beta at the first and last of 1000 steps (arXiv 2006.11239, section 4).
_PUBLISHED_RANGE = (1e-4, 0.02)
_PUBLISHED_STEPS = 1000
#: The last of few steps would otherwise leave no signal at all, and divide by it.
_LARGEST_BETA = 0.999
#: The largest log(s / a) that steps are spent on: there images are less than what they are clamped
#: to, and a schedule that leaves none has no last one.
_NOISIEST = math.log(80)


def linear_betas(steps: int) -> Tensor:
    """(T,) float64 variances beta_t: the published line, scaled by 1000 / T, at most 0.999.

    The scaling keeps sum beta_t = 10.05 for every T that the cap does not touch (T above 20): the
    time for which the continuous process runs, which leaves e^{-10.05 / 2} = 0.0066 of the image.
    The signal left by T steps, sqrt(abar_T), is the root of the product of 1 - beta_t, which is
    less, the more so the larger the steps: 0.0064 of 1000 steps, 0.0045 of 100, 0.0005 of 25.
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


class EuclideanDiffusion(PixelDiffusion):
    r"""Images under Gaussian noise, and the ways back that all such processes share.

    x_t = a_t x_0 + s_t eps, with a_0 > 0 and s_0 = 0. Divided by a_t this is x_0 + sigma_t eps with
    sigma = s / a, so these processes differ only in which sigma_t they have and in what the
    network predicts, by default eps, weight 1. Whatever that is, an x_0 follows from it, which is
    clamped to [-1, 1]: an average of images cannot lie outside. Then eps = (x_t - a_t x_0) / s_t.

    The sampler "ancestral" draws x_u, for any u < t, as if x_0 were known (arXiv 2006.11239,
    eqs. 6 and 7; arXiv 2011.13456, eq. 47). With rho = sigma_u^2 / sigma_t^2:

        x_u / a_u = (1 - rho) x_0 + rho x_t / a_t + sqrt(rho (sigma_t^2 - sigma_u^2)) eps'

    "ddim" (arXiv 2010.02502, eq. 12, eta = 0) adds no noise; it is Euler's method for the
    probability flow, d(x / a) = eps d sigma:

        x_u = a_u x_0 + s_u eps

    "heun" is of second order (arXiv 2206.00364, algorithm 1): where a ddim step has led, the
    network is asked again, and the step is made with the mean of both eps. "dpm-solver++" is of
    second order without asking twice (2M of arXiv 2211.01095, algorithm 2): with
    lambda = log(a / s) and t' the step before t,

        D = x_0 + (lambda_u - lambda_t) / (2 (lambda_t - lambda_t')) (x_0 - x_0')
        x_u = s_u / s_t x_t + (a_u - a_t s_u / s_t) D

    where D is x_0 in the first step. Its steps are even in lambda (arXiv 2206.00927, section 4.1),
    which is taken to be log(1 / 80) where it is less. "restart" makes some ancestral steps up to
    three times, see `DiffusionProcess.step_subset`: forward steps undo them (arXiv 2306.14878,
    there between steps without noise), and what the network got wrong before is forgotten. Steps
    that are repeated must not cool the image, so their noise is not that of a known x_0; the mean
    square of the predicted eps over the sample's pixels says how well it is known (arXiv
    2201.06503, theorem 1), and a part (1 - rho)^2 sigma_t^2 (1 - <eps^2>) is added to the variance
    of x_u / a_u. All give x_0 at u = 0.

    Args:
        shape: (C, H, W).
        signal: (T,) a_t.
        noise_std: (T,) s_t.
        encoding: a_0.
        reading: what x_0 is of an image: the image itself, an "intensity" or an "angle"; or, on the
            "circle", the point (cos, sin) of each angle, clamped to the unit disc.

    Attributes:
        signal: a_t. These two are `StepTable`s.
        noise_std: s_t.
    """

    samplers: tuple[str, ...] = ("ancestral", "ddim", "heun", "dpm-solver++", "restart")
    second_order: tuple[str, ...] = ("heun",)
    multistep: tuple[str, ...] = ("dpm-solver++",)
    restarting: tuple[str, ...] = ("restart",)

    def __init__(
        self,
        shape: tuple[int, int, int],
        signal: Tensor,
        noise_std: Tensor,
        encoding: float = 1.0,
        reading: Reading = "intensity",
    ) -> None:
        super().__init__(shape, len(signal), reading)
        self._set_tables(signal, noise_std, encoding)

    def _set_tables(self, signal: Tensor, noise_std: Tensor, encoding: float) -> None:
        self.signal = StepTable(signal)
        self.noise_std = StepTable(noise_std)
        # At t = 0, 1, ..., T; lists of floats, for one step at a time.
        self._signal: list[float] = [encoding, *self.signal.values.tolist()]
        self._std: list[float] = [0.0, *self.noise_std.values.tolist()]
        sigma = self.noise_std.values / self.signal.values
        self._sigma: list[float] = [0.0, *sigma.tolist()]
        self._log_snr: list[float] = [math.inf, *(-sigma.log()).tolist()]

    def step_grid(self, count: int, sampler: str) -> tuple[int, ...]:
        """As `DiffusionProcess` has it, but for "dpm-solver++"."""
        if sampler != "dpm-solver++":
            return super().step_grid(count, sampler)
        return steps_even_in([min(-snr, _NOISIEST) for snr in self._log_snr[1:]], count)

    def image_of(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """The x_0 of a prediction at (x_t, t), (B, C, H, W), not clamped; here it is eps."""
        return (state - self.noise_std[step] * prediction) / self.signal[step]

    def target(self, images: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """What the network must predict at a_t x_0 + s_t eps, (B, C, H, W); here eps.

        Args:
            images: x_0, (B, C, H, W).
            noise: eps.
            step: t, (B,) int64.
        """
        return noise

    def levels(self, step: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t of each sample, (B, 1, 1, 1), at steps of `draw_steps`."""
        return self.signal.at(step, like), self.noise_std.at(step, like)

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 steps to train at; here uniform on 1..T."""
        return torch.randint(
            1, self.steps + 1, (count,), generator=generator, device=generator.device
        )

    def encode(self, images: Tensor) -> Tensor:
        """What is read of images in [-1, 1], (B, C, H, W), times a_0 are states."""
        return self._start(images) * self._signal[0]

    def decode(self, state: Tensor) -> Tensor:
        """Divide by a_0 and clamp to [-1, 1]; on the circle, take the directions."""
        self.check_states(state)
        return self.image_from(state / self._signal[0])

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches with steps from `draw_steps`, independent between samples, weight 1."""
        check_count("batch_size", batch_size)

        def draw() -> TrainingBatch:
            start = self._start(images(batch_size))
            step = self.draw_steps(batch_size, generator)
            noise = self._draw_noise(start, generator)
            signal, std = self.levels(step, start)
            target = self.target(start, noise, step)
            return TrainingBatch(signal * start + std * noise, step, target, torch.ones_like(std))

        return IndependentBatches(draw)

    def _start(self, images: Tensor) -> Tensor:
        """x_0, before a_t scales it."""
        return self.planes_of(images)

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw states of noise alone, (count, *state_shape)."""
        self.check_prior(prior)
        return self._draw_noise(
            torch.empty((count, *self.state_shape), device=generator.device), generator
        )

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T."""
        self.check_states(state)
        self.check_step(step)
        kept, added = self._transition(step - 1, step)
        return kept * state + math.sqrt(added) * self._draw_noise(state, generator)

    def _transition(self, before: int, step: int) -> tuple[float, float]:
        """What is left of x_u in x_t, and the variance of the noise on it, for u before t."""
        kept = self._signal[step] / self._signal[before]
        return kept, max(0.0, self._std[step] ** 2 - (kept * self._std[before]) ** 2)

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw x_u given x_t. No noise at the end."""
        step, to = jump.step, jump.to
        image = self._clamped_image(state, step, prediction)
        if to == 0:
            return self._signal[0] * image
        if jump.sampler == "dpm-solver++":
            return self._multistep(state, jump, image)
        if jump.sampler not in ("ancestral", *self.restarting):
            return self._flow(state, step, to, self._noise(state, step, image))
        share = (self._sigma[to] / self._sigma[step]) ** 2
        mean = (
            self._signal[to] * (1 - share) * image
            + self._signal[to] / self._signal[step] * share * state
        )
        std = (
            self._restarted_std(state, jump, prediction)
            if jump.sampler == "restart"
            else self._reverse_std(prediction, step, to)
        )
        return mean + std * self._draw_noise(state, generator)

    @property
    def encoding(self) -> float:
        """What images are multiplied by to be states."""
        return self._signal[0]

    def step_corrected(
        self,
        state: Tensor,
        jump: Jump,
        prediction: Tensor,
        reached: Tensor,
        prediction_there: Tensor,
    ) -> Tensor:
        """The step of "heun" again, with the mean of eps at both ends."""
        step, to = jump.step, jump.to
        here = self._noise(state, step, self._clamped_image(state, step, prediction))
        there = self._noise(reached, to, self._clamped_image(reached, to, prediction_there))
        return self._flow(state, step, to, (here + there) / 2)

    def _multistep(self, state: Tensor, jump: Jump, image: Tensor) -> Tensor:
        """The step of "dpm-solver++", given the x_0 that the network says at t."""
        step, to, past = jump.step, jump.to, jump.past
        if past is not None:
            before = self._clamped_image(past.state, past.step, past.prediction)
            came = self._log_snr[step] - self._log_snr[past.step]
            ahead = self._log_snr[to] - self._log_snr[step]
            image = image + ahead / (2 * came) * (image - before)
        share = self._std[to] / self._std[step]
        return share * state + (self._signal[to] - share * self._signal[step]) * image

    def _clamped_image(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        return self._clamp(self.image_of(state, step, prediction))

    def _clamp(self, image: Tensor) -> Tensor:
        """An x_0 that an average of images can have."""
        return self.nearest_planes(image)

    def _draw_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """eps, shaped like a state."""
        return standard_normal(like, generator)

    def _noise(self, state: Tensor, step: int, image: Tensor) -> Tensor:
        """The eps that belongs to an x_0."""
        return (state - self.signal[step] * image) / self.noise_std[step]

    def _flow(self, state: Tensor, step: int, to: int, noise: Tensor) -> Tensor:
        """Move along the flow: x / a changes by eps (sigma_u - sigma_t)."""
        kept = self._signal[to] / self._signal[step]
        change = self._signal[to] * (self._sigma[to] - self._sigma[step])
        return kept * state + change * noise

    def is_made_again(self, to: int) -> bool:
        """By sigma_u, see `jumps.is_restarted`."""
        return is_restarted(self._sigma[to])

    def _reverse_std(self, prediction: Tensor, step: int, to: int) -> float | Tensor:
        """Standard deviation of the noise of an ancestral step, if x_0 is known."""
        share = (self._sigma[to] / self._sigma[step]) ** 2
        removed = self._sigma[step] ** 2 - self._sigma[to] ** 2
        return self._signal[to] * math.sqrt(share * removed)

    def _restarted_std(self, state: Tensor, jump: Jump, prediction: Tensor) -> Tensor:
        """Of a step of "restart", (B, 1, 1, 1): with what is not known of x_0."""
        now, before = (self._sigma[t] ** 2 for t in (jump.step, jump.to))
        noise = self._noise(state, jump.step, self.image_of(state, jump.step, prediction))
        unknown = (1 - mean_square(noise)).clamp(0, 1) * ((now - before) ** 2 / now)
        return self._signal[jump.to] * (unknown + before / now * (now - before)).sqrt()


class DDPM(EuclideanDiffusion):
    r"""Denoising diffusion probabilistic model, variance preserving (arXiv 2006.11239).

    State: the image itself, in [-1, 1] at t = 0. With alpha_t = 1 - beta_t and abar_t their
    product up to t:

        x_t = sqrt(alpha_t) x_{t-1} + sqrt(beta_t) eps                  (eq. 2)
        x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                   (eq. 4)

    The network predicts eps of the second line, weight 1 (eq. 14). The variance of an ancestral
    step, with alpha = abar_t / abar_u and beta = 1 - alpha those of the whole jump, is

        beta (1 - abar_u) / (1 - abar_t) [+ beta^2 / (alpha (1 - abar_t)) (1 - <eps^2>)]

    where the bracket is what an unknown x_0 adds (`variance`). The prior is standard normal. The
    samplers are those of `EuclideanDiffusion`.

    Args:
        shape: (C, H, W).
        steps: T.
        schedule: "linear", `linear_betas`; or "cosine", `cosine_betas`.
        beta_range: beta at the first and last step, each in (0, 1), linear between, instead of
            the linear schedule's own.
        variance: of an ancestral step: "posterior", exact if x_0 is known; "forward", beta itself,
            exact if x_0 is standard normal (arXiv 2006.11239, section 3.2); or "analytic", between
            them, the one that is best on average (arXiv 2201.06503, theorem 1), where <eps^2> is
            the mean square of the prediction over the pixels of the sample.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle" or as the number "angle".

    Raises:
        ValueError: if a parameter is out of range.
    """

    angle_readings = PIXEL_ANGLE_READINGS

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        schedule: Schedule = "linear",
        beta_range: tuple[float, float] | None = None,
        variance: Variance = "posterior",
        reading: Reading = "intensity",
    ) -> None:
        check_count("steps", steps)
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
        if kept[-1] == 0:
            raise ValueError(f"beta_range {beta_range} leaves no image at all after {steps} steps")
        super().__init__(shape, kept.sqrt(), (1 - kept).sqrt(), reading=reading)
        # abar_0..abar_T; a list of floats, for one step at a time.
        self._kept: list[float] = [1.0, *kept.tolist()]

    def _reverse_std(self, prediction: Tensor, step: int, to: int) -> float | Tensor:
        """Standard deviation of the noise of an ancestral step, see `variance`."""
        before, now = self._kept[to], self._kept[step]
        kept = now / before
        share = (1 - before) / (1 - now)
        forward = 1 - kept
        posterior = forward * share
        if self.variance == "posterior":
            return math.sqrt(posterior)
        if self.variance == "forward":
            return math.sqrt(forward)
        # beta^2 / (alpha (1 - abar_t)): alpha share is 1 - beta / (1 - abar_t).
        unknown = forward * (1 - kept * share) / kept
        analytic = posterior + unknown * (1 - mean_square(prediction))
        return analytic.clamp(posterior, forward).sqrt()
