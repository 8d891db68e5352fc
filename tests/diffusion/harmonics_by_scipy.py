"""Real spherical harmonics by scipy, against which ours are tested."""

import math

import numpy as np
from scipy.special import sph_harm_y


def harmonics_by_scipy(degrees: int, colatitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """(points, L^2): Y_l0, sqrt(2) Re Y_lm, and of m < 0 sqrt(2) Im Y_l|m|, at l^2 + l + m."""
    columns = []
    for degree in range(degrees):
        for order in range(-degree, degree + 1):
            values = sph_harm_y(degree, abs(order), colatitudes, longitudes)
            part = values.imag if order < 0 else values.real
            columns.append(part * (math.sqrt(2) if order else 1))
    return np.stack(columns, axis=1)
