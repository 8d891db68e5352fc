"""`folder:PATH`: images of anything."""

from pathlib import Path

from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, Source


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source | None:
    del options, folder, cache_dir
    return None  # the name itself says the folder


SPEC = DatasetSpec(
    subject="picture",
    group_noun="source images",
    layout="any folder of images; folders train and test are the split",
    licence="yours to know",
    without_folder=lambda _: "the folder that the name says",
    open_special=_open,
)
