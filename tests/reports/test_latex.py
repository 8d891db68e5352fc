import shutil
import subprocess
from pathlib import Path

import pytest

from kod_bench.reports import SweepOrigin, frame_of, make_content
from kod_bench.reports.latex import to_latex
from tests.rows import make_row

HOSTILE = '\\end{document} #1 $_^ {% & ~ "q" `x\' -- é ß μ 中 ¡ð þ° ﬁ'


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-base)")
def test_the_document_compiles_with_every_letter_that_a_name_may_have(tmp_path: Path) -> None:
    rows = [
        make_row(model=model, process=process, seed=seed, kid=kid + seed, trial=f"{model}{seed}")
        for model, process, kid in ((HOSTILE, "kuramoto", 1.0), ("ddpm", "ddpm", 2.0))
        for seed in range(7)
    ]
    rows += [make_row(model=f"{i:x<40}", process="kuramoto") for i in range(80)]
    origin = SweepOrigin("s/1", "1", "laptop", 9, "", "0", failures=(("t", HOSTILE),))
    content = make_content(frame_of(rows), title=HOSTILE, sweeps=[origin])
    (tmp_path / "x.tex").write_text(to_latex(content))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "x.pdf").stat().st_size > 10_000
