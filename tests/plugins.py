"""Packages for tests: their files and what an installer writes beside them."""

from collections.abc import Callable, Mapping
from pathlib import Path

#: (package, {group: {name: reference}}, modules={path: source}, version="1.0") installs one.
Announce = Callable[..., None]


def write_package(
    folder: Path,
    package: str,
    entries: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> None:
    """Write an installed package into a folder that is, or will be, on the path.

    Args:
        folder: in which packages are installed.
        package: the distribution's name.
        entries: name to reference, by group.
        modules: source by path.
        version: of the distribution.
    """
    record = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True, exist_ok=True)
    (record / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    )
    lines = []
    for group, names in entries.items():
        lines += [f"[{group}]", *(f"{name} = {reference}" for name, reference in names.items())]
    (record / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for path, source in (modules or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(source)


PROCESSES, DATASETS = "kod_bench.processes", "kod_bench.datasets"

BLUR = """
{before}
from kod_bench.diffusion import DDPM

class Blur(DDPM):
    structured = True

    def __init__(self, *, shape: tuple[int, int, int], steps: int, radius: float = 1.0) -> None:
        super().__init__(shape=shape, steps=steps)
        if radius < 0:
            raise ValueError(f"radius must be at least 0, got {{radius}}")
        self.radius = radius
"""

DOTS = """
{before}
import numpy as np
from kod_bench.data import DatasetSpec, SourceImage, unless_folder

class Dots:
    name, title, units = "{name}", "dots", 20
    notes, parallel, split_rule = (), False, ""
    def __init__(self, options):
        self.size = options.image_size
    def identity(self):
        return {{}}
    def unpack(self, folder):
        pass
    def read(self, unit):
        pixels = np.full((self.size, self.size), {value}, np.uint8)
        pixels.flat[unit] = 0
        return [SourceImage(str(unit), pixels)]

DOTS = DatasetSpec(
    subject="picture", group_noun="dots", layout="any", licence="free",
    without_folder=lambda _: "drawn", open_special=unless_folder(Dots), defaults={defaults},
)
"""


def blur(announce: Announce, name: str, before: str = "", **more: str) -> None:
    """Install a process; names differ between tests, since classes are imported once."""
    module = f"plugged_{name}"
    source = {f"{module}.py": BLUR.format(before=before)}
    announce(f"bench-{name}", {PROCESSES: {name: f"{module}:Blur"}}, source, **more)


def dots(
    announce: Announce,
    name: str,
    *,
    before: str = "",
    source_name: str = "",
    value: int = 255,
    defaults: str = "{'view': 'whole'}",
) -> None:
    """Install a data set."""
    module = f"plugged_{name}"
    text = DOTS.format(before=before, name=source_name or name, value=value, defaults=defaults)
    announce(f"bench-{name}", {DATASETS: {name: f"{module}:DOTS"}}, {f"{module}.py": text})


def marked(mark: Path) -> str:
    """Source that leaves a mark when it runs."""
    return f"open({str(mark)!r}, 'w').close()"


def write_space(folder: Path, models: str, dataset: str = "fingerprints", more: str = "") -> Path:
    path = folder / "study.yaml"
    path.write_text(
        f"name: study\ndataset: {{name: {dataset}, image_size: 16}}\n"
        "training: {iterations: 10, batch_size: 8}\n"
        f"evaluation: {{samples: 16, references: 16, features: efficientnet-lite0}}\n{more}"
        f"models:\n{models}\n"
    )
    return path
