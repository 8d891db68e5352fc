"""The check that waits for a GPU works as far as a CPU can tell: its pieces, at tiny sizes."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check, gpu_parts
from kod_bench.diffusion import PROCESSES

TINY = gpu_parts.scale_of("tiny", "cpu")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [name for name in gpu_parts.PARTS if name != "agreement"])
def test_a_part_gives_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Traced as ever, but no code is generated, which takes a compiler and a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    rows = gpu_parts.PARTS[name](TINY)
    assert rows
    for row in rows:
        assert math.isfinite(row["value"]), row
        assert {"what", "unit"} < row.keys()
    exact = ("messages", "gradients of DDP", "graph", "could not")
    told = [row for row in rows if any(word in row["what"] for word in exact)]
    assert all(row["holds"] for row in told), told
    assert bool(told) == (name in ("exchange", "compiling"))


def test_devices_that_agree_agree_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = gpu_parts.agreement(TINY)
    assert len(rows) >= len(PROCESSES)
    assert all(row["holds"] for row in rows)
    # A device whose arithmetic is off by a hundredth.
    walk, turns = gpu_parts.walk, iter(range(1000))

    def off(*arguments: Any) -> list[torch.Tensor]:
        factor = 1.05 if next(turns) % 2 else 1.0
        return [factor * each for each in walk(*arguments)]

    monkeypatch.setattr(gpu_parts, "walk", off)
    assert not any(row["holds"] for row in gpu_parts.agreement(TINY))


def test_numbers_are_drawn_on_the_host_whatever_the_device() -> None:
    meta = torch.device("meta")
    generator = gpu_parts.HostGenerator(meta).manual_seed(3)
    assert generator.device == meta
    with gpu_parts.DrawOnHost():
        drawn = torch.randn(3, generator=generator, device=generator.device)
        chosen = torch.multinomial(torch.ones(4), 2, generator=generator)
    assert drawn.device == chosen.device == meta
    generator, plain = (
        made.manual_seed(3)
        for made in (gpu_parts.HostGenerator(torch.device("cpu")), torch.Generator())
    )
    with gpu_parts.DrawOnHost():
        on_host = torch.randn(3, generator=generator, device=generator.device)
    assert torch.equal(on_host, torch.randn(3, generator=plain))


def test_a_part_that_needs_more_packages_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu_check.NEEDS, "sweep", ("torch", "no_such_package"))
    found = gpu_check.in_a_process("sweep", "cpu", 60)
    assert (found["status"], found["why"]) == ("left out", "needs no_such_package")
    lines = list(gpu_check.lines_of("sweep", found))
    assert lines == ["\nsweep (0 s): left out: needs no_such_package"]


def test_all_parts_together_take_less_than_eight_minutes() -> None:
    assert sum(gpu_check.LIMITS.values()) <= gpu_check.MOST < 480
    assert set(gpu_parts.PARTS) < set(gpu_check.LIMITS)


@pytest.mark.slow
def test_the_cpus_form_says_so_and_ends_parts_in_time(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu_check.py", "--device", "cpu", "--parts",
         "agreement", "exchange", "--output", file],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the CPU's form" in done.stdout
    assert "gloo" in done.stdout
    assert file.with_suffix(".txt").read_text() == done.stdout  # the table
    report = json.loads(file.read_text())
    assert report["form"] == "cpu"
    assert [each["status"] for each in report["parts"].values()] == ["done", "done"]
    found = gpu_check.in_a_process("steps", "cpu", 5)
    assert (found["status"], found["why"]) == ("out of time", "ended after 5 s")
    failed = gpu_check.in_a_process("agreement", "no-such-device", 60)
    assert failed["status"] == "failed"
    assert "no-such-device" in failed["why"] or "device" in failed["why"]


def test_without_a_gpu_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cuda"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu_check.main()
    assert "--device cpu runs the CPU's form" in capsys.readouterr().err
