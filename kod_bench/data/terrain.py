"""Terrain: the ground seen from above, in classes, as in GTOS."""

from pathlib import Path

from kod_bench.data import photographs
from kod_bench.data.options import DatasetOptions
from kod_bench.data.photographs import PhotographSource
from kod_bench.data.spec import DatasetSpec, Source

PHOTOGRAPHS = ("grass", "gravel")


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source | None:
    del cache_dir
    return PhotographSource(options, PHOTOGRAPHS) if folder is None else None


SPEC = DatasetSpec(
    subject="texture",
    group_noun="source images",
    layout="<class>/*, or train/<class>/* and test/<class>/*",
    licence=f"GTOS: for research, ask its authors; {photographs.LICENCE}",
    without_folder=lambda _: f"built in: scikit-image's {', '.join(PHOTOGRAPHS)}",
    open_special=_open,
)
