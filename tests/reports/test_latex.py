import shutil
import subprocess
from pathlib import Path

import pytest

from kod_bench.reports import SweepOrigin, frame_of, make_content
from kod_bench.reports.latex import to_latex
from tests.conftest import PATIENCE
from tests.rows import make_row

HOSTILE = '\\end{document} #1 $_^ {% & ~ "q" `x\' -- é ß μ 中 ¡ð þ° ﬁ'


needs_tex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)"
)


def compiled(folder: Path, text: str) -> str:
    """What TeX says of a document, which it must not refuse."""
    (folder / "x.tex").write_text(text)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@needs_tex
def test_tables_of_three_metrics_with_intervals_fit_the_page(tmp_path: Path) -> None:
    rows = [
        make_row(
            model=model,
            process=process,
            seed=seed,
            kid=0.7 + seed / 10,
            fid=288.0 + 20 * seed,
            spectrum_distance=0.9 + seed / 100,
            spectrum_distance_real=0.03,
        )
        for model, process in (("isotropic", "sphere"), ("ddpm", "ddpm"))
        for seed in range(4)
    ]
    text = to_latex(make_content(frame_of(rows), title="x"))
    assert "Overfull" not in compiled(tmp_path, text)


@needs_tex
def test_the_document_compiles_with_every_letter_that_a_name_may_have(tmp_path: Path) -> None:
    rows = [
        make_row(model=model, process=process, seed=seed, kid=kid + seed, trial=f"{model}{seed}")
        for model, process, kid in ((HOSTILE, "kuramoto", 1.0), ("ddpm", "ddpm", 2.0))
        for seed in range(7)
    ]
    rows += [make_row(model=f"{i:x<40}", process="kuramoto") for i in range(80)]
    origin = SweepOrigin("s/1", "1", "laptop", 9, "", "0", failures=(("t", HOSTILE),))
    content = make_content(frame_of(rows), title=HOSTILE, sweeps=[origin])
    compiled(tmp_path, to_latex(content))
    assert (tmp_path / "x.pdf").stat().st_size > 10_000
