"""Angles: wrapping, circular averages, and the two densities a phase diffusion needs.

Angles are in radians. Functions are elementwise unless they say otherwise, work in the dtype and
on the device of their arguments, and never modify them.
"""

import math

import torch
from torch import Tensor

TWO_PI = 2 * math.pi

#: Exponents of images are cut here: e^-40 counts for nothing beside 1, and its square is still a
#: number of float32; what underflows a CPU computes ten times slower.
_NEGLIGIBLE = -40.0

#: The widest normal that `wrapped_normal_*` represents faithfully. At this width it is uniform to
#: 7e-4, so nothing is lost by refusing wider ones. Of the images of the real line three are kept on
#: either side: the error of the density is below 1e-15 for a standard deviation up to 2, and 9e-6
#: at this one.
MAX_WRAPPED_STD = 4.0

#: Nodes and half-width, in standard deviations, of the table that inverts the von Mises law:
#: the tail beyond it holds less than 1e-15, a cell errs by less than 1e-6 in probability.
_TABLE_NODES = 8192
#: Nodes of each table where there are many.
_TABLE_NODES_EACH = 2048
_TABLE_HALF_WIDTH = 9.0


def wrap(angle: Tensor) -> Tensor:
    """Map angles to [-pi, pi); those already inside come back bit for bit."""
    wrapped = angle - TWO_PI * torch.floor((angle + math.pi) / TWO_PI)
    # Rounding can leave an angle on +pi or a hair below -pi: both are -pi.
    return torch.where(wrapped >= math.pi, -math.pi, wrapped).clamp_min(-math.pi)


def uniform_phases(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Angles uniform on [-pi, pi), float32, on the generator's device."""
    return wrap(TWO_PI * torch.rand(shape, generator=generator, device=generator.device) - math.pi)


def circular_mean(angle: Tensor, dim: int | tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """Direction of the mean of e^{i angle} over `dim`, in [-pi, pi]; arbitrary where r = 0."""
    return torch.atan2(angle.sin().mean(dim), angle.cos().mean(dim))


def order_parameter(angle: Tensor, dim: int | tuple[int, ...] = (1, 2, 3)) -> Tensor:
    """Length r of the mean of e^{i angle} over `dim`: 1 for equal phases, about 0 for scattered."""
    return torch.hypot(angle.cos().mean(dim), angle.sin().mean(dim))


def _images(difference: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the images of a wrapped difference, relative to the nearest one.

    With q_n the density at difference + 2 pi n over that at the difference, e the larger of q_1 and
    q_-1, f the other and p = e f = exp(-4 pi^2 / variance),

        {q_n, q_-n} = p^(n (n - 1) / 2) {e^n, f^n}

    so that one exponential makes them all; and e^n + f^n, e^n - f^n are polynomials in e + f, p and
    e - f.

    Returns:
        ``sum_n q_n`` and ``sum_n n q_n``, n = -3..3. No q_n is more than 1, and nothing can
        underflow to 0 / 0.
    """
    near = ((difference.abs() - math.pi) * (TWO_PI / variance)).clamp_min(_NEGLIGIBLE).exp()
    # Of a sample, not of a pixel. Images that count for nothing beside 1 are left out: what they
    # are made of would underflow.
    product = (-2 * TWO_PI * math.pi / variance).exp()
    second = torch.where(product > 1e-16, product, 0.0)
    third = torch.where(product > 1e-9, product.pow(3), 0.0)
    far = torch.where(product > 1e-32, product, 0.0) / near
    both = near + far
    squared = both.square()
    total = torch.addcmul(1 + both, second, squared - 2 * second)
    total = torch.addcmul(total, third * both, squared - 3 * second)
    share = torch.addcmul(1 + 3 * third * (squared - second), 2 * second, both)
    return total, (far - near) * share * difference.sign()


def wrapped_normal_log_density(difference: Tensor, std: Tensor) -> Tensor:
    """Log density of a normal step wrapped around the circle.

    ``log sum_n N(difference + 2 pi n; 0, std^2)``, n = -3..3; arXiv 2509.15328, transition kernel.

    Args:
        difference: angle minus mean, in radians, any shape; need not be wrapped.
        std: standard deviation before wrapping, in (0, `MAX_WRAPPED_STD`]; broadcasts.

    Returns:
        Log density per radian, of the broadcast shape.
    """
    difference, variance = wrap(difference), std.square()
    total, _ = _images(difference, variance)
    nearest = -0.5 * (difference.square() / variance + torch.log(TWO_PI * variance))
    return nearest + torch.log(total)


def wrapped_normal_score(difference: Tensor, std: Tensor) -> Tensor:
    """Derivative of `wrapped_normal_log_density` with respect to the angle.

    Each image pulls towards itself in proportion to its share of the density. Arguments as for
    the density; the result is per radian.
    """
    difference, variance = wrap(difference), std.square()
    total, turns = _images(difference, variance)
    return torch.addcdiv(difference, turns, total, value=TWO_PI) / -variance


def bessel_ratio(concentration: Tensor) -> Tensor:
    """I1(kappa) / I0(kappa): the order parameter r of a von Mises law of concentration kappa."""
    ratio: Tensor = torch.special.i1e(concentration) / torch.special.i0e(concentration)
    return ratio


def bessel_ratio_inverse(order: Tensor) -> Tensor:
    """The concentration kappa whose von Mises law has order parameter r = I1(kappa) / I0(kappa).

    By Newton's method, to rounding in r.

    Args:
        order: r in [0, 1), any shape, float64 for full accuracy.

    Raises:
        ValueError: if an order is negative, or 1 and more.
    """
    if not bool(((order >= 0) & (order < 1)).all()):
        raise ValueError("an order parameter must lie in [0, 1) to have a concentration")
    # This start is right in both limits, 2 r and 1 / (2 - 2 r).
    kappa = order * (2 - order.square()) / (1 - order.square())
    for _ in range(8):
        ratio = bessel_ratio(kappa)
        slope = 1 - ratio / kappa.clamp_min(1e-12) - ratio.square()
        # At kappa -> 0 the slope is 1/2; rounding may leave anything there.
        slope = torch.where(kappa > 1e-6, slope, 0.5).clamp_min(1e-12)
        kappa = (kappa - (ratio - order) / slope).clamp_min(0)
    return kappa


def von_mises_quantile(probability: Tensor, concentration: float | Tensor) -> Tensor:
    """Inverse distribution function of the von Mises law around 0, by table.

    Exact to 1e-6 in probability, for any concentration: the table spans only what has mass.

    Args:
        probability: numbers in [0, 1], any shape.
        concentration: kappa >= 0; 0 is uniform. A tensor gives one for each entry of the leading
            dimensions: (B, C) for probabilities of shape (B, C, H, W). Its tables are coarser:
            exact to 2e-5.

    Returns:
        Angles in [-pi, pi], odd around probability 1/2.

    Raises:
        ValueError: if a concentration is negative or not finite, or its shape does not lead.
    """
    if isinstance(concentration, Tensor):
        leading = concentration.shape
        if probability.shape[: len(leading)] != leading:
            raise ValueError(
                f"concentration {tuple(leading)} must have the leading dimensions of "
                f"{tuple(probability.shape)}"
            )
        kappa, count = concentration.flatten().to(probability), _TABLE_NODES_EACH
    else:
        leading = torch.Size()
        kappa, count = torch.tensor([concentration], dtype=torch.float64), _TABLE_NODES
    if not bool((torch.isfinite(kappa) & (kappa >= 0)).all()):
        raise ValueError(f"concentration must be finite and at least 0, got {concentration}")
    half_width = (_TABLE_HALF_WIDTH / kappa.sqrt()).clamp_max(math.pi).unsqueeze(1)
    # The law is symmetric: tabulate the distance from its mean.
    nodes = torch.linspace(0, 1, count, dtype=kappa.dtype, device=kappa.device) * half_width
    return symmetric_quantile(probability, nodes, von_mises_density(nodes, kappa.unsqueeze(1)))


def von_mises_density(angle: Tensor, concentration: float | Tensor) -> Tensor:
    """exp(kappa (cos x - 1)), von Mises' density over its highest value.

    Args:
        angle: x, from the mean, in radians.
        concentration: kappa; a tensor broadcasts with `angle`.

    Returns:
        Of the shape of both together, at most 1.
    """
    # Without the cancellation in cos x - 1.
    return torch.exp(-2 * concentration * torch.sin(angle / 2).square())


def von_mises_log_density(angle: Tensor, concentration: float) -> Tensor:
    """Log density per radian of the von Mises law around 0, whose integral is 1.

    Args:
        angle: from the mean, in radians, float64.
        concentration: kappa >= 0.
    """
    # I0 over e^kappa, beside cos x - 1 instead of cos x.
    scaled = torch.special.i0e(torch.tensor(concentration, dtype=torch.float64))
    exponent = -2 * concentration * torch.sin(angle / 2).square()
    log_density: Tensor = exponent - math.log(TWO_PI * scaled.item())
    return log_density


def symmetric_quantile(probability: Tensor, nodes: Tensor, density: Tensor) -> Tensor:
    """Inverse distribution functions of laws that are symmetric around 0, from tables.

    Args:
        probability: numbers in [0, 1], any shape; as many parts of it, in order, as tables.
        nodes: (tables, N) distances from 0, ascending and evenly spaced.
        density: (tables, N) proportional to the density there.

    Returns:
        Angles of the shape of the probabilities, odd around probability 1/2.
    """
    cells = (density[:, 1:] + density[:, :-1]).cumsum(1)
    mass = torch.cat([torch.zeros_like(cells[:, :1]), cells / cells[:, -1:]], dim=1)
    mass, nodes = mass.to(probability), nodes.to(probability)

    signed = (2 * probability - 1).reshape(len(mass), -1)
    inside = signed.abs()
    right = torch.searchsorted(mass, inside).clamp(1, mass.shape[1] - 1)
    low, high = mass.gather(1, right - 1), mass.gather(1, right)
    # Far in the tail two nodes can hold the same mass; they are then one point.
    cell = (high - low).clamp_min(torch.finfo(mass.dtype).tiny)
    share = ((inside - low) / cell).clamp(0, 1)
    angle = torch.lerp(nodes.gather(1, right - 1), nodes.gather(1, right), share)
    return torch.copysign(angle, signed).view(probability.shape)


def sample_von_mises(
    mean: float | Tensor,
    concentration: float | Tensor,
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw i.i.d. angles with density proportional to ``exp(concentration cos(angle - mean))``.

    One uniform gives one angle: no rejection loop, and equal generators give equal draws whatever
    the device is busy with. In float64 inside; in float32 on devices that have no other.

    Args:
        mean: mean direction in radians; a tensor broadcasts to `shape`.
        concentration: kappa >= 0; 0 is uniform. A tensor holds one for each entry of the leading
            dimensions of `shape`.
        shape: of the result.
        generator: source of randomness; its device is the result's.
        dtype: of the result.

    Returns:
        Angles in [-pi, pi) of the given shape.

    Raises:
        ValueError: if a concentration is negative or not finite, or its shape does not lead.
    """
    device = generator.device
    inside = torch.float32 if device.type == "mps" else torch.float64
    uniform = torch.rand(shape, generator=generator, device=device, dtype=inside)
    offset = von_mises_quantile(uniform, concentration)
    # Wrapped after the cast: it can round an angle just below pi up to it.
    return wrap((mean + offset).to(dtype))
