"""What a search space may say of maps of the sphere."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

SphereField = Literal["gaussian", "log-normal", "land-sea"]
SphereGridName = Literal["gauss-legendre", "cells", "poles", "driscoll-healy", "mcewen-wiaux"]


class SphereOptions(BaseModel, extra="forbid", frozen=True):
    """Maps of the sphere: which are drawn without a folder of them, and how a folder's files lie.

    Attributes:
        field: "gaussian" and "log-normal" are random; "land-sea" is the Earth's land, turned.
        spectral_index: alpha of a random field: its power falls as (l + 1)^-alpha with degree l.
        count: Number of maps, both sides of the split together.
        seed: Draws other maps; results with different seeds are different data sets.
        grid: Of files: where their rows are, see `data.sphere_grids`; None for what their shape
            and their values say.
        flip: Of files: "latitude" for rows from south to north.
        fill: Of files: the number that stands for a missing value, or "nan"; each map's mean takes
            its place. "none" says that every number is a value. None refuses what looks missing.
    """

    field: SphereField = "gaussian"
    spectral_index: float = Field(default=3.0, ge=0, le=10)
    count: int = Field(default=2000, ge=2, le=100_000)
    seed: int = Field(default=0, ge=0)
    grid: SphereGridName | None = None
    flip: Literal["latitude"] | None = None
    fill: Annotated[float, Field(allow_inf_nan=False)] | Literal["nan", "none"] | None = None

    @field_validator("fill", mode="wrap")
    @classmethod
    def _check_fill(cls, value: Any, check: Callable[[Any], Any]) -> Any:
        if isinstance(value, float) and math.isnan(value):  # YAML's .nan, which JSON has not
            return "nan"
        try:
            return None if value is None else check(value)
        except ValidationError:  # pydantic's own would speak of each member of the union
            raise ValueError("must be a finite number, nan or none") from None

    @model_serializer(mode="wrap")
    def _without_unsaid(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All options, but of those about files, which came later, what is said alone.

        Trials are known by the hash of their options: a plan from before stays what it is.
        """
        found: dict[str, Any] = dump(self)
        unsaid = {key for key in ("grid", "flip", "fill") if found.get(key) is None}
        return {key: value for key, value in found.items() if key not in unsaid}

    @property
    def drawn(self) -> dict[str, Any]:
        """What built-in maps depend on."""
        return self.model_dump(include={"field", "spectral_index", "count", "seed"})
