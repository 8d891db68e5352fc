"""The law that phases come to under noise, a reference and each other's mean field."""

import torch

from kod_bench.diffusion.circle import bessel_ratio


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
