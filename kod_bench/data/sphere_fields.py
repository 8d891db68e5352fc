r"""Built-in maps of the sphere: random fields of a known spectrum, and the Earth's land.

A map is a function of degrees l < L on the Gauss-Legendre grid of `diffusion.spherical_harmonics`,
mapped to bytes by one affine map per kind of field, 0 to 255:

- *gaussian*: f = sum a_lm Y_lm with independent a_lm ~ N(0, C_l), C_l ~ (l + 1)^-alpha and C_0 = 0,
  of variance 1 at every point. Gray is 127.5 + 127.5 f / 4: 0.006 % of the pixels are clipped.
- *log-normal*: exp(f / 2) of such an f, without what it has of degrees from L on. Gray is
  255 exp(f / 2) / exp(3.3 / 2): 0.05 % of the pixels are clipped.
- *land-sea*: the share of land (1 land, 0 sea) of the Earth, each a_lm damped by
  exp(-2 l (l + 1) / (L (L + 1))) so that coasts do not ring, under a random rotation. Gray is
  25.5 + 204 f: nothing is clipped. A rotation leaves the spectrum as it is.

Every draw comes from a generator seeded by (seed, number of the map): more maps are the same ones
and others.
"""

import hashlib
import importlib.util
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from kod_bench.data.errors import DataError
from kod_bench.data.sphere_options import SphereField, SphereOptions

FloatArray = NDArray[np.float64]

#: (gray at f = 0, gray per unit of f); of log-normal fields, f is the exponential.
GRAY: dict[SphereField, tuple[float, float]] = {
    "gaussian": (127.5, 127.5 / 4),
    "log-normal": (0.0, 255 / math.exp(3.3 / 2)),
    "land-sea": (25.5, 204.0),
}
_LOG_DEVIATION = 0.5

_MASK_FILE = "globe_combined_mask_compressed.npz"
_MASK_SHAPE = (21_600, 43_200)
_BLOCK = 60  # of its pixels: half a degree
_FINER = 8  # rows of the map that is turned, per row of the grid
_PAD = 8  # a cubic spline's memory of its border falls by 0.27 a pixel


def power_law(degrees: int, spectral_index: float) -> FloatArray:
    """C_l ~ (l + 1)^-alpha of degrees 0..L-1, C_0 = 0; of variance 1: sum (2l+1) C_l = 4 pi."""
    degree = np.arange(degrees)
    power = np.where(degree > 0, (degree + 1.0) ** -spectral_index, 0.0)
    return np.asarray(power * (4 * math.pi / ((2 * degree + 1) * power).sum()), np.float64)


def log_normal_power(power: FloatArray) -> FloatArray:
    """C_l of exp(s f), s = 1/2, for a Gaussian f of unit variance with the given C_l.

    Through the covariance at angle gamma, xi = sum (2l+1)/(4 pi) C_l P_l(cos gamma), which becomes
    e^(s^2) (e^(s^2 xi) - 1).
    """
    legendre = np.polynomial.legendre
    degree = np.arange(len(power))
    nodes, weights = legendre.leggauss(4 * len(power))
    covariance = legendre.legval(nodes, (2 * degree + 1) / (4 * math.pi) * power)
    variance = _LOG_DEVIATION**2
    turned = math.exp(variance) * np.expm1(variance * covariance)
    polynomials = legendre.legvander(nodes, len(power) - 1)
    result = 2 * math.pi * (weights * turned) @ polynomials
    result[0] = max(result[0], 0.0)
    return np.asarray(result, np.float64)


@dataclass(frozen=True)
class Land:
    """The Earth's land, damped: real coefficients of degrees 0..L-1, and a fine map to be turned.

    Attributes:
        coefficients: (L^2,), ordered as in `diffusion.spherical_harmonics`.
        spline: cubic spline coefficients of the map on `_FINER` L latitudes, padded on all sides.
        rows: its latitudes, without the padding.
    """

    coefficients: FloatArray
    spline: FloatArray
    rows: int

    @classmethod
    def load(cls, degrees: int) -> "Land":
        """Expand the mask that the package global-land-mask carries. Takes some seconds.

        Raises:
            DataError: the package is missing, or is another one than is known.
        """
        share = _read_land(land_file())
        coefficients = _expand(share, degrees)
        degree = np.floor(np.sqrt(np.arange(degrees**2) + 0.5))
        coefficients *= np.exp(-2 * degree * (degree + 1) / (degrees * (degrees + 1)))
        rows = _FINER * degrees
        fine = _evaluate(coefficients, degrees, rows, 2 * rows)
        over_poles = np.roll(fine, rows, axis=1)  # half way around
        padded = np.vstack([over_poles[:_PAD][::-1], fine, over_poles[-_PAD:][::-1]])
        padded = np.pad(padded, ((0, 0), (_PAD, _PAD)), mode="wrap")
        return cls(coefficients, np.asarray(ndimage.spline_filter(padded, order=3)), rows)

    def turned(self, points: FloatArray) -> FloatArray:
        """The map at unit vectors (N, 3)."""
        colatitude = np.arccos(np.clip(points[:, 2], -1, 1))
        longitude = np.mod(np.arctan2(points[:, 1], points[:, 0]), 2 * math.pi)
        row = colatitude * (self.rows / math.pi) - 0.5 + _PAD
        column = longitude * (self.rows / math.pi) - 0.5 + _PAD
        values = ndimage.map_coordinates(self.spline, [row, column], order=3, prefilter=False)
        return np.asarray(values, np.float64)


def known_power(options: SphereOptions, degrees: int, land: Land | None = None) -> FloatArray:
    """C_l, degrees 0..L-1, that built-in maps have in gray levels, before they are rounded.

    Exact for Gaussian fields and land. A log-normal field has more degrees than its grid can tell
    apart: there it is that of the whole field, which the highest degrees on the grid exceed.
    """
    if options.field == "land-sea":
        if land is None:
            raise ValueError("the power of land is that of its map")
        bounds = np.arange(degrees) ** 2
        power = np.add.reduceat(land.coefficients**2, bounds) / (2 * np.arange(degrees) + 1)
    else:
        power = power_law(degrees, options.spectral_index)
        if options.field == "log-normal":
            power = log_normal_power(power)
    return np.asarray(power * GRAY[options.field][1] ** 2, np.float64)


def draw_maps(
    options: SphereOptions, degrees: int, first: int, count: int, land: Land | None = None
) -> NDArray[np.uint8]:
    """Maps number `first` to `first + count - 1`: (count, L, 2 L), rows from north to south."""
    from kod_bench.diffusion.spherical_harmonics import sphere_grid

    generators = [
        np.random.default_rng([options.seed, number]) for number in range(first, first + count)
    ]
    grid = sphere_grid(degrees)
    shape = (count, degrees, len(grid.longitudes))
    if options.field == "land-sea":
        if land is None:
            raise ValueError("land is to be turned, and there is none")
        points = _unit_vectors(grid.colatitudes.numpy(), grid.longitudes.numpy())
        values = np.stack([land.turned(points @ _rotation(each)) for each in generators])
        return _to_gray(values.reshape(shape), options.field)
    synthesis = grid.synthesis.numpy()
    deviation = np.sqrt(power_law(degrees, options.spectral_index))[grid.degree.numpy()]
    white = np.stack([each.standard_normal(degrees**2) for each in generators])
    values = (white * deviation) @ synthesis.T
    if options.field == "log-normal":
        values = np.exp(_LOG_DEVIATION * values) @ grid.analysis.numpy().T @ synthesis.T
    return _to_gray(values.reshape(shape), options.field)


def land_file() -> Path:
    """The file of the package global-land-mask that holds its mask.

    The package itself is not imported: it would unpack a gigabyte.

    Raises:
        DataError: it is not installed.
    """
    found = importlib.util.find_spec("global_land_mask")
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder, _MASK_FILE)).is_file():
            return path
    raise DataError(
        "dataset sphere with field land-sea needs the package global-land-mask; "
        "pip install global-land-mask, or choose field gaussian or log-normal"
    )


def land_digest() -> str:
    """Hash of the mask's file."""
    return hashlib.sha256(land_file().read_bytes()).hexdigest()


def _read_land(path: Path) -> FloatArray:
    """The share of land in half-degree cells, (360, 720): north first, Greenwich first."""
    strips = []
    with zipfile.ZipFile(path) as archive, archive.open("mask.npy") as file:
        np.lib.format.read_magic(file)
        shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
        if shape != _MASK_SHAPE or by_columns or kind != np.bool_:
            raise DataError(f"{path} holds another mask than global-land-mask 1.0.0 does")
        for _ in range(0, shape[0], _BLOCK):
            strip = np.frombuffer(file.read(_BLOCK * shape[1]), np.uint8)  # 1 is sea
            columns = strip.reshape(_BLOCK, -1).sum(axis=0, dtype=np.uint8)  # fast, and at most 60
            strips.append(1 - columns.reshape(-1, _BLOCK).sum(axis=1) / _BLOCK**2)
    return np.roll(np.stack(strips), shape[1] // _BLOCK // 2, axis=1)  # the file begins at 180 W


def _expand(cells: FloatArray, degrees: int) -> FloatArray:
    """Coefficients of a map on equal-angle cells, by the midpoint rule: (H, W) => (L^2,)."""
    rows, columns = cells.shape
    colatitudes = (np.arange(rows) + 0.5) * math.pi / rows
    legendre = _at_longitude_zero(degrees, colatitudes)
    longitudes = (np.arange(columns) + 0.5) * 2 * math.pi / columns
    area = np.sin(colatitudes)[:, None] * (math.pi / rows) * (2 * math.pi / columns)
    moments = (cells * area) @ _waves(degrees, longitudes).T  # (rows, 2 L - 1)
    order = _orders(degrees)
    return np.asarray((legendre * moments[:, order + degrees - 1]).sum(axis=0), np.float64)


def _evaluate(coefficients: FloatArray, degrees: int, rows: int, columns: int) -> FloatArray:
    """The function with these coefficients at the centres of equal-angle cells: (rows, columns)."""
    legendre = _at_longitude_zero(degrees, (np.arange(rows) + 0.5) * math.pi / rows)
    order = _orders(degrees)
    by_order = np.zeros((rows, 2 * degrees - 1))
    np.add.at(by_order.T, order + degrees - 1, (legendre * coefficients).T)
    longitudes = (np.arange(columns) + 0.5) * 2 * math.pi / columns
    return np.asarray(by_order @ _waves(degrees, longitudes), np.float64)


def _at_longitude_zero(degrees: int, colatitudes: FloatArray) -> FloatArray:
    """(rows, L^2) what Y_l|m| is on the zeroth meridian: of m < 0 what sin(|m| phi) multiplies."""
    import torch

    from kod_bench.diffusion.spherical_harmonics import legendre_functions

    values = legendre_functions(degrees, torch.from_numpy(colatitudes))
    return np.asarray(values.numpy(), np.float64)


def _waves(degrees: int, longitudes: FloatArray) -> FloatArray:
    """(2 L - 1, columns): sin(|m| phi) for m < 0, then cos(m phi)."""
    orders = np.arange(1 - degrees, degrees)[:, None]
    return np.where(orders < 0, np.sin(-orders * longitudes), np.cos(orders * longitudes))


def _orders(degrees: int) -> NDArray[np.int64]:
    return np.concatenate([np.arange(-degree, degree + 1) for degree in range(degrees)])


def _unit_vectors(colatitudes: FloatArray, longitudes: FloatArray) -> FloatArray:
    theta, phi = (each.ravel() for each in np.meshgrid(colatitudes, longitudes, indexing="ij"))
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)


def _rotation(generator: np.random.Generator) -> FloatArray:
    """(3, 3), uniform over all rotations: four normal numbers are a quaternion of any direction."""
    return np.asarray(Rotation.from_quat(generator.standard_normal(4)).as_matrix(), np.float64)


def _to_gray(values: FloatArray, field: SphereField) -> NDArray[np.uint8]:
    offset, gain = GRAY[field]
    return np.clip(np.rint(offset + gain * values), 0, 255).astype(np.uint8)
