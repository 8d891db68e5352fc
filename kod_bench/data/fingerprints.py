"""Fingerprints: scans on disk, grouped by finger, or synthetic ones."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from kod_bench.data import synthetic_fingerprints
from kod_bench.data.name_schemes import FINGER_SCHEMES, SD4, Labels, labels_by
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, SourceImage, unless_folder

# FVC: FINGER_IMPRESSION, numbered anew in each of a competition's four databases.
_FVC = re.compile(r"(\d+)_\d+")
# The same after a prefix, before a suffix, or both; of fewer digits, so that a date is no finger.
_FVC_WITHIN = re.compile(
    r"(?:(?P<prefix>.*?[A-Za-z].*?)[ _.-]+)??(?P<finger>\d{1,4})_\d{1,2}(?:[ _.-]*[A-Za-z(].*)?"
)
# What tells one database from another within a prefix: FVC2002, DB1, 2002_DB1, FVC2002_DB1.
_DATABASE = re.compile(
    r"(?<![A-Za-z])(?:(?:fvc)?[ _-]?(?:19|20)\d\d[ _-]?db[ _-]?\d|fvc[ _-]?\d{4}|db[ _-]?\d)",
    re.IGNORECASE,
)


def finger_labels(names: Sequence[str], digests: Sequence[str]) -> list[Labels]:
    """Names the finger of each image; images that share a label show the same finger.

    `101_1.tif` is finger 101 wherever it stands, as is `enhanced_101_1.tif`; the names of
    SOCOFing, NIST SD4, SD300 to SD302 and CASIA-FingerprintV5 are known, too.

    The folder enters only where it must: if the same FVC file name occurs in several folders with
    different pixels, these are different databases, whose fingers of that number have nothing in
    common. Otherwise a folder says nothing: one finger may be spread over several, and separating
    it would leak it from one side of the split to the other. Likewise a prefix: it counts only if
    it names a database (`fvc2002_db1_101_1.tif`). One with any other number says nothing:
    `p12_3_1.tif` may be a person's third finger, or a third copy.

    Args:
        names: Paths below the data folder, with "/".
        digests: Hash of the pixels of each image.

    Returns:
        The labels of each image; none where the name follows no scheme.
    """
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for name, digest in zip(names, digests, strict=True):
        contents[PurePosixPath(name).name.lower()].add(digest)

    numbered = [_numbered(name) for name in names]
    reused = {
        finger
        for name, (finger, database) in zip(names, numbered, strict=True)
        if finger and not database and len(contents[PurePosixPath(name).name.lower()]) > 1
    }
    labels: list[Labels] = []
    for name, (finger, database) in zip(names, numbered, strict=True):
        if not finger:
            labels.append(labels_by(FINGER_SCHEMES, name))
            continue
        if not database and finger in reused:
            database = str(PurePosixPath(name).parent)
        labels.append((f"{database}/{finger}" if database else finger,))
    # A user's own s0001_01 looks like SD4's. Of its fingers there are two impressions each.
    sd4 = [label for own in labels for label in own if label.startswith(SD4)]
    if len(set(sd4)) == len(sd4):
        labels = [tuple(each for each in own if not each.startswith(SD4)) for own in labels]
    return labels


def _numbered(name: str) -> tuple[str, str]:
    """The finger's number in a name like FVC's, and the database that its prefix names, if any."""
    stem = PurePosixPath(name).stem
    if match := _FVC.fullmatch(stem):
        return match[1], ""
    match = _FVC_WITHIN.fullmatch(stem)
    if match is None or labels_by(FINGER_SCHEMES, name):
        return "", ""
    prefix = match["prefix"] or ""
    if any(map(str.isdigit, _DATABASE.sub("", prefix))):
        return "", ""
    return match["finger"], re.sub("[ _-]", "", "".join(_DATABASE.findall(prefix))).lower()


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
        return {
            "synthetic": self._options.synthetic.model_dump(),
            "drawing": synthetic_fingerprints.DRAWING,
        }

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
    group_labels=finger_labels,
    layout="prints named as in FVC, SOCOFing, NIST SD4, SD300 or CASIA, or any with group: REGEX; "
    "folders train and test are the split",
    licence="SOCOFing and FVC: for research, not redistributed, people's own; synthetic: free",
    without_folder=lambda _: "built in: synthetic prints",
    open_special=unless_folder(SyntheticSource),
)
