"""Textures: Brodatz's album, as the USC-SIPI database or others have digitised it."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from kod_bench.data import photographs
from kod_bench.data.photographs import PhotographSource
from kod_bench.data.spec import DatasetSpec, unless_folder

PHOTOGRAPHS = ("brick", "grass", "gravel")

# USC-SIPI volume 1: 1.1.NN is a texture, 1.2.NN the same one with its histogram equalised.
_USC_SIPI = re.compile(r"1\.[12]\.(\d\d)")
# Brodatz's own numbers, D1 to D112: the original and a normalised version have the same.
_BRODATZ = re.compile(r"d0*(\d{1,3})", re.IGNORECASE)


def texture_keys(names: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Names the texture of each image; versions of the same texture have the same key.

    An image whose name follows neither scheme is a texture of its own.

    Args:
        names: Paths below the data folder, with "/".
        digests: Not needed.
    """
    del digests
    keys = []
    for name in names:
        stem = PurePosixPath(name).stem
        if match := _USC_SIPI.fullmatch(stem):
            keys.append(f"usc-sipi {match[1]}")
        elif match := _BRODATZ.fullmatch(stem):
            keys.append(f"brodatz {match[1]}")
        else:
            keys.append(name)
    return keys


SPEC = DatasetSpec(
    subject="texture",
    group_noun="textures",
    group_keys=texture_keys,
    divides=False,
    layout="any folder of images, such as USC-SIPI's volume of textures",
    licence=f"Brodatz and USC-SIPI: for research, not redistributed; {photographs.LICENCE}",
    without_folder=lambda _: f"built in: scikit-image's {', '.join(PHOTOGRAPHS)}",
    open_special=unless_folder(lambda options: PhotographSource(options, PHOTOGRAPHS)),
)
