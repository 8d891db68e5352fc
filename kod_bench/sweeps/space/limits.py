"""What every section of a search space has in common: its types of values, and their bounds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: Far above what anybody trains, samples or draws today, and below what a machine dies of: a zero
#: too many is refused with the bound. docs/search-spaces.md states them.
MAX_ITERATIONS = 100_000_000
MAX_BATCH = 65_536
MAX_SAMPLES = 1_000_000
MAX_WIDTH = 4096
MAX_WORKERS = 10_000
MAX_MINUTES = 10 * 366 * 24 * 60
#: How often early stopping may judge one trial.
MAX_RUNGS = 1000
#: Rows keep seeds in 64 bits.
MAX_SEED = 2**63 - 1

Count = Annotated[int, Field(ge=1)]
Iterations = Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH)]
Samples = Annotated[int, Field(ge=2, le=MAX_SAMPLES)]
Workers = Annotated[int, Field(ge=1, le=MAX_WORKERS)]
Small = Annotated[int, Field(ge=1, le=64)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
PositiveFloat = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class Section(BaseModel):
    """A mapping of a search space: no unknown keys, no infinite numbers, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
