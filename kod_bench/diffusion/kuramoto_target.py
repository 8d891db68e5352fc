"""What a Kuramoto network regresses on: the estimate of the score that a chain carries along."""

import functools
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion import phase_law
from kod_bench.diffusion.checks import check_choice
from kod_bench.diffusion.constants import StepTable
from kod_bench.diffusion.kuramoto_parameters import KuramotoDynamics
from kod_bench.diffusion.kuramoto_walk import KuramotoWalk
from kod_bench.diffusion.path_weight import path_gains
from kod_bench.diffusion.phase_flow import MeanField

Target = Literal["path", "conditional", "one-step"]
LossWeight = Literal["unit", "likelihood", "released"]


class ChainTarget:
    """An estimate of -score at the end of a chain, made step by step from the chain's own noise.

    With the target "one-step" it is that of one step's wrapped normal kernel. With "path" it is H_t
    of `path_weight`, from the noise of the whole path: exact too, coupled or not, with a variance
    many times lower. With "conditional" the part of H_t which a phase owes to its own path is
    replaced by its mean given where the phase began, where it is and the fields it has felt on the
    way, which `phase_law` knows:

        H_t - H_t(alone) - d/dtheta log p(theta_t | theta_0, fields)

    with H_t(alone) the same recursion with the fields held fixed. Nothing random is left but the
    others' answers. Exact without coupling; with it, up to the phase's own share in its field,
    1 / (C H W) if global and 1 / (2R + 1)^2 in a box.

    Chains are planes, (B, P, C, H, W): theta, what else the estimate remembers after it.

    Args:
        dynamics: noise and pulls of the steps.
        target: which of the three.
        memory: of "path", as for `KuramotoDiffusion`.

    Attributes:
        one_step: whether the estimate is that of one step alone.
        rms: (T,) root mean square of the estimate that `path_gains` predicts.

    Raises:
        ValueError: if there is no such target, or the memory is not for it.
    """

    def __init__(self, dynamics: KuramotoDynamics, target: Target, memory: int | None) -> None:
        check_choice("target", target, Target)
        if target != "path" and memory not in ((None, 1) if target == "one-step" else (None,)):
            raise ValueError(f"memory is {memory} but target is {target!r}; leave one of them out")
        memory = 1 if target == "one-step" else memory
        self.one_step = memory == 1
        self._conditional = target == "conditional"
        self._dynamics = dynamics
        # For scattered phases the squared cosine of a pull averages 1/2.
        slope_variance = (dynamics.coupling.square() + dynamics.reference.square()) / 2
        self._gains, self.rms = path_gains(dynamics.noise_variance, slope_variance, memory)

    def start(self, state: Tensor) -> Tensor:
        """Chains at t = 0 from states, (B, C, H, W).

        P is 2, theta and H; with the target "conditional" 15: also H of the phase alone, and the
        phase's law.
        """
        chains = torch.stack([state, torch.zeros_like(state)], dim=1)
        if not self._conditional:
            return chains
        law = phase_law.pack(phase_law.start_law(state))
        return torch.cat([chains, torch.zeros_like(chains[:, :1]), law], dim=1)

    def walk(self, reference_phase: float, mean_field: MeanField | None) -> KuramotoWalk:
        """What takes such chains along, given psi_ref and the field that phases feel."""
        return KuramotoWalk(
            self._dynamics,
            self._gains,
            reference_phase=reference_phase,
            mean_field=mean_field,
            one_step=self.one_step,
            conditional=self._conditional,
        )

    def estimate(self, chains: Tensor, step: Tensor) -> Tensor:
        """The estimate of -score at chains' ends, (B, C, H, W), per radian; t is (B,) int64."""
        weight = chains[:, 1]
        if not self._conditional:
            return weight
        law = phase_law.unpack(chains[:, 3:])
        averaged = weight - chains[:, 2] - phase_law.conditional_score(law, chains[:, 0])
        # While the law is too narrow for its modes, few paths have gone round, and H is as good.
        return torch.where(self._resolved.at(step, weight) > 0, averaged, weight)

    @functools.cached_property
    def _resolved(self) -> StepTable:
        """1 where the phase's law is known well enough, else 0."""
        dynamics = self._dynamics
        resolved = phase_law.resolved_steps(
            dynamics.coupling + dynamics.reference, dynamics.noise_variance.sqrt()
        )
        return StepTable(resolved.double())


def loss_weights(kind: LossWeight, scale: StepTable, noise_std: StepTable) -> StepTable:
    """(T,) weights of the squared error of the prediction, mean 1.

    Args:
        kind: of the weight, by the power of the noise's variance that it has on the score's error.
        scale: the prediction is scale times the score.
        noise_std: of each forward step.
    """
    power = {"unit": 0, "likelihood": 1, "released": 2}[kind]
    error = scale.values.reciprocal().square() if power else torch.ones_like(scale.values)
    weights = noise_std.values.square() ** power * error
    return StepTable(weights / weights.mean())
