"""The data set `flow`: direction of the velocity of two-dimensional turbulence, built in."""

import math
from collections.abc import Iterable

import numpy as np

from kod_bench.data import portable
from kod_bench.data.angle_fields import as_stored
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, SourceImage, built_in_alone
from kod_bench.data.splits import held_out_count
from kod_bench.data.turbulence import DRAWING, Turbulence

#: When a flow is looked at, in units of the box's side over 2 pi and the initial mean velocity: by
#: the first, it has forgotten that its phases were independent.
TIMES = (2.0, 3.0, 4.0, 5.0)
_TOGETHER = 16  # flows of a unit
_FINER = 2  # points of the grid that is solved on, for each that is shown
_LEAST = 64  # points, so that the largest waves of the start are far from the cut


class FlowSource:
    """The flows, `_TOGETHER` per unit, each at `TIMES`; a flow is on one side of the split.

    Args:
        options: Of the data set.
    """

    parallel = True
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions) -> None:
        self.name = options.name
        self.title = f"two-dimensional turbulence of viscosity {options.flow.viscosity:g}"
        self._size, self._options = options.image_size, options.flow
        self._flows = max(2, math.ceil(options.flow.count / len(TIMES)))
        self.units = math.ceil(self._flows / _TOGETHER)
        self._test = held_out_count(options.test_share, self._flows)
        self.split_rule = (
            f"by flow: {self._flows - self._test} flows are for training, {self._test} others for "
            "testing"
        )

    def identity(self) -> dict[str, object]:
        """How the flows are drawn."""
        return {
            "flow": self._options.model_dump(mode="json"),
            "times": TIMES,
            "drawing": DRAWING,
        }

    def unpack(self, folder: object) -> None:
        """Nothing to do."""

    def read(self, unit: int) -> Iterable[SourceImage]:
        """Some of the flows, at all times."""
        first = unit * _TOGETHER
        flows = range(first, min(first + _TOGETHER, self._flows))
        every = _FINER * math.ceil(_LEAST / (_FINER * self._size))
        solver = Turbulence(every * self._size, self._options.viscosity)
        generator = np.random.default_rng([self._options.seed, unit])
        vorticity = solver.begin(len(flows), generator)
        before = 0.0
        for place, time in enumerate(TIMES):
            vorticity = solver.advance(vorticity, time - before)
            before = time
            u, v = solver.velocity(vorticity)
            # Rows run downwards, and directions are counted against the clock.
            angles = portable.arctan2(-v[:, ::every, ::every], u[:, ::every, ::every])
            for flow, angle in zip(flows, angles, strict=True):
                if place * self._flows + flow < self._options.count:
                    side = "test" if flow < self._test else "train"
                    yield SourceImage(f"{side}/{flow + 1:05d}-{time:g}", as_stored(angle))


SPEC = DatasetSpec(
    subject="angles",
    values="angles",
    group_noun="fields",
    layout="none: fields of your own are angles:PATH",
    licence="free",
    without_folder=lambda _: "built in: directions of two-dimensional turbulence",
    open_special=built_in_alone(FlowSource),
)
