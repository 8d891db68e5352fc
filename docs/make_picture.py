"""Make docs/pictures/first.svg, the picture of README.md: samples, and a figure of a report.

    python docs/make_picture.py

Both are of the study `angles-restart` in results/reference: samples of three models by `restart` at
25 evaluations as the sweep drew them, cut, and the report's figure of vortices against evaluations.
"""

import base64
import io
import re
import tempfile
from html import escape
from pathlib import Path

from PIL import Image

from kod_bench.cli.report import make_report
from kod_bench.reports.figures.paper import write_paper_figures
from kod_bench.reports.figures.quality import against_steps
from kod_bench.sweeps.store.find import find_sweep

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "results" / "reference" / "angles-restart"
#: Title, trials and picture of each column.
SAMPLES = (
    ("Kuramoto, local, correlated prior", "local-1-*seed0-*", "samples-correlated-restart-25.png"),
    ("wrapped normal, isotropic", "wrapped-*seed0-*", "samples-uniform-restart-25.png"),
    ("DDPM on (cos, sin)", "ddpm-circle-*seed0-*", "samples-standard-normal-restart-25.png"),
)
#: Fields of each model, in a square; pixels from one to the next, and of the line between them.
FIELDS, PITCH, LINE = 3, 68, 4
SIDE = FIELDS * PITCH - LINE
GAP, HEAD = 14, 22
METRIC, HEADING = "vortex_density_difference", "Vortices, difference from the data's"
FIGURE = "vortex-density-difference-against-steps.svg"


def samples_image(trials: str, name: str) -> str:
    """The first fields of a grid of samples, as the address of an image."""
    (path,) = (STUDY / "trials").glob(f"{trials}/{name}")
    with Image.open(path) as whole:
        part = whole.convert("RGB").crop((LINE, LINE, LINE + SIDE, LINE + SIDE))
    file = io.BytesIO()
    part.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def figure(width: int, height: int) -> str:
    """The report's figure, to be put into another."""
    content = make_report([find_sweep(f"reference/{STUDY.name}", ROOT / "results")]).content
    (group,) = content.groups
    with tempfile.TemporaryDirectory() as scratch:
        chart = against_steps(group, METRIC, HEADING)
        assert chart is not None
        write_paper_figures(Path(scratch), [chart])
        text = (Path(scratch) / FIGURE).read_text()
    text = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None
    inner = text[text.index(">") + 1 :]
    return (
        f'<svg x="0" y="{SIDE + HEAD + GAP}" width="{width}" height="{height}" '
        f'viewBox="{box[1]}" xmlns:xlink="http://www.w3.org/1999/xlink">{inner}'
    )


def main() -> None:
    """Write it."""
    width = len(SAMPLES) * (SIDE + GAP) - GAP
    height = SIDE + HEAD + GAP + width * 9 // 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (title, trials, name) in enumerate(SAMPLES):
        x = number * (SIDE + GAP)
        parts.append(
            f'<text x="{x + SIDE / 2}" y="15" font-family="sans-serif" font-size="11.5" '
            f'text-anchor="middle">{escape(title)}</text>'
            f'<image x="{x}" y="{HEAD}" width="{SIDE}" height="{SIDE}" '
            f'href="{samples_image(trials, name)}"/>'
        )
    parts += [figure(width, height - SIDE - HEAD - GAP), "</svg>"]
    out = ROOT / "docs" / "pictures" / "first.svg"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
