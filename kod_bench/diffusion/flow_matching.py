"""Flow matching along straight lines from noise to images: rectified flow."""

import math
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_count, check_number
from kod_bench.diffusion.data_std import measured_data_std
from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.process import ImageSource
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading
from kod_bench.diffusion.step_grids import even_steps

Times = Literal["uniform", "logit-normal"]


class FlowMatching(EuclideanDiffusion):
    r"""Straight conditional paths (arXiv 2210.02747, 2209.03003).

    x_tau = (1 - tau) x_0 + tau eps for tau in [0, 1], step t at tau = t / T; the velocity of a path
    is v = eps - x_0. The network predicts v / c with c^2 = 1 + s^2, s the `data_std`, weight 1: the
    papers' loss in units of its target. It is trained in continuous time, from tau = 1 / T, the
    least it is asked for, to 1, and told the t of its tau, a number between. Times are even, or
    log(tau / (1 - tau)) ~ N(mean, std^2) (arXiv 2403.03206, section 3.1); what lies below 1 / T is
    taken to be there. The prior is standard normal: no image is left in it at all.

    Samplers integrate dx / dtau = v from t to u, with h = (u - t) / T:

        euler       x_t + h v_t
        heun        x_t + h (v_t + v_u) / 2, v_u where euler has led; the last step is euler's
        midpoint    Every second step is euler's, from t to the step m between; the one after
                    it goes from x_t to u with the velocity at m, x_t + h v_m. Where m, a whole
                    number, is not halfway but at a share c, x_t + h (v_t + (v_m - v_t) / (2 c)),
                    which is of second order for any c. Of an odd number the last is euler's.
        dpm-solver++    as in `EuclideanDiffusion`, with a = 1 - tau and s = tau

    Steps are even in tau, but for the last.

    Args:
        shape: (C, H, W).
        steps: T; the most evaluations that a sampler can use.
        times: "uniform" or "logit-normal", of training.
        logit_mean: of log(tau / (1 - tau)); larger is noisier.
        logit_std: its standard deviation.
        data_std: s; default the root mean square of training images as they are read, which `fit`
            measures (0.5 before).
        clamped: whether to clamp x_0 to [-1, 1], and the velocity with it, as the other processes
            do. The papers do not.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle" or as the number "angle".

    Raises:
        ValueError: if a parameter is out of range.
    """

    angle_readings = PIXEL_ANGLE_READINGS
    samplers = ("euler", "heun", "midpoint", "dpm-solver++")
    multistep = ("midpoint", "dpm-solver++")
    restarting = ()

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        times: Times = "uniform",
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        data_std: float | None = None,
        clamped: bool = False,
        reading: Reading = "intensity",
    ) -> None:
        check_count("steps", steps)
        check_choice("times", times, Times)
        self.times: Times = times
        self.logit_mean = check_number("logit_mean", logit_mean, -math.inf, open_low=True)
        self.logit_std = check_number("logit_std", logit_std, 0, open_low=True)
        self.clamped = clamped
        self._measures = data_std is None
        self.data_std = (
            0.5 if data_std is None else check_number("data_std", data_std, 0, open_low=True)
        )
        time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        super().__init__(shape, 1 - time, time, reading=reading)

    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Measure the root mean square of 1024 training images, if `data_std` is not given."""
        if self._measures:
            self.data_std = measured_data_std(lambda count: self._start(images(count)))

    @property
    def scale(self) -> float:
        """c, the root mean square of the velocities of paths."""
        return math.sqrt(1 + self.data_std**2)

    def image_of(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """x_0, where the path of this velocity ends."""
        return state - self.noise_std[step] * self.scale * prediction

    def target(self, images: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """The velocity of the path, v / c."""
        return (noise - images) / self.scale

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32 in [1, T], by the law of `times`."""
        device = generator.device
        if self.times == "uniform":
            return 1 + (self.steps - 1) * torch.rand(count, generator=generator, device=device)
        normal = torch.randn(count, generator=generator, device=device)
        time = torch.sigmoid(self.logit_mean + self.logit_std * normal)
        return (self.steps * time).clamp(1, self.steps)

    def levels(self, step: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """1 - tau and tau of each sample, (B, 1, 1, 1)."""
        time = (step / self.steps).to(like.dtype).view(-1, 1, 1, 1)
        return 1 - time, time

    def step_grid(self, count: int, sampler: str) -> tuple[int, ...]:
        """Evenly in tau, but for "dpm-solver++"."""
        if sampler == "dpm-solver++":
            return super().step_grid(count, sampler)
        return even_steps(self.steps, count)

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """x_u given x_t."""
        if jump.sampler == "dpm-solver++":
            return super().step_back(state, jump, prediction, generator)
        velocity = self._velocity(state, jump.step, prediction)
        past = jump.past
        if jump.sampler != "midpoint" or past is None or past.made % 2 == 0:
            return self._along(state, jump.step, jump.to, velocity)
        first = self._velocity(past.state, past.step, past.prediction)
        share = (past.step - jump.step) / (past.step - jump.to)
        return self._along(past.state, past.step, jump.to, first + (velocity - first) / (2 * share))

    def step_corrected(
        self,
        state: Tensor,
        jump: Jump,
        prediction: Tensor,
        reached: Tensor,
        prediction_there: Tensor,
    ) -> Tensor:
        """The step of "heun" again, with the mean of the velocities at both ends."""
        here = self._velocity(state, jump.step, prediction)
        there = self._velocity(reached, jump.to, prediction_there)
        return self._along(state, jump.step, jump.to, (here + there) / 2)

    def _along(self, state: Tensor, step: int, to: int, velocity: Tensor) -> Tensor:
        return state + (to - step) / self.steps * velocity

    def _velocity(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        if not self.clamped:
            return self.scale * prediction
        return (state - self._clamped_image(state, step, prediction)) / self.noise_std[step]

    def _clamp(self, image: Tensor) -> Tensor:
        return super()._clamp(image) if self.clamped else image
