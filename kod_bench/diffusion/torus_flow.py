"""Flow matching on the flat torus: phases that move to uniform ones along geodesics."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.diffusion.checks import check_count
from kod_bench.diffusion.circle import uniform_phases, wrap
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.phases import IndependentPhases
from kod_bench.diffusion.process import ImageSource, TrainingBatch
from kod_bench.diffusion.readings import PhaseReading

#: Root mean square of a velocity: an angle uniform on [-pi, pi).
_UNIT = math.pi / math.sqrt(3)


class TorusFlow(IndependentPhases):
    r"""Riemannian flow matching on the flat torus (arXiv 2302.03660).

    A phase theta_0 of the data moves along the geodesic to theta_1, uniform on the circle:

        theta_s = wrap(theta_0 + s log_{theta_0}(theta_1)),    log_a(b) = wrap(b - a)

    with s = t / T. On the torus the conditional velocity is the log map itself, the same all along
    the way; the network predicts it over its root mean square pi / sqrt(3), weight 1. What it
    learns is its mean given theta_s, the velocity of a flow with the same laws at every s. (In the
    paper s runs from the prior to the data.) The prior is uniform on the torus, exactly.

    The samplers are methods for that flow's equation: "euler", and "heun" of second order, see
    `DiffusionProcess.step_subset`.

    The pairs of theta_0 and theta_1 make no Markov process. `forward_step` sets out for a new
    uniform phase from where it is, by the share 1 / (T - t + 1) of the way, as if the state were
    data: it ends in the prior, more slowly at first than the paths that training sees.

    Args:
        shape: (C, H, W).
        steps: T.
        reading: what images hold: "intensity", or "angle" divided by pi.
        phase_margin: of intensities, share of the half circle that white and black are apart from
            gray, None for 0.9; angles have none.

    Raises:
        ValueError: if a parameter is out of range.
    """

    samplers = ("euler", "heun")
    second_order = ("heun",)

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        reading: PhaseReading = "intensity",
        phase_margin: float | None = None,
    ) -> None:
        super().__init__(shape, steps, reading, phase_margin)

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
            velocity = geodesic_velocity(start, uniform_phases(tuple(start.shape), generator))
            time = step.view(-1, 1, 1, 1).to(start) / self.steps
            state = wrap(start + time * velocity)
            return TrainingBatch(state, step, velocity / _UNIT, torch.ones_like(time))

        return IndependentBatches(draw)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw theta_t given theta_{t-1}, for step t in 1..T; see the class."""
        self.check_states(state)
        self.check_step(step)
        ahead = uniform_phases(tuple(state.shape), generator).to(state.dtype)
        return wrap(state + geodesic_velocity(state, ahead) / (self.steps - step + 1))

    def flow_change(self, state: Tensor, at: int, jump: Jump, prediction: Tensor) -> Tensor:
        """(s_t - s_u) times the velocity."""
        return (_UNIT * (jump.step - jump.to) / self.steps) * prediction

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Euler's step from t to u. Draws nothing."""
        return self.step_along_flow(state, jump, prediction)


def geodesic_velocity(start: Tensor, end: Tensor) -> Tensor:
    """The log map of the flat torus: the shortest way from phase to phase, in [-pi, pi)."""
    return wrap(end - start)
