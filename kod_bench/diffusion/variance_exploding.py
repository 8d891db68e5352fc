"""Variance exploding diffusion: the image stays, and ever larger noise covers it."""

import math

from torch import Tensor

from kod_bench.diffusion.checks import check_count, check_number
from kod_bench.diffusion.constants import linear_ramp
from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading


def geometric_sigmas(sigma_min: float, sigma_max: float, steps: int) -> Tensor:
    """(T,) float64 sigma_t, in a constant ratio, from sigma_min to sigma_max; the latter for T = 1.

    arXiv 2011.13456, appendix C.
    """
    return linear_ramp(math.log(sigma_min), math.log(sigma_max), steps).exp()


class VarianceExploding(EuclideanDiffusion):
    r"""Score matching with Langevin dynamics in continuous time (VE; arXiv 2011.13456).

    The noisy image is y_t = x_0 + sigma_t eps, sigma_t geometric (section 3.4). The state is

        x_t = y_t / sqrt(1 + sigma_t^2),

    the same process in a frame where its variance stays near 1, which is what a network can read.
    It predicts eps, weight 1: the score -eps / sigma_t with the paper's weight sigma_t^2
    (eq. 7). The sampler "ancestral" is its eq. 47; "ddim" is Euler's method for its probability
    flow, dy = eps d sigma; see `EuclideanDiffusion`. The prior is standard normal.

    Args:
        shape: (C, H, W).
        steps: T.
        sigma_min: noise of the first step, in units in which images span [-1, 1]. The paper's,
            for images in [0, 1], is 0.01.
        sigma_max: of the last one. The paper's is 50 on CIFAR-10: about the largest distance
            between two images there. For one gray channel half of it would do.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle" or as the number "angle".

    Raises:
        ValueError: if a parameter is out of range.
    """

    angle_readings = PIXEL_ANGLE_READINGS

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        reading: Reading = "intensity",
    ) -> None:
        check_count("steps", steps)
        check_number("sigma_min", sigma_min, 0, open_low=True)
        check_number("sigma_max", sigma_max, sigma_min, open_low=True)
        sigma = geometric_sigmas(sigma_min, sigma_max, steps)
        signal = (1 + sigma.square()).rsqrt()
        super().__init__(shape, signal, signal * sigma, reading=reading)
