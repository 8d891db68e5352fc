r"""A low-variance, unbiased estimate of the score of a chain that has no closed-form marginal.

A chain moves by a map and Gaussian noise, and A_t is the map's Jacobian:

    theta_t = F_t(theta_{t-1}) + s_t eps_t,    A_t = dF_t(theta_{t-1}) = I + J_t

Carry one number per coordinate, with gains rho_t that depend on t alone and rho_1 = 0:

    H_t = rho_t (H_{t-1} - J_t^T eps_t / s_t) + (1 - rho_t) eps_t / s_t

Then E[-H_t | theta_t] is the gradient of log p_t at theta_t: for any distribution of the data, any
map, coupled or not, and any such gains.

Proof. Let lambda_u be the product of rho_{u+1}..rho_t, so lambda_t = 1, lambda_0 = 0. Displace the
whole path by theta_u + h lambda_u v, for a fixed direction v. The noise that makes this path is
eps_u + (h / s_u) (lambda_u v - lambda_{u-1} A_u v) + O(h^2): its change depends on earlier noise
only, so the map between the two noises has determinant 1, and the displaced path has the density of
the old one times 1 - h v^T H_t, with H_t the sum over u of (lambda_u - lambda_{u-1} A_u^T)
eps_u / s_u. The end of the path is displaced by h v, hence E[v^T grad f(theta_t)] =
E[f(theta_t) v^T H_t] for every test function f; integrate by parts. The sum obeys the recursion
above. Wrapping changes nothing: derivatives do not see it.

This is the formula of Bismut, Elworthy and Li (J. Funct. Anal. 125, 1994) in discrete time, run
backwards from the end. With every rho = 0 it is the score of one step, -eps / s: denoising score
matching as in arXiv 2509.15328. Without a map (J = 0) and with the best gains it is the sum of
s eps over the sum of s^2: the score of the whole path, as DDPM has it.

Unlike a weight with the path's own Malliavin covariance (sum_u A^2..A^2 s_u^2), it needs no second
derivatives, does not divide by something random, and is exact when coordinates are coupled.
"""

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_count


def next_weight(
    weight: Tensor, noise: Tensor, pulled_back: Tensor, gain: float | Tensor, std: float | Tensor
) -> Tensor:
    """H_t from H_{t-1}: the recursion as it stands above, to which `kuramoto_walk` is held.

    Args:
        weight: H_{t-1}, (B, ...), in 1 / units of the state; anything finite at t = 0.
        noise: eps_t, the same shape.
        pulled_back: J_t^T eps_t.
        gain: rho_t, broadcastable.
        std: s_t, broadcastable.
    """
    return gain * weight + (noise - gain * (noise + pulled_back)) / std


def path_gains(
    noise_variance: Tensor, slope_variance: Tensor, memory: int | None = None
) -> tuple[Tensor, Tensor]:
    """Gains rho_t that keep the variance of H_t least, and the rms of H_t they lead to.

    eps_t is independent of what was before, so for coordinates alike and traceless J

        E[H_t^2] = rho^2 E[H_{t-1}^2] + ((1 - rho)^2 + rho^2 j_t) / s_t^2,

    least at rho = 1 / (1 + j_t + s_t^2 E[H_{t-1}^2]). A wrong j costs variance, never a bias.

    Args:
        noise_variance: (T,) s_t^2 > 0.
        slope_variance: (T,) j_t >= 0, the mean square of a row of J_t (summed over the row).
        memory: caps rho at 1 - 1 / memory: then noise of about that many steps enters, and a
            memory of 1 is the score of one step. None leaves it to the optimum.

    Returns:
        (T,) gains in [0, 1), the first 0, and (T,) rms of H_t.

    Raises:
        ValueError: if the memory is less than 1.
    """
    cap = 1.0 if memory is None else 1 - 1 / check_count("memory", memory)
    gains, squares = [], []
    square = float("inf")
    for variance, slope in zip(noise_variance.tolist(), slope_variance.tolist(), strict=True):
        gain = min(cap, 1 / (1 + slope + variance * square))
        # 0 * inf at the first step is 0: there is no past.
        past = gain**2 * square if gain > 0 else 0.0
        square = past + ((1 - gain) ** 2 + gain**2 * slope) / variance
        gains.append(gain)
        squares.append(square)
    return (
        torch.tensor(gains, dtype=torch.float64),
        torch.tensor(squares, dtype=torch.float64).sqrt(),
    )
