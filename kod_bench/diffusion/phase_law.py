r"""The law of one phase, given where it began and the fields it has felt since.

A phase X on the line moves in given fields F_u = R e^{i phi} by steps

    X' = X + R sin(phi - X) + s eps.

Its characteristic function q(w) = E[e^{-iwX}] obeys, by the Jacobi-Anger expansion,

    q'(w) = e^{-w^2 s^2 / 2} sum_j (-1)^j J_j(w R) e^{i j phi} q(w + j),

which never leaves the whole numbers: these are the Fourier coefficients of the density on the
circle, all turns included. Noise damps the high ones, so a few suffice, and with them

    d/dtheta log p(theta) = sum_n i n q(n) e^{i n theta} / sum_n q(n) e^{i n theta}.

It is what DDPM has in closed form: the score of the state given the image. Here the field stands
in for the image's other pixels.
"""

import math

import torch
from torch import Tensor

#: Coefficients n = 1..MODES are kept; q(0) is 1 and q(-n) is the conjugate of q(n).
MODES = 6

#: What may be left out of a coefficient.
_NEGLIGIBLE = 1e-4

#: Orders and terms of an expansion at most.
LONGEST = 16

#: Modes of the law that is taken for exact when the kept ones are judged.
_ENOUGH = 40
#: How far the density may be off, relatively, where it is smallest.
_ACCURACY = 0.01


def expansion(strengths: Tensor, elapsed: Tensor) -> tuple[int, int]:
    """Orders j of the sum, and terms of the Bessel functions' series, that fields need.

    Args:
        strengths: (T,) the largest R at each step.
        elapsed: (T,) the variance of the path's noise after it.

    Returns:
        (J, M): what more would add to any coefficient, at any step, is below 1e-4; at most
        `LONGEST` each, for fields so strong that `resolved_steps` finds none.
    """
    modes = torch.arange(1, MODES + 1, dtype=strengths.dtype)
    half = (strengths.outer(modes) / 2).clamp_min(1e-30).log()

    def negligible(power: int, divisor: float) -> bool:
        damping = elapsed.outer((modes - power).clamp_min(0).square()) / 2
        return float((power * half - divisor - damping).max()) < math.log(_NEGLIGIBLE)

    orders = range(1, LONGEST)
    reach = (j for j in orders if negligible(j + 1, math.lgamma(j + 2)))
    terms = (m for m in orders if negligible(2 * m + 2, 2 * math.lgamma(m + 2)))
    return next(reach, LONGEST), next(terms, LONGEST)


def resolved_steps(strengths: Tensor, widths: Tensor) -> Tensor:
    """Steps at which the modes kept make the density, whatever the fields do.

    Laws are narrow while the noise is little, and stay so where a strong field gathers it. Judged
    by the narrowest: a constant field of the largest strength, starts all around the circle, the
    density with `MODES` modes within 1 % of that with 40.

    Args:
        strengths: (T,) the largest R at each step.
        widths: (T,) s.

    Returns:
        (T,) bool.
    """
    orders = expansion(strengths, widths.square().cumsum(0))
    if LONGEST in orders:
        return torch.zeros(len(strengths), dtype=torch.bool)
    starts = torch.linspace(0, math.pi, 5, dtype=torch.float64).view(-1, 1, 1, 1)
    circle = torch.linspace(-math.pi, math.pi, 49, dtype=torch.float64)
    laws = [start_law(starts, count) for count in (MODES, _ENOUGH)]
    found = []
    for strength, width in zip(strengths.tolist(), widths.tolist(), strict=True):
        laws = [next_law(law, strength, 0.0, width, orders) for law in laws]
        kept, exact = (
            _density(law[..., 0, 0, 0, None] * _waves(circle, law.shape[1])) for law in laws
        )
        off = (kept - exact).abs()
        found.append(bool((off < _ACCURACY * exact).all()))
    return torch.tensor(found)


def start_law(state: Tensor, modes: int = MODES) -> Tensor:
    """The law of phases that stand still: (B, C, H, W) -> (B, modes, C, H, W) complex."""
    angle = -_modes(state, modes) * state.unsqueeze(1)
    return torch.polar(torch.ones_like(angle), angle)


def next_law(
    law: Tensor,
    real: float | Tensor,
    imaginary: float | Tensor,
    std: float | Tensor,
    orders: tuple[int, int],
) -> Tensor:
    """The law one step later.

    Args:
        law: q(1), q(2), ..., (B, modes, C, H, W) complex.
        real: real part of the field, R cos(phi), broadcastable to (B, C, H, W).
        imaginary: its imaginary part.
        std: s, broadcastable.
        orders: of `expansion`.
    """
    reach, terms = orders
    number = law.shape[1]
    modes = _modes(law.real[:, 0], number)
    field = torch.complex(_plane(real, modes), _plane(imaginary, modes))
    half = modes / 2
    argument = -half.square() * (field.real.square() + field.imag.square())

    # n = -reach..modes + reach; what is not kept counts as zero.
    nothing = law.new_zeros(()).expand(len(law), reach, *law.shape[2:])
    mirrored = torch.cat([nothing, law.flip(1).conj()], dim=1)[:, -reach:]
    reached = torch.cat([mirrored, torch.ones_like(law[:, :1]), law, nothing], dim=1)

    def near(offset: int) -> Tensor:
        first = reach + 1 + offset
        return reached[:, first : first + number]

    # In place: these planes are many, and memory is what this costs.
    total = _bessel_series(argument, 0, terms) * law
    power = torch.ones_like(field)
    for j in range(1, reach + 1):
        power = power * field
        weight = half**j * _bessel_series(argument, j, terms) * power
        # J_{-j} = (-1)^j J_j: the sign is on the term of +j alone.
        total.addcmul_(weight, near(j), value=(-1) ** j)
        total.addcmul_(weight.conj_physical_(), near(-j))
    variance = _plane(std, modes).square()
    return total.mul_(torch.exp(-modes.square() * variance / 2))


def conditional_score(law: Tensor, state: Tensor) -> Tensor:
    """d/dtheta log p(theta), per radian: (B, C, H, W).

    Only at `resolved_steps`: before, the modes kept do not make a density.
    """
    modes = _modes(state, law.shape[1])
    angle = modes * state.unsqueeze(1)
    waves = law * torch.polar(torch.ones_like(angle), angle)
    slope = -2 * (modes * waves.imag).sum(1)
    return slope / _density(waves)


def pack(law: Tensor) -> Tensor:
    """As real planes, (B, 2 MODES, C, H, W)."""
    return torch.cat([law.real, law.imag], dim=1)


def unpack(planes: Tensor) -> Tensor:
    """The inverse of `pack`."""
    real, imaginary = planes.chunk(2, dim=1)
    return torch.complex(real.contiguous(), imaginary.contiguous())


def _modes(state: Tensor, number: int) -> Tensor:
    modes = torch.arange(1, number + 1, device=state.device, dtype=state.dtype)
    return modes.view(1, -1, 1, 1, 1)


def _waves(angle: Tensor, number: int) -> Tensor:
    """e^{i n theta}: (A,) -> (number, A)."""
    phase = torch.arange(1, number + 1, dtype=angle.dtype).unsqueeze(1) * angle
    return torch.polar(torch.ones_like(phase), phase)


def _density(waves: Tensor) -> Tensor:
    """2 pi p(theta), from q(n) e^{i n theta} with the modes in dimension 1."""
    return 1 + 2 * waves.real.sum(1)


def _plane(value: float | Tensor, like: Tensor) -> Tensor:
    """A number, or (B, ...), as (1 or B, 1, ...): ready to meet the modes."""
    if isinstance(value, Tensor):
        return value.unsqueeze(1)
    return torch.full((1, 1, 1, 1, 1), value, device=like.device, dtype=like.dtype)


def _bessel_series(argument: Tensor, order: int, terms: int) -> Tensor:
    """``sum_m a^m / (m! (m + j)!)``, so that J_j(x) = (x / 2)^j times it at a = -(x / 2)^2."""
    total = torch.full_like(argument, 1 / (math.factorial(terms) * math.factorial(terms + order)))
    for m in range(terms - 1, -1, -1):
        total = total * argument + 1 / (math.factorial(m) * math.factorial(m + order))
    return total
