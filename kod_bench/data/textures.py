"""Textures: Brodatz's album, as the USC-SIPI database or others have digitised it."""

from collections.abc import Sequence

from kod_bench.data import photographs
from kod_bench.data.name_schemes import TEXTURE_SCHEMES, Labels, labels_by
from kod_bench.data.photographs import PhotographSource
from kod_bench.data.spec import DatasetSpec, unless_folder

PHOTOGRAPHS = ("brick", "grass", "gravel")


def texture_labels(names: Sequence[str], digests: Sequence[str]) -> list[Labels]:
    """Names the texture of each image; versions of the same texture have the same label.

    Args:
        names: Paths below the data folder, with "/".
        digests: Not needed.

    Returns:
        The labels of each image; none where the name follows no scheme.
    """
    del digests
    return [labels_by(TEXTURE_SCHEMES, name) for name in names]


SPEC = DatasetSpec(
    subject="texture",
    group_noun="textures",
    group_labels=texture_labels,
    layout="textures named as in USC-SIPI, Brodatz or KTH-TIPS, or any with group: REGEX; folders "
    "train and test are the split",
    licence=f"Brodatz and USC-SIPI: for research, not redistributed; {photographs.LICENCE}",
    without_folder=lambda _: f"built in: scikit-image's {', '.join(PHOTOGRAPHS)}",
    open_special=unless_folder(lambda options: PhotographSource(options, PHOTOGRAPHS)),
)
