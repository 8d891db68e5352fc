"""Pictures of trials inside the page, as many as it may hold."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kod_bench.inside import is_file
from kod_bench.reports.content import Cell, Group
from kod_bench.reports.figures import TrialFiles
from kod_bench.reports.picture_files import read_first_fields, read_picture
from kod_bench.results import (
    FORWARD_START,
    REAL_FILE,
    REAL_MAPS_FILE,
    forward_end_file,
    grid_file,
    maps_file,
    nearest_file,
    trajectory_file,
)

#: Pixels of the first fields of a grid of angles, across: three columns on a wide page.
FIELDS_SIDE = 400

_TYPES = {".png": "image/png", ".gif": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """A picture, its bytes in its address.

    Attributes:
        title: above it.
        alt: what it shows, for who does not see it.
        source: a ``data:`` address.
    """

    title: str
    alt: str
    source: str


@dataclass
class Budget:
    """Bytes of the page that pictures may still take.

    Attributes:
        left: so many.
        omitted: pictures that found no room.
    """

    left: int
    omitted: int = 0

    def embed(
        self, path: Path | None, title: str, alt: str, of_angles: bool = False
    ) -> Picture | None:
        """The picture, if it is there and there is room for it; of a grid of angles a part."""
        if path is None:
            return None
        try:
            size = path.lstat().st_size
        except OSError:
            return None
        if size * 4 // 3 > self.left and not of_angles:
            self.omitted += 1
            return None
        content = _part(path) if of_angles else read_picture(path)
        if content is None:
            return None
        if len(content) * 4 // 3 > self.left:
            self.omitted += 1
            return None
        encoded = base64.b64encode(content).decode()
        self.left -= len(encoded)
        return Picture(title, alt, f"data:{_TYPES[path.suffix]};base64,{encoded}")


@dataclass
class Way:
    """A trajectory, as a strip and as a film."""

    title: str
    strip: Picture
    film: Picture | None = None


@dataclass
class GroupPictures:
    """Pictures of a comparable set.

    Attributes:
        seeds: plain words: of which seed each one is.
        of_angles: whether they are fields of angles, and grids of samples the first fields only.
        samples: real images first, then lines of cells with equal network evaluations.
        maps: likewise, of samples on the sphere: Mollweide projections.
        nearest: samples that are closest to a training image.
        ways: trajectories.
        ends: forward end states beside the prior.
    """

    seeds: str
    of_angles: bool = False
    samples: list[tuple[str, list[Picture]]] = field(default_factory=list)
    maps: list[tuple[str, list[Picture]]] = field(default_factory=list)
    nearest: list[Picture] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    ends: list[Picture] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.samples or self.maps or self.nearest or self.ways or self.ends)


def group_pictures(group: Group, files: TrialFiles, budget: Budget) -> GroupPictures:
    """Pictures of a group's cells, all of one seed where they share one."""
    shared = set.intersection(*(set(cell.seeds) for cell in group.cells)) if group.cells else set()
    seed = min(shared) if shared else None
    words = f"All of seed {seed}." if seed is not None else "Of each cell's lowest seed."
    found = GroupPictures(words, group.of_angles)

    def embed(
        cell: Cell, name: str, title: str, what: str, of_angles: bool = False
    ) -> Picture | None:
        path = files.find(_trial(cell, seed), name)
        alt = f"{what}: {cell.label}, {cell.network_evaluations} network evaluations"
        return budget.embed(path, title, alt, of_angles)

    def side_by_side(
        real_name: str, file: Callable[[str, str, int], str], what: str
    ) -> list[tuple[str, list[Picture]]]:
        path = next((p for sweep in files.sweeps if is_file(p := sweep / real_name)), None)
        is_cut = group.of_angles
        real = budget.embed(path, "real, held out", f"{what}: real held-out images", is_cut)
        lines: list[tuple[str, list[Picture]]] = []
        by_evaluations: dict[int, list[Cell]] = {}
        for cell in group.cells:
            by_evaluations.setdefault(cell.network_evaluations, []).append(cell)
        for evaluations, cells in sorted(by_evaluations.items(), reverse=True):
            line = [embed(c, _name(file, c), c.label, what, is_cut) for c in cells]
            shown = [picture for picture in line if picture is not None]
            if shown and not lines and real is not None:
                shown.insert(0, real)
            if shown:
                lines.append((f"{evaluations} network evaluations", shown))
        return lines

    found.maps = side_by_side(REAL_MAPS_FILE, maps_file, "Mollweide maps of samples")
    found.samples = side_by_side(REAL_FILE, grid_file, "Grid of samples")
    most = sorted(group.cells, key=lambda cell: -cell.network_evaluations)
    seen: set[tuple[str, str, str, int]] = set()
    ends: set[tuple[str, str, int]] = set()
    films: list[Cell] = []
    for cell in most:
        title = f"{cell.label}, {cell.network_evaluations} evaluations"
        key = (cell.model, cell.sampler, cell.prior, cell.steps)
        if key not in seen:
            seen.add(key)
            what = "Samples above the training images closest to them"
            if picture := embed(cell, _name(nearest_file, cell), title, what):
                found.nearest.append(picture)
            what = "States from the prior, left, to the image, right"
            if strip := embed(cell, _name(trajectory_file, cell), title, what):
                found.ways.append(Way(title, strip))
                films.append(cell)
        end = (cell.model, cell.prior, cell.steps)
        if end not in ends and cell.prior != FORWARD_START:
            ends.add(end)
            what = "Where forward chains of real images end, beside draws of the prior"
            title = f"{cell.model}, T = {cell.steps}, prior {cell.prior}"
            if picture := embed(cell, forward_end_file(cell.prior), title, what):
                found.ends.append(picture)
    # They are the largest, and show what the strips do: where the page is full, they are left out.
    for way, cell in zip(found.ways, films, strict=True):
        name = trajectory_file(cell.prior, cell.sampler, cell.network_evaluations, film=True)
        way.film = embed(cell, name, way.title, "Film of states from the prior to the image")
    return found


def _part(path: Path) -> bytes | None:
    if (picture := read_first_fields(path, FIELDS_SIDE)) is None:
        return None
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def _trial(cell: Cell, seed: int | None) -> str:
    if not cell.trials:
        return ""
    place = cell.seeds.index(seed) if seed in cell.seeds else 0
    return cell.trials[place] if place < len(cell.trials) else cell.trials[0]


def _name(file: Callable[[str, str, int], str], cell: Cell) -> str:
    return file(cell.prior, cell.sampler, cell.network_evaluations)
