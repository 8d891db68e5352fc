"""Elementary functions that do not depend on the processor.

NumPy chooses at run time, by the processor, how it computes `exp`, `sin`, `arctan2`, ... of many
numbers, and what it chooses differs in the last digit. A generator of images that goes on from its
own results makes other images of that: a chain of spins is another chain after a few hundred
updates, a print has other minutiae. A sweep whose nodes differ could then not share a plan, and no
sweep could be resumed elsewhere.

These compute in extended precision, for which NumPy has one way, and round to what they were given.
Adding, multiplying, dividing and taking roots is exact to the last digit everywhere (IEEE 754), as
long as numbers are real: of complex ones, products and absolute values are not. What differs in the
last digit and is only compared with a random number, or rounded to a gray level, needs none of it.

They cost some 50 ns a number. Where `long double` is no wider than `double`, and where another C
library is in use, the last digit can still differ, and the content hash of a data set says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]  # floating-point numbers


def _in_extended_precision(function: Callable[..., Any], *values: FloatArray) -> FloatArray:
    arrays = [np.asarray(each) for each in values]
    rounded = function(*(each.astype(np.longdouble) for each in arrays))
    return np.asarray(rounded, np.result_type(*arrays))


def exp(x: FloatArray) -> FloatArray:
    """e^x, of the type of x."""
    return _in_extended_precision(np.exp, x)


def tanh(x: FloatArray) -> FloatArray:
    """The hyperbolic tangent, of the type of x."""
    return _in_extended_precision(np.tanh, x)


def sin(x: FloatArray) -> FloatArray:
    """The sine of radians, of the type of x."""
    return _in_extended_precision(np.sin, x)


def cos(x: FloatArray) -> FloatArray:
    """The cosine of radians, of the type of x."""
    return _in_extended_precision(np.cos, x)


def arctan(x: FloatArray) -> FloatArray:
    """The inverse tangent in radians, of the type of x."""
    return _in_extended_precision(np.arctan, x)


def arctan2(y: FloatArray, x: FloatArray) -> FloatArray:
    """The angle of points (x, y) in radians, [-pi, pi], of the wider type of the two."""
    return _in_extended_precision(np.arctan2, y, x)


def power(x: FloatArray, exponent: float) -> FloatArray:
    """`x` >= 0 to a positive exponent, of the type of x."""
    with np.errstate(divide="ignore"):  # 0 has the logarithm -inf, and e to it is 0
        # `powl` would take ten times as long for digits that rounding cuts.
        return _in_extended_precision(lambda base: np.exp(exponent * np.log(base)), x)
