"""Where sampling of phases can start, and how far that is from where forward chains end."""

import functools
import math
from dataclasses import asdict

import torch
from torch import Tensor

from kod_bench.diffusion.circle import (
    sample_von_mises,
    symmetric_quantile,
    von_mises_density,
    wrap,
)
from kod_bench.diffusion.constants import DeviceConstant
from kod_bench.diffusion.correlated_ends import (
    CorrelatedEndStateLaw,
    EndStatistics,
    correlation_distance,
)
from kod_bench.diffusion.kuramoto_parameters import KuramotoDynamics
from kod_bench.diffusion.kuramoto_stationary import self_consistent_order, stationary_modes
from kod_bench.diffusion.terminal import (
    EndStateLaw,
    TerminalMismatch,
    terminal_mismatch,
)

#: Draws of a prior that are compared at once.
_CHUNK = 128
#: Of the half circle, in the table of the stationary law.
_TABLE_NODES = 8192


class KuramotoPriors:
    """The priors of a Kuramoto process.

    "von-mises" is i.i.d. around the reference phase, of the self-consistent concentration
    kappa = (K r + K_ref) / D at t = T. It is the stationary law for these last strengths, in
    continuous time: the forward chain comes close when it is long enough to forget its image
    (sum s_t^2 well above 1) and its last step short (s_T^2 well below 1), and the coupling is
    below its critical strength 2 D or the reference strong. "stationary" is the same for the last
    step as it is made, of finite length: the fixed point of its kernel, i.i.d. and flatter the
    fewer the steps, see `stationary_modes`. "matched" has the brightness and coherence with which
    chains really end, measured by `fit`; see `terminal.EndStateLaw`. "correlated" has these and
    the two-point correlation of the ends, too, which local coupling leaves behind; see
    `correlated_ends`.

    Args:
        dynamics: noise and pulls of the steps.
        reference_phase: psi_ref, in radians.
        shape: (C, H, W) of a state.

    Attributes:
        concentration: kappa of the von Mises prior.
        order: r of the von Mises prior.
        mismatch: how far end states are from each prior; empty before `fit`.
        correlation_distance: rms difference of the two-point correlation, likewise.
    """

    names = ("matched", "von-mises", "stationary", "correlated")

    def __init__(
        self, dynamics: KuramotoDynamics, reference_phase: float, shape: tuple[int, int, int]
    ) -> None:
        coupling, reference, diffusion = (
            float(values[-1])
            for values in (dynamics.coupling, dynamics.reference, dynamics.noise_variance / 2)
        )
        self._last_step = (coupling, reference, 2 * diffusion)
        self.order = self_consistent_order(coupling, reference, diffusion)
        self.concentration = (coupling * self.order + reference) / diffusion
        self.mismatch: dict[str, TerminalMismatch] = {}
        self.correlation_distance: dict[str, float] = {}
        self._reference_phase = reference_phase
        self._shape = shape
        self._end_states: dict[str, EndStateLaw | CorrelatedEndStateLaw] = {}

    def fit(self, ends: EndStatistics, generator: torch.Generator) -> None:
        """Learn the laws of end states; compare each prior with them."""
        count = len(ends.vectors)
        pixels = self._shape[1] * self._shape[2]
        self._end_states = {"matched": EndStateLaw(ends.vectors, pixels)}
        for name in self.names:
            if name == "correlated":  # last, so that the others draw what they drew without it
                self._end_states[name] = CorrelatedEndStateLaw(ends, generator)
            drawn = EndStatistics()
            for first in range(0, count, _CHUNK):
                drawn.add(self.draw(name, min(_CHUNK, count - first), generator))
            self.mismatch[name] = terminal_mismatch(
                ends.vectors.cpu(), drawn.vectors.cpu(), self._reference_phase
            )
            self.correlation_distance[name] = correlation_distance(ends.spectrum, drawn.spectrum)

    def draw(self, name: str, count: int, generator: torch.Generator) -> Tensor:
        """Draw phases from the prior of a name, (count, C, H, W).

        Raises:
            RuntimeError: if it is one of end states and `fit` was not called.
        """
        shape = (count, *self._shape)
        if name == "von-mises":
            return sample_von_mises(self._reference_phase, self.concentration, shape, generator)
        if name == "stationary":
            return self._draw_stationary(shape, generator)
        if name not in self._end_states:
            raise RuntimeError(
                f"the prior {name!r} is measured on training images: call fit(images, generator) "
                "before prior(), or choose the prior 'von-mises'"
            )
        return self._end_states[name].sample(shape, generator)

    def _draw_stationary(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        device = generator.device
        inside = torch.float32 if device.type == "mps" else torch.float64
        nodes, density = (table.on(device, inside) for table in self._stationary)
        uniform = torch.rand(shape, generator=generator, device=device, dtype=inside)
        offset = symmetric_quantile(uniform, nodes, density)
        return wrap((self._reference_phase + offset).float())

    @functools.cached_property
    def _stationary(self) -> tuple[DeviceConstant, DeviceConstant]:
        """Distances from the reference phase and the density there, (1, N) each."""
        nodes = torch.linspace(0, math.pi, _TABLE_NODES, dtype=torch.float64)
        modes = stationary_modes(*self._last_step)
        if modes is None:  # as narrow as that, von Mises is as good
            density = von_mises_density(nodes, self.concentration)
        else:
            numbers = torch.arange(1, len(modes), dtype=torch.float64)
            # Rounding may leave less than nothing where the law has vanished.
            density = (1 + 2 * torch.cos(nodes.unsqueeze(1) * numbers) @ modes[1:]).clamp_min(0)
        return DeviceConstant(nodes.unsqueeze(0)), DeviceConstant(density.unsqueeze(0))

    def diagnostics(self, name: str) -> dict[str, float]:
        """The fields of `terminal_mismatch`; those of the end states are named terminal_*.

        And ``prior_correlation_distance``.
        """
        if name not in self.mismatch:
            return {}
        fields = {
            field if field.startswith("prior_") else f"terminal_{field}": value
            for field, value in asdict(self.mismatch[name]).items()
        }
        return {**fields, "prior_correlation_distance": self.correlation_distance[name]}
