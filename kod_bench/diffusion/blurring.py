"""Blurring diffusion: Gaussian noise on images whose fine detail fades first."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.diffusion.checks import check_count, check_number
from kod_bench.diffusion.constants import DeviceConstant, StepTable
from kod_bench.diffusion.cosine_transform import CosineTransform
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.pixels import PixelDiffusion
from kod_bench.diffusion.process import ImageSource, Kind, TrainingBatch, standard_normal
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading

#: log(a^2 / s^2) at both ends of the schedule, the authors'.
_LOG_SNR_RANGE = (10.0, -10.0)


class BlurringDiffusion(PixelDiffusion):
    r"""Blurring diffusion model (arXiv 2209.05557): heat dissipation as a proper Gaussian chain.

    In the orthonormal cosine modes u = V^T x of an image, each with its own signal,

        u_t = alpha_t u_0 + s_t eps,    alpha_t = a_t d_t               (eqs. 13 to 17)
        d_t = (1 - d_min) exp(-lambda b_t^2 / 2) + d_min
        lambda_nm = pi^2 (n^2 / H^2 + m^2 / W^2)
        b_t = b_max sin^2(pi t / (2 T)), pixels

    where a_t and s_t, a^2 + s^2 = 1, are of the cosine schedule: log(a^2 / s^2) =
    -2 log tan(c_t), c_t linear in t / T, from 10 at t = 0 to -10 at t = T. The state is the image
    V u_t in [-1, 1]; x_0 itself, without noise, is t = 0. The network predicts eps in pixels,
    weight 1. With b_max = 0 this is DDPM on the cosine schedule: the control.

    The sampler "ancestral" draws from t to u as if u_0 were known (eqs. 20 and 21), in each mode:

        k = alpha_t / alpha_u    g = s_t^2 - k^2 s_u^2    v = 1 / (1 / s_u^2 + k^2 / g)
        u_u = v (k / g u_t + (u_t - s_t eps) / (k s_u^2)) + sqrt(v) eps'

    and "ddim" goes on with the same eps, u_u = (u_t - s_t eps) / k + s_u eps. Both end with
    (u_t - s_t eps) / alpha_t. Nothing is clamped before the end: what a network says of a mode that
    noise hides is magnified by 1 / k, which is little between neighbouring steps and much between
    a few far ones. The prior is standard normal.

    Args:
        shape: (C, H, W).
        steps: T.
        blur_max: b_max, in pixels: the authors' for 32 to 128 pixels is 20.
        least_kept: d_min, of every mode at every step.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle", whose planes of cosines and of sines blur, or
            as the number "angle".

    Attributes:
        noise_std: s_t.

    Raises:
        ValueError: if a parameter is out of range.
    """

    structured = True
    angle_readings = PIXEL_ANGLE_READINGS
    samplers = ("ancestral", "ddim")

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        blur_max: float = 20.0,
        least_kept: float = 0.001,
        reading: Reading = "intensity",
    ) -> None:
        super().__init__(shape, steps, reading)
        self.blur_max = check_number("blur_max", blur_max, 0)
        self.least_kept = check_number("least_kept", least_kept, 0, 1, open_low=True)
        time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        first, last = (math.atan(math.exp(-value / 2)) for value in _LOG_SNR_RANGE)
        angle = first + (last - first) * time
        self._signal: list[float] = [1.0, *angle.cos().tolist()]
        self.noise_std = StepTable(angle.sin())
        self._std: list[float] = [0.0, *self.noise_std.values.tolist()]
        self._transform = CosineTransform(*self.shape[1:])
        blur = self.blur_max * (math.pi / 2 * time).sin().square()
        spread = torch.cat([blur.new_zeros(1), blur.square() / 2]).unsqueeze(1)
        # At t = 0, 1, ..., T: (T + 1, H) and (T + 1, W), of which modes are made when needed.
        self._faded = [DeviceConstant(torch.exp(-spread * rate)) for rate in self._transform.rates]
        self._signals = DeviceConstant(torch.tensor(self._signal, dtype=torch.float64))

    @classmethod
    def kind_of(cls, parameters: Mapping[str, Any]) -> Kind:
        """A control where nothing blurs."""
        return "control" if parameters.get("blur_max") == 0 else "structured"

    def encode(self, images: Tensor) -> Tensor:
        """What is read of images in [-1, 1], (B, C, H, W), are states."""
        return self.planes_of(images).clone()

    def decode(self, state: Tensor) -> Tensor:
        """Clamp to [-1, 1]; on the circle, take the directions."""
        self.check_states(state)
        return self.image_from(state)

    def kept(self, step: int | Tensor, like: Tensor) -> Tensor:
        """alpha_t of each mode.

        Args:
            step: t in 0..T, or each sample's own, (B,) int64.
            like: whose device and dtype the result takes.

        Returns:
            (H, W), or (B, 1, H, W).
        """
        rows, columns = (each.on(like.device, like.dtype)[step] for each in self._faded)
        faded = rows.unsqueeze(-1) * columns.unsqueeze(-2)
        signal = self._signals.on(like.device, like.dtype)[step]
        if not isinstance(step, int):
            faded, signal = faded.unsqueeze(1), signal.view(-1, 1, 1, 1)
        return signal * ((1 - self.least_kept) * faded + self.least_kept)

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches with t uniform on 1..T, independent between samples, weight 1."""
        check_count("batch_size", batch_size)

        def draw() -> TrainingBatch:
            start = self.encode(images(batch_size))
            step = torch.randint(
                1, self.steps + 1, (batch_size,), generator=generator, device=generator.device
            )
            noise, std = standard_normal(start, generator), self.noise_std.at(step, start)
            faded = self._scaled(start, self.kept(step, start))
            return TrainingBatch(faded + std * noise, step, noise, torch.ones_like(std))

        return IndependentBatches(draw)

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw standard normal states, (count, *state_shape)."""
        self.check_prior(prior)
        like = torch.empty((count, *self.state_shape), device=generator.device)
        return standard_normal(like, generator)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x_{t-1}, for step t in 1..T."""
        self.check_states(state)
        self.check_step(step)
        share, added = self._transition(step - 1, step, state)
        noise = standard_normal(state, generator)
        modes = share * self._transform.modes(state) + added.sqrt() * noise
        return self._transform.from_modes(modes)

    def _transition(self, before: int, step: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """K and g of each mode, (H, W)."""
        # In float64: g is a small difference.
        exact = like.new_empty((), dtype=torch.float64)
        share = self.kept(step, exact) / self.kept(before, exact)
        added = self._std[step] ** 2 - (share * self._std[before]).square()
        return share.to(like.dtype), added.to(like.dtype)

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw x_u given x_t. No noise at the end."""
        step, to = jump.step, jump.to
        now, then = self._std[step], self._std[to]
        share, added = self._transition(to, step, state)
        here = self._transform.modes(state)
        noise = self._transform.modes(prediction)
        clean = (here - now * noise) / share  # alpha_u u_0
        if to == 0 or jump.sampler == "ddim":
            return self._transform.from_modes(clean + then * noise)
        variance = 1 / (1 / then**2 + share.square() / added)
        mean = variance * (share / added * here + clean / then**2)
        drawn = mean + variance.sqrt() * standard_normal(state, generator)
        return self._transform.from_modes(drawn)

    def _scaled(self, state: Tensor, factors: Tensor) -> Tensor:
        """Each mode times its factor."""
        return self._transform.from_modes(factors * self._transform.modes(state))
