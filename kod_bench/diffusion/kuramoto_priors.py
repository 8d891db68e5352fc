"""Where sampling of phases can start, and how far that is from where forward chains end."""

from dataclasses import asdict

import torch
from torch import Tensor

from kod_bench.diffusion.circle import sample_von_mises
from kod_bench.diffusion.kuramoto_parameters import KuramotoDynamics
from kod_bench.diffusion.kuramoto_stationary import self_consistent_order
from kod_bench.diffusion.terminal import (
    EndStateLaw,
    TerminalMismatch,
    mean_vectors,
    terminal_mismatch,
)

#: Draws of a prior that are compared at once.
_CHUNK = 128


class KuramotoPriors:
    """The priors of a Kuramoto process.

    "von-mises" is i.i.d. around the reference phase, of the self-consistent concentration
    kappa = (K r + K_ref) / D at t = T. It is the stationary law for these last strengths, in
    continuous time: the forward chain comes close when it is long enough to forget its image
    (sum s_t^2 well above 1) and its last step short (s_T^2 well below 1), and the coupling is
    below its critical strength 2 D or the reference strong. "matched" has the brightness and
    coherence with which chains really end, measured by `fit`; see `terminal.EndStateLaw`.

    Args:
        dynamics: noise and pulls of the steps.
        reference_phase: psi_ref, in radians.
        shape: (C, H, W) of a state.

    Attributes:
        concentration: kappa of the von Mises prior.
        order: r of the von Mises prior.
        mismatch: how far end states are from each prior; empty before `fit`.
    """

    names = ("matched", "von-mises")

    def __init__(
        self, dynamics: KuramotoDynamics, reference_phase: float, shape: tuple[int, int, int]
    ) -> None:
        coupling, reference, diffusion = (
            float(values[-1])
            for values in (dynamics.coupling, dynamics.reference, dynamics.noise_variance / 2)
        )
        self.order = self_consistent_order(coupling, reference, diffusion)
        self.concentration = (coupling * self.order + reference) / diffusion
        self.mismatch: dict[str, TerminalMismatch] = {}
        self._reference_phase = reference_phase
        self._shape = shape
        self._end_states: EndStateLaw | None = None

    def fit(self, ends: Tensor, generator: torch.Generator) -> None:
        """Learn the law of end states from their mean vectors, (N, C, 2); compare each prior."""
        count = len(ends)
        self._end_states = EndStateLaw(ends, self._shape[1] * self._shape[2])
        for name in self.names:
            drawn = [
                mean_vectors(self.draw(name, min(_CHUNK, count - first), generator))
                for first in range(0, count, _CHUNK)
            ]
            self.mismatch[name] = terminal_mismatch(
                ends.cpu(), torch.cat(drawn).cpu(), self._reference_phase
            )

    def draw(self, name: str, count: int, generator: torch.Generator) -> Tensor:
        """Draw phases from the prior of a name, (count, C, H, W).

        Raises:
            RuntimeError: if it is the matched one and `fit` was not called.
        """
        shape = (count, *self._shape)
        if name == "von-mises":
            return sample_von_mises(self._reference_phase, self.concentration, shape, generator)
        if self._end_states is None:
            raise RuntimeError(
                "the prior 'matched' is measured on training images: call fit(images, generator) "
                "before prior(), or choose the prior 'von-mises'"
            )
        return self._end_states.sample(shape, generator)

    def diagnostics(self, name: str) -> dict[str, float]:
        """The fields of `terminal_mismatch`; those of the end states are named terminal_*."""
        if name not in self.mismatch:
            return {}
        return {
            field if field.startswith("prior_") else f"terminal_{field}": value
            for field, value in asdict(self.mismatch[name]).items()
        }
