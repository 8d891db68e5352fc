"""The data set `xy`: fields of the two-dimensional XY model, built in."""

import math
from collections.abc import Iterable

import numpy as np

from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, SourceImage, built_in_alone
from kod_bench.data.splits import held_out_count
from kod_bench.data.xy_model import DRAWING, draw_fields

_EACH = 20  # fields of a chain, at most
_FEWEST = 50  # chains, if there are so many fields
_TOGETHER = 25  # chains of a unit


class XySource:
    """The chains, `_TOGETHER` per unit; those of the test side are others than those of training.

    Args:
        options: Of the data set.
    """

    parallel = True
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions) -> None:
        self.name = options.name
        self.title = f"XY model at temperature {options.xy.temperature:g}"
        self._size, self._options = options.image_size, options.xy
        count = options.xy.count
        self._chains = max(min(count, _FEWEST), math.ceil(count / _EACH))
        self.units = math.ceil(self._chains / _TOGETHER)
        self._test = held_out_count(options.test_share, self._chains)
        self.split_rule = (
            f"by chain: {self._chains - self._test} Markov chains are for training, "
            f"{self._test} others for testing"
        )

    def identity(self) -> dict[str, object]:
        """How the fields are drawn; which options there are is not of their concern."""
        return {"xy": self._options.model_dump(mode="json"), "drawing": DRAWING}

    def unpack(self, folder: object) -> None:
        """Nothing to do."""

    def read(self, unit: int) -> Iterable[SourceImage]:
        """The fields of some chains."""
        first = unit * _TOGETHER
        chains = range(first, min(first + _TOGETHER, self._chains))
        each = math.ceil(self._options.count / self._chains)
        generator = np.random.default_rng([self._options.seed, unit])
        fields = draw_fields(self._size, self._options.temperature, len(chains), each, generator)
        for chain, of_chain in zip(chains, fields, strict=True):
            side = "test" if chain < self._test else "train"
            # The count need not be a multiple: the last chains give one field less.
            own = each if chain < self._options.count - (each - 1) * self._chains else each - 1
            for place in range(own):
                yield SourceImage(f"{side}/{chain + 1:05d}-{place + 1:02d}", of_chain[place])


SPEC = DatasetSpec(
    subject="angles",
    values="angles",
    group_noun="fields",
    layout="none: fields of your own are angles:PATH",
    licence="free",
    without_folder=lambda _: "built in: equilibrium fields of the XY model",
    open_special=built_in_alone(XySource),
)
