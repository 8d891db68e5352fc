r"""How likely a trained process finds images: whichever measure it has, in one unit.

- *Bits per dimension*, of 8-bit images, which are spread evenly over their levels' width; each is
  an upper bound on the bits of an image (Theis et al. 2016, arXiv 1511.01844). Of processes of
  Gaussian noise, `flow_likelihood`; of inverse heat dissipation, its evidence bound; of processes
  on phases, `negative_log_likelihood` at the phases of the images. With theta = m pi (2 u - 1),
  m the margin and u the image in [0, 1],

      log p(u) = log p(theta) + N log(2 m pi)

  What such a process puts into the gap between white and black is lost to it.
- *Nats per phase*, of angles, of processes on phases.

The others have none that is known: points on the circle have no density in the plane, and numbers
that are cut at pi none on the circle.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.heat import HeatDissipation
from kod_bench.diffusion.heat_likelihood import bits_per_dimension, dequantised, negative_elbo
from kod_bench.diffusion.phases import PhaseDiffusion
from kod_bench.diffusion.probability_flow_likelihood import JUMPS as EUCLIDEAN_JUMPS
from kod_bench.diffusion.probability_flow_likelihood import flow_likelihood
from kod_bench.diffusion.process import DiffusionProcess
from kod_bench.diffusion.run import Predictor
from kod_bench.diffusion.torus_likelihood import JUMPS as TORUS_JUMPS
from kod_bench.diffusion.torus_likelihood import negative_log_likelihood
from kod_bench.diffusion.values import to_unit

Unit = Literal["bits per dimension", "nats per phase"]
Method = Literal["probability flow", "evidence bound"]


@dataclass(frozen=True)
class Likelihood:
    """Negative log-likelihoods of images.

    Attributes:
        values: of each image, (B,) float64; one's also has the noise of its estimate.
        unit: of the values.
        method: how they were found; both bound the bits of an image from above.
        evaluations: of the network, for each image.
    """

    values: Tensor
    unit: Unit
    method: Method
    evaluations: int

    @property
    def mean(self) -> float:
        """Over the images; lower is better."""
        return self.values.mean().item()

    @property
    def standard_error(self) -> float:
        """Of the mean: from choosing the images and from the noise of the estimate; nan of one."""
        return self.values.std().item() / math.sqrt(len(self.values))

    def with_more(self, other: "Likelihood") -> "Likelihood":
        """The same of further images, too."""
        return replace(self, values=torch.cat([self.values, other.values]))


def why_no_likelihood(process: DiffusionProcess) -> str | None:
    """Why a process has no likelihood, to be said of it; None: it has one."""
    if isinstance(process, PhaseDiffusion):
        return None
    if isinstance(process, EuclideanDiffusion):
        return {
            "intensity": None,
            "circle": "reads angles as points of the plane, in which the circle has no density",
            "angle": "reads angles as numbers that are cut at pi",
        }[process.reading]
    if not isinstance(process, HeatDissipation):
        return "has no likelihood that is known"
    if process.as_released:
        return "as released never trains the level that its evidence bound begins at"
    return None if process.delta else "without delta has no evidence bound"


def likelihood_unit(process: DiffusionProcess) -> Unit | None:
    """In which unit a process's likelihood is; None: it has none."""
    if why_no_likelihood(process) is not None:
        return None
    if isinstance(process, PhaseDiffusion) and process.reading == "angle":
        return "nats per phase"
    return "bits per dimension"


def likelihood_of(
    process: DiffusionProcess, predict: Predictor, images: Tensor, generator: torch.Generator
) -> Likelihood:
    """Find how likely a trained process finds images.

    Args:
        process: fitted.
        predict: the trained network, differentiable in the state.
        images: (B, C, H, W) as they are stored: uint8, or float32 angles in radians.
        generator: source of all randomness; its device is where it happens.

    Raises:
        ValueError: if the process has none, or the images do not fit.
    """
    if (reason := why_no_likelihood(process)) is not None:
        raise ValueError(f"{type(process).__name__} {reason}")
    asked = 0

    def counted(state: Tensor, step: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return predict(state, step)

    unit = likelihood_unit(process)
    assert unit is not None
    method: Method = "probability flow"
    if isinstance(process, HeatDissipation):
        method = "evidence bound"
        values = negative_elbo(process, counted, images, generator).bits_per_dimension
    elif isinstance(process, EuclideanDiffusion):
        values = flow_likelihood(process, counted, images, generator).bits_per_dimension
    else:
        assert isinstance(process, PhaseDiffusion)
        values = _of_phases(process, counted, images, generator)
    return Likelihood(values, unit, method, asked)


def _of_phases(
    process: PhaseDiffusion, predict: Predictor, images: Tensor, generator: torch.Generator
) -> Tensor:
    if process.reading == "angle":
        there = to_unit(images.to(generator.device))
        return negative_log_likelihood(process, predict, there, generator).nats
    spread = (2 * dequantised(images, generator) - 1).float()
    nats = negative_log_likelihood(process, predict, spread, generator).nats
    return bits_per_dimension(nats - math.log(2 * process.phase_margin * math.pi), 1)


def likelihood_evaluations(process: DiffusionProcess) -> tuple[int, bool]:
    """What a likelihood takes, without measuring one.

    Returns:
        Network evaluations for each image, and whether each is with a gradient.

    Raises:
        ValueError: if the process has none.
    """
    if (reason := why_no_likelihood(process)) is not None:
        raise ValueError(f"{type(process).__name__} {reason}")
    if isinstance(process, HeatDissipation):
        return process.steps, False
    if isinstance(process, EuclideanDiffusion):
        return 1 + 2 * min(process.steps - 1, EUCLIDEAN_JUMPS), True
    return 2 * min(process.steps, TORUS_JUMPS), True
