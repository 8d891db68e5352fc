"""The forward walk of Kuramoto chains: many chains, each at its own t, many steps, few calls."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kod_bench.diffusion import phase_law
from kod_bench.diffusion.circle import wrap, wrapped_normal_score
from kod_bench.diffusion.constants import DeviceConstant
from kod_bench.diffusion.kuramoto_parameters import KuramotoDynamics
from kod_bench.diffusion.phase_flow import MeanField

#: Noise narrower than this never wraps: e^-60 of it, at six standard deviations.
_NEVER_WRAPS = 1 / 3
#: Steps whose noise is drawn at once: more take memory, fewer take calls.
_BLOCK = 8


@dataclass(frozen=True)
class _Block:
    """What some consecutive steps need, for (B, C, H, W) chains: one entry per step in each."""

    increments: list[Tensor]
    """(planes, B, C, H, W): s eps for theta, (1 - rho) / s eps for H."""
    weighed: list[Tensor]
    """(B, C, H, W): rho / s eps, the noise as it enters the pull-back."""
    keep: list[Tensor]
    """(planes, B, 1, 1, 1): what of a plane stays: 1 of theta, rho of H."""
    coupling: list[Tensor]
    """(B, 1, 1, 1): K."""
    reference: list[Tensor]
    """(2 or 4, B, 1, 1, 1): K_ref e^{i psi_ref}, which pulls a phase but answers to none."""
    std: list[Tensor]
    """(B, 1, 1, 1): s."""


class KuramotoWalk:
    """Forward steps of chains with the estimates that they carry along.

    A chain is planes, as `kuramoto_target.ChainTarget` has them. One step of theta and of H is

        theta' = theta + Im(F conj(z)) + s eps
        H' = rho H + (1 - rho) / s eps + Re(F conj(z)) e - Re(V conj(z)),    e = rho / s eps

    with z = e^{i theta}, F the field that a phase feels and V = K times the mean field of e z: the
    recursion of `path_weight`, its pull-back written out. One pass through the mean field serves
    both. Nothing waits for the device, the noise of several steps is drawn at once, all arithmetic
    is in place, and phases are wrapped where the walk ends: a step takes some fifteen calls of
    operators, whatever the number of chains.

    Args:
        dynamics: noise and pulls of the steps.
        gains: (T,) rho of `path_weight.path_gains`.
        reference_phase: psi_ref, in radians.
        mean_field: None for uncoupled phases.
        one_step: whether chains carry the estimate of one step alone.
        conditional: whether they carry the estimate of the phase alone, and its law, too.
    """

    def __init__(
        self,
        dynamics: KuramotoDynamics,
        gains: Tensor,
        *,
        reference_phase: float,
        mean_field: MeanField | None,
        one_step: bool,
        conditional: bool,
    ) -> None:
        std = dynamics.noise_variance.sqrt()
        phase = torch.tensor(reference_phase, dtype=torch.float64)
        columns = [
            std,
            (1 - gains) / std,
            gains / std,
            gains,
            dynamics.coupling,
            dynamics.reference * phase.cos(),
            dynamics.reference * phase.sin(),
        ]
        table = torch.stack([column.double() for column in columns])
        # At t = 0 and before nothing happens: nothing is added, and H is kept.
        still = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
        self._table = DeviceConstant(torch.cat([still.unsqueeze(1), table], dim=1))
        self._wraps = float(std.max()) > _NEVER_WRAPS
        self._mean_field = mean_field
        self._one_step = one_step
        self._orders: tuple[int, int] | None = None
        if conditional:
            strongest = dynamics.coupling + dynamics.reference
            self._orders = phase_law.expansion(strongest, dynamics.noise_variance.cumsum(0))

    @torch.no_grad()
    def __call__(
        self, chains: Tensor, step: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Make the steps step + 1..step + count of each chain.

        Args:
            chains: (B, P, C, H, W), each at its own t, `step`.
            step: (B,) int64, at most T - count; a chain whose `step` is negative stands still until
                it is 0.
            count: how many, at least 1.
            generator: source of the noise.

        Returns:
            The chains at step + count, a tensor of their own.
        """
        number = 3 if self._orders is not None else 2
        planes = chains[:, :number].transpose(0, 1).contiguous()
        if planes.data_ptr() == chains.data_ptr():
            planes = planes.clone()
        law = None if self._orders is None else phase_law.unpack(chains[:, 3:])
        for first in range(0, count, _BLOCK):
            length = min(_BLOCK, count - first)
            block = self._prepare(planes, step + first, length, generator)
            law = self._take(planes, law, block, length)
        planes[0] = wrap(planes[0])
        walked = planes.transpose(0, 1)
        if law is None:
            return walked.contiguous()
        return torch.cat([walked, phase_law.pack(law)], dim=1)

    def _prepare(
        self, planes: Tensor, step: Tensor, length: int, generator: torch.Generator
    ) -> _Block:
        """Draw the noise of the steps step + 1..step + length and look up their numbers."""
        number, samples = planes.shape[:2]
        table = self._table.on(planes.device, planes.dtype)
        ahead = torch.arange(1, length + 1, device=planes.device).unsqueeze(1)
        # (7, length, B, 1, 1, 1)
        looked_up = table[:, (step + ahead).clamp_min(0)].view(7, length, samples, 1, 1, 1)
        std, fresh, weigh, gain, coupling, *_ = looked_up.unbind()
        noise = torch.randn(
            (length, *planes.shape[1:]),
            generator=generator,
            device=generator.device,
            dtype=planes.dtype,
        )
        increments = noise.new_empty(length, number, *planes.shape[1:])
        torch.mul(std, noise, out=increments[:, 0])
        # A step so wide that it wraps leaves its turns in doubt: average over them. H is linear
        # in every eps, and given the wrapped path these are independent.
        if self._wraps:
            safe = torch.where(std > 0, std, 1.0)  # where the chain stands still it counts for 0
            noise = -safe * wrapped_normal_score(increments[:, 0], safe)
        increments[:, 1:] = (fresh * noise).unsqueeze(1)
        weighed = [] if self._one_step else list((weigh * noise).unbind())
        keep = torch.stack([torch.ones_like(gain), *[gain] * (number - 1)], dim=1)
        reference = looked_up[5:]
        if not self._one_step:
            reference = torch.cat([reference, torch.zeros_like(reference)])
        return _Block(
            list(increments.unbind()),
            weighed,
            list(keep.unbind()),
            list(coupling.unbind()),
            list(reference.unbind(1)),
            list(std.unbind()),
        )

    def _take(
        self, planes: Tensor, law: Tensor | None, block: _Block, length: int
    ) -> Tensor | None:
        """Take the steps of a block, in place but for the law, which is returned."""
        theta, *weights = planes.unbind()
        waves = planes.new_empty(2 if self._one_step else 4, *theta.shape)
        cosine, sine, *weighed = waves.unbind()
        point, pair = waves[:2], waves[2:]
        pulls: Tensor | None = None
        if self._mean_field is not None:
            pulls, refresh = self._mean_field.of(waves)
            real, imaginary, *answers = pulls.unbind()
        for k in range(length):
            torch.cos(theta, out=cosine)
            torch.sin(theta, out=sine)
            if weighed:
                torch.mul(point, block.weighed[k], out=pair)
            if pulls is None:
                real, imaginary, *answers = block.reference[k].unbind()[:2]
            else:
                refresh()
                torch.addcmul(block.reference[k], pulls, block.coupling[k], out=pulls)
            torch.addcmul(block.increments[k], planes, block.keep[k], out=planes)
            theta.addcmul_(imaginary, cosine).addcmul_(real, sine, value=-1)
            if weighed:
                for weight in weights:
                    weight.addcmul_(real, weighed[0]).addcmul_(imaginary, weighed[1])
            if answers:
                weights[0].addcmul_(cosine, answers[0], value=-1)
                weights[0].addcmul_(sine, answers[1], value=-1)
            if law is not None and self._orders is not None:
                law = phase_law.next_law(law, real, imaginary, block.std[k], self._orders)
        return law
