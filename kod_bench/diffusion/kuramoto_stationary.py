"""The law that phases come to under noise, a reference and each other's mean field.

In continuous time it is von Mises. A chain of large steps comes to another, flatter one: each step
throws the phases beyond where the drift, as it was before the step, would have held them.
"""

import math

import torch
from torch import Tensor

from kod_bench.diffusion.circle import bessel_ratio

#: Modes beyond so many standard deviations of a law, e^-40 of it, are left out.
_DEVIATIONS = 9.0
#: Laws that need more modes are narrower than 0.005 rad.
_MOST_MODES = 2000


def self_consistent_order(coupling: float, reference: float, diffusion: float) -> float:
    """Order parameter r of the stationary law, ``r = I1(kappa) / I0(kappa)``.

    ``kappa = (K r + K_ref) / D``: each phase feels the reference and the mean field of the others,
    which is r along the reference. arXiv 2509.15328, its terminal distribution, with r solved for
    instead of measured.

    The ratio is concave in r, so Newton's method from r = 1 falls monotonically to the largest
    solution: the ordered one, where two exist.

    Args:
        coupling: K >= 0.
        reference: K_ref >= 0.
        diffusion: D > 0, in the same units of 1 / time.

    Returns:
        r in [0, 1], to 1e-12 (1e-5 at the critical K = 2D without a reference).
    """
    order = 1.0
    for _ in range(200):
        kappa = (coupling * order + reference) / diffusion
        ratio = float(bessel_ratio(torch.tensor(kappa, dtype=torch.float64)))
        # d(ratio)/d(kappa); its limit at 0 is 1/2, and for large kappa rounding can make it < 0.
        growth = max(0.0, 1 - ratio / kappa - ratio**2) if kappa > 1e-8 else 0.5
        slope = 1 - growth * coupling / diffusion
        if slope <= 0:  # by rounding alone, at the critical coupling: the two solutions have met
            break
        change = (ratio - order) / slope
        order += change
        if abs(change) < 1e-15:
            break
    return min(1.0, max(0.0, order))


def stationary_modes(coupling: float, reference: float, noise_variance: float) -> Tensor | None:
    """Fourier modes of the law that a step of finite length leaves as it is.

    For theta <- wrap(theta + K r sin(psi - theta) + K_ref sin(psi - theta) + s eps), with r the
    mean field of the others, and theta relative to psi. The law is symmetric, so that its modes
    q_n = E[cos(n theta)] are all there is to it. With R = K r + K_ref and

        cos(n (theta - R sin(theta))) = sum over m of c_nm cos(m theta)

    a step makes q_n <- e^{-n^2 s^2 / 2} sum_m c_nm q_m. For a given r the fixed point is a linear
    system; r = q_1 is found by bisection, the ordered solution where two exist.

    Args:
        coupling: K >= 0, in rad per step.
        reference: K_ref >= 0, likewise.
        noise_variance: s^2 > 0.

    Returns:
        (N + 1,) float64 q_0 = 1, q_1, ..., q_N, which are exact to rounding; None if the law is
        too narrow for that. As the steps get shorter they tend to those of the von Mises law.
    """
    pull = coupling + reference
    # No narrower than one step's noise, nor than where drift and noise balance.
    narrowest = noise_variance * max(1.0, 1 / (2 * pull) if pull > 0 else math.inf)
    count = 8 + math.ceil(_DEVIATIONS / math.sqrt(narrowest))
    if count > _MOST_MODES:
        return None
    if coupling == 0:
        return _modes_of_a_field(reference, noise_variance, count)
    low, high = -1.0, 1.0
    for _ in range(50):
        order = (low + high) / 2
        modes = _modes_of_a_field(coupling * order + reference, noise_variance, count)
        # At order 0 without a reference both sides are 0 up to rounding, and the ordered solution,
        # if there is one, lies above.
        if float(modes[1]) - order >= -1e-14:
            low = order
        else:
            high = order
    return modes


def _modes_of_a_field(field: float, noise_variance: float, count: int) -> Tensor:
    """(count + 1,) modes of the law that a step leaves as it is, in a field R that stays."""
    number = torch.arange(count + 1, dtype=torch.float64)
    # cos(n (theta - R sin(theta))) has modes up to about n (1 + R): no alias reaches those kept.
    nodes = 4 * math.ceil((count + 1) * (1 + abs(field)) + 16)
    angle = torch.arange(nodes, dtype=torch.float64) * (2 * math.pi / nodes)
    moved = torch.cos(number.unsqueeze(1) * (angle - field * angle.sin()))
    kernel = moved @ torch.cos(angle.unsqueeze(1) * number) * (2 / nodes)
    kernel[:, 0] /= 2
    kernel *= torch.exp(-0.5 * noise_variance * number.square()).unsqueeze(1)
    others = torch.linalg.solve(
        torch.eye(count, dtype=torch.float64) - kernel[1:, 1:], kernel[1:, 0]
    )
    return torch.cat([torch.ones(1, dtype=torch.float64), others])
