"""Where networks act, for states that are no pixels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """Where networks act on states that are coefficients: a grid on the sphere.

    A network's planes are ``to_grid @ state``, and its prediction is ``from_grid @ planes``, of
    each channel's flattened state.
    """

    height: int
    """Rows, of equal latitude, from pole to pole."""
    width: int
    """Columns, once around; an even number."""
    to_grid: Tensor
    """(height width, H W of the state), float64."""
    from_grid: Tensor
    """(H W of the state, height width), float64."""
