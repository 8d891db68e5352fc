"""What a Kuramoto network regresses on: the estimate of the score that a chain carries along."""

import functools
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion import phase_law
from kod_bench.diffusion.checks import check_choice
from kod_bench.diffusion.circle import wrap, wrapped_normal_score
from kod_bench.diffusion.constants import StepTable
from kod_bench.diffusion.kuramoto_parameters import KuramotoDynamics
from kod_bench.diffusion.path_weight import next_weight, path_gains
from kod_bench.diffusion.phase_flow import PhaseFlow
from kod_bench.diffusion.process import standard_normal

Target = Literal["path", "conditional", "one-step"]
LossWeight = Literal["unit", "likelihood", "released"]

#: Noise narrower than this never wraps: e^-60 of it, at six standard deviations.
_NEVER_WRAPS = 1 / 3


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
        self._std = StepTable(dynamics.noise_variance.sqrt())
        self._wraps = float(dynamics.noise_variance.max()) > _NEVER_WRAPS**2
        self._strongest_field = dynamics.coupling + dynamics.reference
        # For scattered phases the squared cosine of a pull averages 1/2.
        slope_variance = (dynamics.coupling.square() + dynamics.reference.square()) / 2
        gains, self.rms = path_gains(dynamics.noise_variance, slope_variance, memory)
        self._gain = StepTable(gains)

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

    def advance(
        self, chains: Tensor, step: Tensor, flow: PhaseFlow, generator: torch.Generator
    ) -> Tensor:
        """Chains at t from those at t - 1, with the flow there; t is (B,) int64."""
        state, weight = chains[:, 0], chains[:, 1]
        std = self._std.at(step, state)
        noise = standard_normal(state, generator)
        after = wrap(state + flow.drift() + std * noise)
        # A step so wide that it wraps leaves its turns in doubt: average over them. H is linear
        # in every eps, and given the wrapped path these are independent.
        if self._wraps:
            noise = -std * wrapped_normal_score(std * noise, std)
        if self.one_step:
            return torch.stack([after, noise / std], dim=1)
        gain = self._gain.at(step, state)
        weight = next_weight(weight, noise, flow.pull_back(noise), gain, std)
        planes = torch.stack([after, weight], dim=1)
        if not self._conditional:
            return planes
        alone = next_weight(chains[:, 2], noise, flow.slope() * noise, gain, std)
        law = phase_law.next_law(
            phase_law.unpack(chains[:, 3:]), flow.real, flow.imaginary, std, self._orders
        )
        return torch.cat([planes, alone.unsqueeze(1), phase_law.pack(law)], dim=1)

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
    def _orders(self) -> tuple[int, int]:
        return phase_law.expansion(self._strongest_field, self._std.values.square().cumsum(0))

    @functools.cached_property
    def _resolved(self) -> StepTable:
        """1 where the phase's law is known well enough, else 0."""
        resolved = phase_law.resolved_steps(self._strongest_field, self._std.values)
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
