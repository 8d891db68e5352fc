"""EDM: Gaussian noise with a preconditioned network, the strong baseline."""

import math

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count, check_number
from kod_bench.diffusion.constants import DeviceConstant, linear_ramp
from kod_bench.diffusion.data_std import measured_data_std
from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.process import ImageSource
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading
from kod_bench.diffusion.step_grids import steps_to_one


def rho_sigmas(sigma_min: float, sigma_max: float, rho: float, steps: int) -> Tensor:
    """(T,) float64 sigma_t, ascending, evenly spaced in sigma^(1 / rho); sigma_max for T = 1.

    arXiv 2206.00364, eq. 5.
    """
    return linear_ramp(sigma_min ** (1 / rho), sigma_max ** (1 / rho), steps).pow(rho)


def log_normal_shares(sigma: Tensor, mean: float, std: float) -> Tensor:
    """(T,) the probability that, of ascending levels, each is the nearest to a log-normal sigma.

    ln sigma ~ N(mean, std^2); nearest in the logarithm.
    """
    level = sigma.log()
    edges = ((level[1:] + level[:-1]) / 2 - mean) / (std * math.sqrt(2))
    below = torch.cat([edges.new_zeros(1), (1 + edges.erf()) / 2, edges.new_ones(1)])
    return below.diff()


class EDM(EuclideanDiffusion):
    r"""Elucidated diffusion: VE noise, preconditioning, log-normal training noise, Heun.

    Karras et al. (arXiv 2206.00364), the column "Ours" of table 1. The noisy image is
    y_t = x_0 + sigma_t eps, on T levels evenly spaced in sigma^(1 / rho) (eq. 5). With s the
    `data_std` (sigma_data there), the network F sees c_in y_t and t, which stands for c_noise
    = ln(sigma_t) / 4, and answers for x_0 with

        D = c_skip y_t + c_out F                                        (eq. 7)
        c_in^2 = 1 / (sigma^2 + s^2)    c_skip = s^2 c_in^2    c_out = sigma s c_in

    so that its input and its target have variance 1 at every level. The state is its input,

        x_t = c_in (x_0 + sigma_t eps)
        target = (x_0 - c_skip y_t) / c_out = c_in (sigma_t x_0 / s - s eps)

    lambda c_out^2 = 1, so the weight is 1 (eq. 8). Training levels are those nearest to a
    log-normal sigma, for a share of the batches any of the T.

    Samplers are those of `EuclideanDiffusion`; the paper's is "heun", without its churn. In n jumps
    any of them takes the levels from sigma_max to sigma_min that are evenly spaced in t, and so in
    sigma^(1 / rho), and then 0. The prior is standard normal.

    Args:
        shape: (C, H, W).
        steps: T, levels of sigma; the most jumps that a sampler can make.
        sigma_min: of the first level, in units in which images span [-1, 1].
        sigma_max: of the last one.
        rho: how much more densely small sigma are covered.
        data_std: s; default the root mean square of training images as they are
            read, which `fit` measures (0.5, the paper's, before).
        log_noise_mean: mean of ln sigma in training (P_mean).
        log_noise_std: its standard deviation (P_std).
        uniform_share: of the training levels, drawn evenly from 1..T instead. 0 is the paper's,
            whose long trainings see levels that are drawn once in a thousand times.
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
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        data_std: float | None = None,
        log_noise_mean: float = -1.2,
        log_noise_std: float = 1.2,
        uniform_share: float = 0.2,
        reading: Reading = "intensity",
    ) -> None:
        check_count("steps", steps)
        check_number("sigma_min", sigma_min, 0, open_low=True)
        check_number("sigma_max", sigma_max, sigma_min, open_low=True)
        check_number("rho", rho, 0, open_low=True)
        check_number("log_noise_mean", log_noise_mean, -math.inf, open_low=True)
        check_number("log_noise_std", log_noise_std, 0, open_low=True)
        check_number("uniform_share", uniform_share, 0, 1)
        self.sigma = rho_sigmas(sigma_min, sigma_max, rho, steps)
        self._measures = data_std is None
        self.data_std = (
            0.5 if data_std is None else check_number("data_std", data_std, 0, open_low=True)
        )
        super().__init__(shape, *self._tables(), reading=reading)
        shares = (1 - uniform_share) * log_normal_shares(self.sigma, log_noise_mean, log_noise_std)
        self._shares = DeviceConstant(shares + uniform_share / steps)

    def _tables(self) -> tuple[Tensor, Tensor, float]:
        """What a_t = c_in, s_t = c_in sigma and a_0 are for the `data_std`."""
        signal = (self.sigma.square() + self.data_std**2).rsqrt()
        return signal, signal * self.sigma, 1 / self.data_std

    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Measure the root mean square of 1024 training images, if `data_std` is not given."""
        if not self._measures:
            return
        self.data_std = measured_data_std(lambda count: self._start(images(count)))
        self._set_tables(*self._tables())

    def image_of(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """D of eq. 7; the prediction is F."""
        scale, std = self.data_std * self.signal[step], self.noise_std[step]
        return self.data_std * (scale * state + std * prediction)

    def target(self, images: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """F that would give D = x_0."""
        image_part = self.noise_std.at(step, images) / self.data_std
        return image_part * images - self.data_std * self.signal.at(step, images) * noise

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 steps, by the training law of sigma."""
        shares = self._shares.on(generator.device, torch.float32)
        return 1 + torch.multinomial(shares, count, replacement=True, generator=generator)

    def step_grid(self, count: int, sampler: str) -> tuple[int, ...]:
        """From T down to 1, evenly, for every sampler."""
        return steps_to_one(self.steps, count)
