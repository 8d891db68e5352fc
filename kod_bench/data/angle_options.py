"""What a search space may say of data sets whose values are angles."""

from typing import Literal

from pydantic import BaseModel, Field

#: What the numbers of a data set are: uint8 intensities from black to white, or float32 angles in
#: [-pi, pi).
Values = Literal["intensities", "angles"]

#: What becomes of an angle where its field is mirrored. "internal": nothing, it has no direction in
#: the plane of the image, as a spin has none. "direction": it is one, from the axis of the columns.
#: "compass": it is one, from the axis of the rows, as winds are given. "orientation": it is twice
#: that of a line, which has no head.
AngleKind = Literal["internal", "direction", "compass", "orientation"]

#: What the numbers of a user's own fields count.
AngleUnit = Literal["radians", "degrees"]

#: Names of folders of the user's own fields begin so.
ANGLES_PREFIX = "angles:"

#: What the angles of data sets are; those of `angles:PATH` are what `angles.kind` says.
ANGLE_KINDS: dict[str, AngleKind] = {
    "xy": "internal",
    "orientation": "orientation",
    "flow": "direction",
}


class XyOptions(BaseModel, extra="forbid", frozen=True):
    """The 2-D XY model on a torus.

    Attributes:
        temperature: T in units of the coupling, k_B = 1. Vortices unbind at 0.893.
        count: Number of fields, both sides of the split together.
        seed: Draws other fields; results with different seeds are different data sets.
    """

    temperature: float = Field(default=0.8, ge=0.02, le=1000)
    count: int = Field(default=10_000, ge=4, le=1_000_000)
    seed: int = Field(default=0, ge=0)


class OrientationOptions(BaseModel, extra="forbid", frozen=True):
    """Ridge orientation as twice its angle.

    Attributes:
        coherence: Of a folder's images: the least mean coherence of a patch that is kept, 0 where
            there is no orientation and 1 where all ridges are parallel.
        window: Of a folder's images: standard deviation, in pixels of the image, over which the
            structure tensor is averaged.
    """

    coherence: float = Field(default=0.6, ge=0, lt=1)
    window: float = Field(default=4.0, gt=0, le=64)


class FlowOptions(BaseModel, extra="forbid", frozen=True):
    """Direction of the velocity of decaying two-dimensional turbulence.

    Attributes:
        count: Number of fields, both sides of the split together.
        viscosity: nu of the vorticity equation, in units of the box of side 2 pi and of the
            initial root mean square velocity.
        seed: Draws other flows; results with different seeds are different data sets.
    """

    count: int = Field(default=4000, ge=4, le=100_000)
    viscosity: float = Field(default=2e-3, ge=1e-4, le=1.0)
    seed: int = Field(default=0, ge=0)


class AngleFileOptions(BaseModel, extra="forbid", frozen=True):
    """How a folder of `.npy` arrays of angles is read.

    Attributes:
        unit: Of the numbers in the files. None is radians, unless they look like degrees.
        kind: What becomes of an angle where its field is mirrored; needed to augment.
    """

    unit: AngleUnit | None = None
    kind: AngleKind | None = None


def shrinking(scale: float) -> int:
    """The whole factor that a scale is.

    Raises:
        ValueError: It is none.
    """
    factor = round(1 / scale)
    if abs(1 / scale - factor) > 0.02 * factor:
        raise ValueError(
            f"angles are shrunk by whole factors, 1, 0.5, 0.333, 0.25 and so on, not {scale:g}"
        )
    return factor


def has_built_in_angles(name: str) -> bool:
    """Whether a data set of this package has angles: what can be said without importing a plug-in.

    So options can be validated and listed; a plug-in's own are its affair.
    """
    return name in ANGLE_KINDS or name.startswith(ANGLES_PREFIX)
