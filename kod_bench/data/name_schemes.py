"""What the file names of public collections say: which images show the same finger or surface.

A scheme gives an image its labels: images that share one belong together. Most images have one
label; a print of four fingers at once has four. Each scheme is found anywhere in a name, so that
a prefix (`enhanced_f0001_01.png`) or a suffix (`f0001_01_copy.png`) does not hide it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

#: What a name says: its labels, none where it says nothing.
Labels = tuple[str, ...]


class Scheme(Protocol):
    """How one collection names its files."""

    @property
    def collection(self) -> str:
        """Its name, for messages."""
        ...

    def labels(self, path: PurePosixPath) -> Labels:
        """What shows in the image of this name; nothing if the name is not one of the scheme."""
        ...


@dataclass(frozen=True)
class StemScheme:
    """A scheme by the file's name alone: the pattern's groups say what the image shows.

    Attributes:
        collection: For messages.
        pattern: Searched in the name without folders and suffix.
        prefix: Keeps the labels of different schemes apart.
    """

    collection: str
    pattern: re.Pattern[str]
    prefix: str = ""

    def labels(self, path: PurePosixPath) -> Labels:
        """The pattern's groups, as one label."""
        match = self.pattern.search(path.stem)
        return () if match is None else (self.prefix + "_".join(match.groups()).lower(),)


# Fingers 1 to 10 run from the right thumb to the right little finger, then from the left thumb. The
# other positions show several at once (ANSI/NIST-ITL 1-2011, table 8), 0 an unknown one.
# fmt: off
_FINGERS_OF_POSITION: dict[int, tuple[int, ...]] = {
    0: tuple(range(1, 11)), 11: (1,), 12: (6,), 13: (2, 3, 4, 5), 14: (7, 8, 9, 10), 15: (1, 6),
    40: (2, 3), 41: (3, 4), 42: (4, 5), 43: (7, 8), 44: (8, 9), 45: (9, 10), 46: (2, 7),
    47: (2, 3, 4), 48: (3, 4, 5), 49: (7, 8, 9), 50: (8, 9, 10),
}
# fmt: on


@dataclass(frozen=True)
class NistScheme:
    """NIST SD300 to SD302: SUBJECT_KIND_PPI_POSITION, or SUBJECT_DEVICE_PPI_KIND_POSITION."""

    collection: str = "NIST SD300 to SD302"
    pattern: re.Pattern[str] = re.compile(
        r"(?<![0-9A-Za-z])(?P<subject>\d{8})_(?:[A-Za-z]{1,2}_)?(?:(?P<ppi>\d{3,4})_)?"
        r"[A-Za-z][A-Za-z-]*_(?:(?P<ppi_last>\d{3,4})_)?(?P<position>\d\d)(?![0-9])"
    )

    def labels(self, path: PurePosixPath) -> Labels:
        """Every finger that a print of this position shows: rolled, plain, or in a slap."""
        match = self.pattern.search(path.stem)
        if match is None:
            return ()
        position = int(match["position"])
        fingers = _FINGERS_OF_POSITION.get(position, (position,))
        return tuple(f"nist {match['subject']}_{finger}" for finger in fingers)

    def dpi(self, path: PurePosixPath) -> int | None:
        """The resolution in a name. SD300's 2000 ppi files say 5080 inside, so that names count."""
        match = self.pattern.search(path.stem)
        said = match and (match["ppi"] or match["ppi_last"])
        return int(said) if said else None


@dataclass(frozen=True)
class KthScheme:
    """KTH-TIPS and KTH-TIPS2: MATERIAL/sample_S/NUMBERs-scale_K_im_I_col."""

    collection: str = "KTH-TIPS"

    def labels(self, path: PurePosixPath) -> Labels:
        """One piece of a material, at every scale, pose and light."""
        match = _KTH.search(path.stem)
        if match is None:
            return ()
        folders = [_KTH_SAMPLE.fullmatch(folder) for folder in path.parts[:-1]]
        sample = match[2] or next((found[1] for found in folders if found), "")
        return (f"kth-tips {match[1]}{sample}".lower(),)


_KTH = re.compile(r"(?<![0-9A-Za-z])(\d+)([a-z]?)-scale_\d+_im_\d+_(?:col|gr[ae]y)", re.IGNORECASE)
_KTH_SAMPLE = re.compile(r"sample_([a-z])", re.IGNORECASE)

NIST = NistScheme()

#: How labels of NIST SD4 begin.
SD4 = "sd4 "

#: Fingers. FVC's names are not among them: they need a look at all names, see `fingerprints`.
FINGER_SCHEMES: tuple[Scheme, ...] = (
    # SUBJECT__SEX_HAND_finger, and three kinds of alteration. Subjects are numbered once.
    StemScheme(
        "SOCOFing",
        re.compile(
            r"(?<![0-9A-Za-z])(\d+__[MF]_(?:Left|Right)_(?:thumb|index|middle|ring|little)_finger)"
            r"(?![0-9A-Za-z])",
            re.IGNORECASE,
        ),
    ),
    NIST,
    # f and s are the first and the second rolling of one finger.
    StemScheme(
        "NIST SD4",
        re.compile(r"(?<![0-9A-Za-z])[fs](\d{4})_(\d\d)(?![0-9])", re.IGNORECASE),
        SD4,
    ),
    # PERSON_HAND-AND-FINGER_IMPRESSION.
    StemScheme(
        "CASIA-FingerprintV5",
        re.compile(r"(?<![0-9A-Za-z])(\d{3})_([LR]\d)_\d(?![0-9])", re.IGNORECASE),
        "casia ",
    ),
)

_SIPI_ROTATED = "bark|brick|bubbles|grass|leather|pigskin|raffia|sand|straw|water|weave|wood|wool"
TEXTURE_SCHEMES: tuple[Scheme, ...] = (
    # USC-SIPI volume 1: 1.1.NN is a texture, 1.2.NN the same one with its histogram equalised.
    StemScheme("USC-SIPI", re.compile(r"(?<![0-9.])1\.[12]\.(\d\d)(?![0-9])"), "usc-sipi "),
    # Its volume of rotated textures: NAME.DEGREES.
    StemScheme(
        "USC-SIPI, rotated",
        re.compile(rf"^({_SIPI_ROTATED})\.\d{{3}}$", re.IGNORECASE),
        "usc-sipi rotated ",
    ),
    # Brodatz's own numbers, D1 to D112: original, normalised, coloured (D1_COLORED) and cut
    # versions (D1_COLORED_7) have the same.
    StemScheme(
        "Brodatz",
        re.compile(
            r"^(?:[A-Za-z]+[ _.-]+)*d0*([1-9]|[1-9]\d|10\d|11[0-2])(?:[_.-].*)?$", re.IGNORECASE
        ),
        "brodatz ",
    ),
    KthScheme(),
)


def labels_by(schemes: Sequence[Scheme], name: str) -> Labels:
    """What the first scheme that knows a name says of it.

    Args:
        schemes: In the order in which they are asked.
        name: Path below the data folder, with "/".
    """
    path = PurePosixPath(name)
    return next((found for scheme in schemes if (found := scheme.labels(path))), ())


def recognised(names: Sequence[str]) -> str | None:
    """The collection that most names are of, if its images belong together; None without one.

    Args:
        names: Paths below the data folder, with "/".
    """
    for scheme in (*FINGER_SCHEMES, *TEXTURE_SCHEMES):
        found = [labels for name in names if (labels := scheme.labels(PurePosixPath(name)))]
        if 2 * len(found) > len(names) and len(set(found)) < len(found):
            return scheme.collection
    return None
