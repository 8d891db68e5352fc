"""Draws synthetic fingerprints: stand-ins for real prints, which may not be shipped.

A finger is drawn once and pressed on a sensor several times, as in the SFinGe approach (Cappelli,
Maio and Maltoni 2000):

1. *Orientation*: the zero-pole model of Sherlock and Monro (1993). In the plane z = x + iy, y up,
   theta(z) = arch(z) + 1/2 [sum_core arg(z - core) - sum_delta arg(z - delta)],
   where arch(z) = -atan(a(y) sin(pi x / w)) is the slope of sinusoidal ridges. It is all there is
   to an arch; elsewhere it bends the flanks, which the zero-pole term leaves too flat.
2. *Ridges*: sparse random spots grow under a filter tuned, at every pixel, to the orientation
   and the ridge period, and saturate. Where fronts meet out of phase, or where the ridges diverge,
   minutiae appear by themselves.
3. *Impression*: the finger is moved, turned, stretched and inked: pressure, pores, creases,
   a ragged contact area on a white ground, noise.

Lengths are in pixels at 500 dpi, angles in radians. Every draw comes from a
`numpy.random.Generator` seeded by (seed, finger) or (seed, finger, impression), so that the number
of workers is immaterial, and so is the processor (`portable`). Another SciPy may round a few pixels
differently; the content hash of the data set then says so.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, special

from kod_bench.data import portable

FloatArray = NDArray[np.float32]
FingerClass = Literal["left loop", "right loop", "whorl", "arch", "tented arch"]

# Shares of the five classes over all fingers (Wilson, Candela and Watson 1994).
CLASS_SHARES: dict[FingerClass, float] = {
    "left loop": 0.338,
    "right loop": 0.317,
    "whorl": 0.279,
    "arch": 0.037,
    "tented arch": 0.029,
}
#: Raised when what is drawn changes: prints of an earlier number are not taken from the cache.
DRAWING = 2
IMPRESSION_SHAPE = (374, 388)  # that of an FVC2002 DB1 scan
FINGER_SHAPE = (432, 320)  # products of small primes: fast Fourier transforms
MEAN_PERIOD = 8.8  # ridge to ridge
PERIOD_DEVIATION = 0.6  # between fingers

_ORIENTATIONS = 16  # filters per half turn; neighbours are blended
_ITERATIONS = 40
_SEED_SPACING = 22.0  # mean distance between the spots from which ridges grow
_FILTER_GAIN = 2.5


@dataclass(frozen=True)
class Finger:
    """What all impressions of one finger share.

    Attributes:
        kind: The class of its pattern.
        period: The mean distance between ridges before the finger's own stretching.
        ridges: (H, W) in [-1, 1]; ridges are positive, valleys negative.
        stretch: (2, H, W) smooth displacement that varies the ridge period over the finger.
    """

    kind: FingerClass
    period: float
    ridges: FloatArray
    stretch: FloatArray


def smooth_noise(
    shape: tuple[int, int], scale: float, generator: np.random.Generator
) -> FloatArray:
    """Gaussian random field of zero mean, unit variance and correlation length `scale` pixels."""
    # Drawn on a coarse grid and interpolated: a wide blur of white noise would cost far more.
    step, margin = max(1.0, scale / 2), 2
    height, width = (math.ceil(side / step) + 2 * margin + 2 for side in shape)
    white = generator.standard_normal((height, width), dtype=np.float32)
    noise = np.asarray(ndimage.gaussian_filter(white, scale / step, mode="wrap"), np.float32)
    # By the filter's own gain; dividing by the measured deviation would make every field alike.
    noise *= np.float32(2 * math.sqrt(math.pi) * scale / step)
    if step == 1.0:
        return noise[: shape[0], : shape[1]]
    rows, columns = (np.arange(side) / step + margin for side in shape)
    return _sample(noise, np.stack(np.meshgrid(rows, columns, indexing="ij")), order=3)


def orientation_field(
    kind: FingerClass, shape: tuple[int, int], generator: np.random.Generator
) -> FloatArray:
    """Ridge orientation in [0, pi), counter-clockwise from the x axis; shape (H, W)."""
    height, width = shape
    x = (np.arange(width) - (width - 1) / 2)[None, :]
    y = ((height - 1) / 2 - np.arange(height))[:, None]
    cores, deltas = _singular_points(kind, generator)

    # Ridges rise most about the middle of the finger and stay bent up to its tip; its base is flat.
    strength = generator.uniform(0.5, 0.9) if cores else generator.uniform(0.9, 1.5)
    middle, spread = generator.uniform(0, 40), generator.uniform(75, 100)
    bend = strength * portable.exp(-0.5 * ((y - middle) / spread) ** 2)
    bend = bend + 0.6 * special.expit((y - 40) / 30)
    theta = -portable.arctan(bend * portable.sin(np.pi * x / generator.uniform(150, 190)))

    for core in cores:
        theta = theta + portable.arctan2(y - core.imag, x - core.real) / 2
    for delta in deltas:
        theta = theta - portable.arctan2(y - delta.imag, x - delta.real) / 2
    theta = theta + 0.07 * smooth_noise(shape, 45, generator)
    return np.asarray(np.mod(theta, np.pi), np.float32)


def _singular_points(
    kind: FingerClass, generator: np.random.Generator
) -> tuple[list[complex], list[complex]]:
    """Cores and deltas of a finger class; as many of the one as of the other."""
    core = complex(generator.uniform(-12, 12), generator.uniform(15, 50))

    def below(side: float) -> complex:
        return complex(side * generator.uniform(60, 105), -generator.uniform(75, 130))

    if kind == "left loop":
        return [core], [core + below(+1)]
    if kind == "right loop":
        return [core], [core + below(-1)]
    if kind == "whorl":
        gap = complex(generator.uniform(-14, 14), -generator.uniform(8, 42))
        return [core, core + gap], [core + below(-1), core + below(+1)]
    if kind == "tented arch":
        return [core], [core + complex(generator.uniform(-8, 8), -generator.uniform(50, 90))]
    return [], []


def grow_ridges(
    orientation: FloatArray, period: float, generator: np.random.Generator
) -> FloatArray:
    """Ridge pattern in [-1, 1] that follows an orientation field.

    Repeats r <- tanh(g (h_theta * r)) from sparse random spots, where h_theta is a Gabor filter
    without a mean, across the local orientation theta.
    """
    shape = orientation.shape
    height, width = shape
    v = -fft.fftfreq(height)  # y points up
    u = fft.rfftfreq(width)
    spread = 2 * (np.pi * 0.55 * period) ** 2  # envelope of 0.55 periods: about three ridges wide

    def bump(frequency: NDArray[np.float64], centre: float) -> NDArray[np.float64]:
        return portable.exp(-spread * (frequency - centre) ** 2)

    filters = np.empty((_ORIENTATIONS, height, width // 2 + 1), np.float32)
    for place in range(_ORIENTATIONS):
        normal = math.pi * (place / _ORIENTATIONS + 0.5)
        x, y = math.cos(normal) / period, math.sin(normal) / period
        filters[place] = np.outer(bump(v, y), bump(u, x)) + np.outer(bump(v, -y), bump(u, -x))
    filters[:, 0, 0] = 0

    position = orientation / np.pi * _ORIENTATIONS
    lower = np.floor(position).astype(np.intp)
    share = (position - lower).astype(np.float32)
    lower %= _ORIENTATIONS
    upper = (lower + 1) % _ORIENTATIONS

    ridges = np.zeros(shape, np.float32)
    spots = int(height * width / _SEED_SPACING**2)
    ridges[generator.integers(height, size=spots), generator.integers(width, size=spots)] = 1
    for _ in range(_ITERATIONS):
        responses = fft.irfft2(filters * fft.rfft2(ridges), s=shape)
        blended = (1 - share) * np.take_along_axis(responses, lower[None], 0)[0]
        blended += share * np.take_along_axis(responses, upper[None], 0)[0]
        # The hyperbolic tangent; SciPy's sigmoid is portable, and faster than `portable.tanh`.
        ridges = 2 * _sigmoid(2 * _FILTER_GAIN * blended) - 1
    return ridges


def finger_field(seed: int, finger: int) -> tuple[FingerClass, float, FloatArray]:
    """The class, the ridge period and the orientation field that `draw_finger` draws one with."""
    return _begin_finger(np.random.default_rng([seed, finger]))


def _begin_finger(generator: np.random.Generator) -> tuple[FingerClass, float, FloatArray]:
    kinds = list(CLASS_SHARES)
    kind = kinds[generator.choice(len(kinds), p=list(CLASS_SHARES.values()))]
    period = float(np.clip(generator.normal(MEAN_PERIOD, PERIOD_DEVIATION), 7.4, 10.2))
    return kind, period, orientation_field(kind, FINGER_SHAPE, generator)


def draw_finger(seed: int, finger: int) -> Finger:
    """Draws one finger; the same one for the same two numbers."""
    generator = np.random.default_rng([seed, finger])
    kind, period, orientation = _begin_finger(generator)
    ridges = grow_ridges(orientation, period, generator)
    stretch = np.stack([7 * smooth_noise(FINGER_SHAPE, 50, generator) for _ in range(2)])
    return Finger(kind, period, ridges, stretch)


def draw_impression(finger: Finger, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Presses a finger on a sensor: 0 is a ridge, 255 is paper; shape `IMPRESSION_SHAPE`."""
    shape = IMPRESSION_SHAPE
    place = _placement(shape, generator)
    place_in_array = place + np.array(finger.ridges.shape, np.float32)[:, None, None] / 2
    stretch = np.stack([_sample(field, place_in_array, order=1) for field in finger.stretch])
    ridges = _sample(finger.ridges, place_in_array + stretch, order=3)

    # Distance in pixels, about, from the edge of the contact area, a superellipse; inside positive.
    semi_axes = generator.uniform(150, 185), generator.uniform(98, 122)
    powers = (portable.power(np.abs(p / a), 2.3) for p, a in zip(place, semi_axes, strict=True))
    radius: FloatArray = portable.power(np.asarray(sum(powers)), 1 / 2.3)
    inside = (1 - radius) * semi_axes[1]
    inside += 4 * smooth_noise(shape, 30, generator) + 1.5 * smooth_noise(shape, 3, generator)

    ink = _sigmoid((ridges + _pressure(inside, generator) - 0.15) / generator.uniform(0.16, 0.32))
    ink *= 1 - _pores(ridges, generator)
    ink *= 1 - _creases(shape, generator)
    ink *= _sigmoid(inside / 1.2)
    darkness = 0.97 - generator.exponential(0.08) + 0.05 * smooth_noise(shape, 40, generator)
    darkness += 0.05 * smooth_noise(shape, 1.5, generator)
    ink = ndimage.gaussian_filter(ink * np.clip(darkness, 0.3, 1.0), 0.55)
    noise = (0.7 + 6 * ink) * generator.standard_normal(shape, dtype=np.float32)
    gray: FloatArray = np.clip(np.rint(254 - 250 * ink + noise), 0, 255)
    return gray.astype(np.uint8)


def draw_prints(
    seed: int, finger: int, impressions: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """All impressions of one finger, named as FVC names them: FINGER_IMPRESSION, from 1."""
    drawn = draw_finger(seed, finger)
    for impression in range(1, impressions + 1):
        generator = np.random.default_rng([seed, finger, impression])
        yield f"{finger + 1}_{impression}", draw_impression(drawn, generator)


def _placement(shape: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Where on the finger each sensor pixel lies, (2, H, W): down and right of its centre."""
    height, width = shape
    rows, columns = np.indices(shape, dtype=np.float32)
    down = rows - height / 2 - generator.normal(0, 18) + 2.5 * smooth_noise(shape, 60, generator)
    right = columns - width / 2 - generator.normal(0, 22) + 2.5 * smooth_noise(shape, 60, generator)
    angle = np.clip(generator.normal(0, 0.12), -0.35, 0.35)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned = (
        cosine * down - sine * right,
        sine * down + cosine * right,
    )
    return np.stack(turned).astype(np.float32)


def _pressure(inside: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Raises the ridges above the paper (wet: thick) or lowers them (dry: thin and broken)."""
    shape = inside.shape[0], inside.shape[1]
    pressure = generator.normal(0, 0.35) + 0.33 * smooth_noise(shape, 40, generator)
    pressure += 0.12 * smooth_noise(shape, 8, generator)
    pressure = 0.8 * portable.tanh(pressure / 0.8)  # neither all skin nor all paper
    pressure += generator.uniform(0.15, 0.4) * smooth_noise(shape, 2.6, generator)
    pressure += 0.2 * smooth_noise(shape, 1.0, generator)
    # The skin curves away from the sensor.
    pressure -= 0.9 * portable.exp(-np.maximum(inside, 0) / 8)
    return np.asarray(pressure, np.float32)


def _pores(ridges: FloatArray, generator: np.random.Generator) -> FloatArray:
    """How open the skin is, in [0, 0.85]: dots that sit on the crests of the ridges."""
    spacing, steps = 8, 4
    height, width = ridges.shape
    rows, columns = np.mgrid[0:height:spacing, 0:width:spacing].reshape(2, -1)
    rows = rows + generator.integers(-3, 4, rows.size)
    columns = columns + generator.integers(-3, 4, columns.size)
    # Each dot climbs to its crest: at every step to the highest of the nine pixels around.
    down, right = np.mgrid[-1:2, -1:2].reshape(2, -1, 1)
    for _ in range(steps):
        near_rows = np.clip(rows + down, 0, height - 1)
        near_columns = np.clip(columns + right, 0, width - 1)
        highest = np.argmax(ridges[near_rows, near_columns], axis=0)[None]
        rows = np.take_along_axis(near_rows, highest, 0)[0]
        columns = np.take_along_axis(near_columns, highest, 0)[0]
    visible = generator.random(rows.size) < generator.uniform(0.1, 0.6)
    dots = np.zeros_like(ridges)
    dots[rows[visible], columns[visible]] = generator.uniform(0.8, 4.0, int(visible.sum()))
    return np.asarray(np.clip(ndimage.gaussian_filter(dots, 0.8), 0, 0.85), np.float32)


def _creases(shape: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Scars, scratches and flexion creases, in [0, 1]: wavering spindles without ink."""
    height, width = shape
    rows, columns = np.indices(shape, dtype=np.float32)
    waver = 1.8 * smooth_noise(shape, 14, generator)
    ragged = 0.7 * smooth_noise(shape, 2.5, generator)
    bare = np.zeros(shape, np.float32)
    for _ in range(generator.poisson(5)):
        angle = generator.normal(0, 0.5)
        cosine, sine = math.cos(angle), math.sin(angle)
        down = rows - height * generator.uniform(0.2, 0.8)
        right = columns - width * generator.uniform(0.25, 0.75)
        along = down * sine + right * cosine
        across = down * cosine - right * sine + waver
        across = across + generator.normal(0, 0.0015) * along**2
        half_width = (0.2 + generator.exponential(0.8)) * (
            1 - (along / generator.uniform(25, 110)) ** 2
        )
        bare = np.maximum(bare, _sigmoid((half_width - np.abs(across) + ragged) / 0.5))
    return bare


def _sample(field: FloatArray, positions: NDArray[np.floating], order: Literal[1, 3]) -> FloatArray:
    """A field between its pixels; its edge goes on outside."""
    sampled = ndimage.map_coordinates(field, positions, order=order, mode="nearest")
    return np.asarray(sampled, np.float32)


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(special.expit(x), np.float32)
