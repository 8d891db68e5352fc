"""Fingerprints: scans on disk, grouped by finger, or synthetic ones."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from kod_bench.data import synthetic_fingerprints
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, SourceImage, unless_folder

# FVC: FINGER_IMPRESSION, numbered anew in each of a competition's four databases.
_FVC = re.compile(r"(\d+)_\d+")
# SOCOFing: SUBJECT__SEX_HAND_finger, and three kinds of alteration. Subjects are numbered once.
_SOCOFING = re.compile(
    r"(\d+__[MF]_(?:Left|Right)_(?:thumb|index|middle|ring|little)_finger)(?:_(?:CR|Obl|Zcut))?",
    re.IGNORECASE,
)


def finger_keys(names: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Names the finger of each image; images of the same finger have the same key.

    `101_1.tif` is finger 101 wherever it stands, and an altered SOCOFing print belongs to the
    finger it was made from. An image whose name follows neither scheme is a finger of its own.

    The folder enters only where it must: if the same FVC file name occurs in several folders with
    different pixels, these are different databases, whose fingers of that number have nothing in
    common. Otherwise a folder says nothing: one finger may be spread over several (a train and a
    test folder, say), and separating it would leak it from one side of the split to the other.

    Args:
        names: Paths below the data folder, with "/".
        digests: Hash of the pixels of each image.

    Returns:
        One key per image.
    """
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for name, digest in zip(names, digests, strict=True):
        contents[PurePosixPath(name).name.lower()].add(digest)

    matches = [_FVC.fullmatch(PurePosixPath(name).stem) for name in names]
    reused = {
        match[1]
        for name, match in zip(names, matches, strict=True)
        if match and len(contents[PurePosixPath(name).name.lower()]) > 1
    }
    keys = []
    for name, match in zip(names, matches, strict=True):
        path = PurePosixPath(name)
        if match:
            keys.append(f"{path.parent}/{match[1]}" if match[1] in reused else match[1])
        elif altered := _SOCOFING.fullmatch(path.stem):
            keys.append(altered[1].lower())
        else:
            keys.append(name)
    return keys


class SyntheticSource:
    """The built-in generator, one unit per finger."""

    parallel = True
    split_rule = ""
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions) -> None:
        self.name = f"{options.name}-synthetic"
        self.title = f"synthetic {options.name}"
        self.units = options.synthetic.fingers
        self._options = options

    def identity(self) -> dict[str, object]:
        """How the prints are drawn."""
        return {"synthetic": self._options.synthetic.model_dump()}

    def unpack(self, folder: object) -> None:
        """Nothing to do."""

    def read(self, unit: int) -> Iterable[SourceImage]:
        """All impressions of one finger."""
        synthetic = self._options.synthetic
        for name, gray in synthetic_fingerprints.draw_prints(
            synthetic.seed, unit, synthetic.impressions
        ):
            rgb = self._options.color == "rgb"
            yield SourceImage(name, np.stack([gray] * 3, axis=-1) if rgb else gray)


SPEC = DatasetSpec(
    subject="print",
    group_noun="fingers",
    group_keys=finger_keys,
    divides=False,
    layout="FVC's FINGER_IMPRESSION names, SOCOFing's names, or any folder of prints",
    licence="SOCOFing and FVC: for research, not redistributed, people's own; synthetic: free",
    without_folder=lambda _: "built in: synthetic prints",
    open_special=unless_folder(SyntheticSource),
)
