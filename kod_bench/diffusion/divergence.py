"""The divergence of a function of states, estimated: what a probability flow does to a density."""

from collections.abc import Callable

import torch
from torch import Tensor


def with_divergence(
    function: Callable[[Tensor], Tensor], state: Tensor, probes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A function of the state, and Hutchinson's estimate of its divergence.

    div f = E[e^T (df / dx) e] with e = +-1, independent: unbiased, and exact where the Jacobian is
    diagonal.

    Args:
        function: differentiable, (B, C, H, W) -> the same; each sample's own.
        state: (B, C, H, W).
        probes: e drawn, over which the estimate is a mean.
        generator: their source.

    Returns:
        Its value, without gradients, and (B,) float64 on the CPU.
    """
    with torch.enable_grad():
        start = state.detach().requires_grad_()
        end = function(start)
        found = torch.zeros(len(state), dtype=torch.float64)
        for probe in range(probes):
            side = torch.randint(
                0, 2, state.shape, generator=generator, device=state.device, dtype=torch.int64
            )
            sign = (2 * side - 1).to(state.dtype)
            (pulled,) = torch.autograd.grad(end, start, sign, retain_graph=probe + 1 < probes)
            found += (pulled * sign).flatten(1).sum(1).detach().cpu().double()
    return end.detach(), found / probes
