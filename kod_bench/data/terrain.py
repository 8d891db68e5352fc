"""Terrain: the ground seen from above, in classes, as in GTOS."""

from kod_bench.data import photographs
from kod_bench.data.photographs import PhotographSource
from kod_bench.data.spec import DatasetSpec, unless_folder

PHOTOGRAPHS = ("grass", "gravel")


SPEC = DatasetSpec(
    subject="texture",
    group_noun="source images",
    layout="<class>/*, or train/<class>/* and test/<class>/*",
    licence=f"GTOS: for research, ask its authors; {photographs.LICENCE}",
    without_folder=lambda _: f"built in: scikit-image's {', '.join(PHOTOGRAPHS)}",
    open_special=unless_folder(lambda options: PhotographSource(options, PHOTOGRAPHS)),
)
