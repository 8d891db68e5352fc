"""What diffusion processes on phases share: images as phases, and the probability flow back."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_number
from kod_bench.diffusion.circle import TWO_PI, uniform_phases, wrap
from kod_bench.diffusion.jumps import Jump, Variance, mean_square
from kod_bench.diffusion.process import DiffusionProcess, Kind
from kod_bench.diffusion.readings import PhaseReading, without_default_reading

#: `phase_margin` of intensities, unless it is given.
_MARGIN = 0.9


class PhaseDiffusion(DiffusionProcess):
    """A process whose state is a phase per pixel and channel, theta in [-pi, pi).

    Of an intensity x in [-1, 1], theta = phase_margin pi x; of an angle, which x is times pi, theta
    is that angle.

    Args:
        shape: (C, H, W).
        steps: T.
        reading: what images hold: "intensity" or "angle".
        phase_margin: of intensities, share of the half circle that white and black are apart from
            gray; None is 0.9. Angles have none.

    Attributes:
        reading: as given.
        phase_margin: 1 for angles.

    Raises:
        ValueError: if a parameter is out of range, or a margin is given for angles.
    """

    periodic = True
    structured = True
    angle_readings = ("angle",)

    def __init__(
        self,
        shape: tuple[int, int, int],
        steps: int,
        reading: PhaseReading,
        phase_margin: float | None,
    ) -> None:
        super().__init__(shape, steps)
        check_choice("reading", reading, PhaseReading)
        if reading == "angle" and phase_margin is not None:
            raise ValueError(
                f"phase_margin is {phase_margin} but reading is 'angle', and angles have no "
                "margin; leave it out"
            )
        self.reading: PhaseReading = reading
        if phase_margin is None:
            phase_margin = _MARGIN if reading == "intensity" else 1
        self.phase_margin = check_number("phase_margin", phase_margin, 0, 1, open_low=True)

    @classmethod
    def identity_of(cls, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """With the margin of intensities by its number, and no word of what angles do not have."""
        said = without_default_reading(parameters)
        if said.get("phase_margin", _MARGIN) is None:
            del said["phase_margin"]
            if "reading" not in said:
                said["phase_margin"] = _MARGIN
        return said

    def encode(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1], (B, C, H, W), to phases."""
        self.check_states(images)
        return wrap(images * (self.phase_margin * math.pi))

    def decode(self, state: Tensor) -> Tensor:
        """Map phases to images, those in the gap to black or white."""
        self.check_states(state)
        return (state / (self.phase_margin * math.pi)).clamp(-1, 1)

    @abstractmethod
    def flow_change(self, state: Tensor, at: int, jump: Jump, prediction: Tensor) -> Tensor:
        """What the probability flow takes from phases on the way from t to u, as if it stood still.

        Args:
            state: theta, (B, C, H, W), at the step `at`.
            at: the step whose velocity is asked for; t or u, at least 1.
            jump: from t to u.
            prediction: of the network at (`state`, `at`).

        Returns:
            theta_t - theta_u in radians, (B, C, H, W), not wrapped.
        """

    def step_along_flow(self, state: Tensor, jump: Jump, prediction: Tensor) -> Tensor:
        """Euler's step of the probability flow."""
        return wrap(state - self.flow_change(state, jump.step, jump, prediction))

    def step_corrected(
        self,
        state: Tensor,
        jump: Jump,
        prediction: Tensor,
        reached: Tensor,
        prediction_there: Tensor,
    ) -> Tensor:
        """Heun's step: with the mean of the velocities at both ends."""
        here = self.flow_change(state, jump.step, jump, prediction)
        there = self.flow_change(reached, jump.to, jump, prediction_there)
        return wrap(state - (here + there) / 2)

    @abstractmethod
    def prior_log_density(self, state: Tensor) -> Tensor:
        """Log density per radian of phases under the prior that is known exactly.

        Args:
            state: theta, (B, C, H, W).

        Returns:
            (B,) float64 nats, of all C H W phases together, on the CPU.
        """


class IndependentPhases(PhaseDiffusion):
    """A process in which no phase feels another one, and whose prior is uniform on the torus."""

    priors = ("uniform",)

    @classmethod
    def kind_of(cls, parameters: Mapping[str, Any]) -> Kind:
        """Always a control: it has phases, and no structure."""
        return "control"

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw phases uniform on the circle, (count, C, H, W)."""
        self.check_prior(prior)
        return uniform_phases((count, *self.shape), generator)

    def prior_log_density(self, state: Tensor) -> Tensor:
        """Uniform, in each phase; see `PhaseDiffusion`."""
        uniform = -state[0].numel() * math.log(TWO_PI)
        return torch.full((len(state),), uniform, dtype=torch.float64)


def reverse_noise_std(
    variance: Variance, minus_score: Tensor, now: float, before: float
) -> float | Tensor:
    """Standard deviation of the noise of an ancestral step back on phases.

    Args:
        variance: as for `kuramoto.KuramotoDiffusion`.
        minus_score: as predicted where the step begins.
        now: sigma^2 there.
        before: sigma^2 where it ends.
    """
    forward = now - before
    posterior = forward * before / now
    if variance == "posterior":
        return math.sqrt(posterior)
    if variance == "forward":
        return math.sqrt(forward)
    analytic = forward * (1 - forward * mean_square(minus_score))
    return analytic.clamp(posterior, forward).sqrt()
