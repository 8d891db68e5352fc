"""What nobody knows of this code until a GPU runs it: one command, under eight minutes.

    python benchmarks/gpu_check.py --output results/reference/gpu/NAME.json
    python benchmarks/gpu_check.py --device cpu --output results/reference/gpu/cpu.json

Needs Python, torch and this checkout; nothing is installed. Parts that need more packages say
which (`suite`: pytest and what the package depends on; `sweep`: the latter), and the others run.
Each part runs in a process of its own and is ended when its time is over, so that neither a crash
nor a compiler that hangs costs the other parts.

- agreement: batches, forward steps and samples of every process, against those of the CPU with the
  same random numbers
- suite: the conformance suite of processes on the device
- steps: training steps over DDPM's at 32 px and 96 px, batch 128, with the released networks, and
  the share of a step outside the network
- sampling: images per second
- precision: bf16 against fp32: gradients, losses, time
- compiling: what compiling takes and gains; that it is done once in a run
- memory: peak over an estimate, see `gpu_parts.estimated_bytes`
- exchange: NCCL (on a CPU gloo) with one process
- sweep: `kod-bench sweep` of two trials at once, each with half the GPU

`--parts` runs some, which join the others of the same machine in the output.

`--device cpu` is the CPU's form: smaller networks and images, gloo in place of NCCL, no bf16
units. It shows that this script works; its numbers say nothing about a GPU.
"""

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.gpu_parts import PARTS, Row, Scale, row, scale_of  # noqa: E402

#: Seconds that a part may take; together less than `MOST`.
LIMITS = {
    "agreement": 30,
    "steps": 80,
    "sampling": 30,
    "precision": 35,
    "compiling": 80,
    "memory": 25,
    "exchange": 25,
    "suite": 40,
    "sweep": 125,
}
#: Seconds of the whole.
MOST = 475
#: A CPU, which may be busy with other work, has so many times as long.
PATIENCE = {"gpu": 1, "cpu": 15}
#: What the package depends on, of which these parts need nearly all.
PACKAGES = ("numpy", "scipy", "pydantic", "yaml", "pyarrow", "pandas", "PIL", "torchvision",
            "cleanfid", "skimage", "tensorboardX", "rich", "typer", "optuna")  # fmt: skip
NEEDS = {"suite": ("pytest", *PACKAGES), "sweep": ("ray", *PACKAGES)}

SPACE = """
name: gpu-check
dataset: {{name: fingerprints, image_size: {pixels}, view: patches, scale: 0.5,
          synthetic: {{fingers: {fingers}, impressions: 4}}}}
network: {{width: {width}, multipliers: [1, 2, 2], blocks: 1}}
training: {{iterations: {iterations}, batch_size: {batch}, log_every: 20, checkpoint_every: 200,
           ema_decay: 0.99, warmup: 20}}
evaluation: {{samples: {samples}, references: {samples}, batch_size: {samples},
             features: efficientnet-lite0}}
parameters: {{steps: 100, network_evaluations: [20]}}
models:
  kuramoto-local: {{process: kuramoto, coupling: local}}
  ddpm: {{process: ddpm}}
seeds: [0]
resources: {{workers_per_trial: 1, cpus_per_worker: 1, gpus_per_worker: {gpus}}}
profiles: {{check: {{}}}}
"""
#: Of the sweep, by the form.
SWEEPS = {
    "gpu": {"pixels": 32, "fingers": 20, "width": 32, "iterations": 1000, "batch": 128,
            "samples": 256, "gpus": 0.5},
    "cpu": {"pixels": 16, "fingers": 8, "width": 8, "iterations": 60, "batch": 16, "samples": 32,
            "gpus": 0},
}  # fmt: skip


def main() -> None:
    """Run all parts, or one; print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="the JSON; the table, too, as .txt"
    )
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=[*LIMITS])
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --device cpu runs the CPU's form")
    form = "gpu" if device.type == "cuda" else "cpu"
    if options.part is not None:
        print(json.dumps(run_part(options.part, scale_of(form, options.device), form)))
        return
    report = about(form, device)
    report["parts"] = earlier(options.output, report) if len(options.parts) < len(LIMITS) else {}
    print("\n".join(heading(report)), flush=True)
    began = time.monotonic()
    for name in options.parts:
        left = PATIENCE[form] * MOST - (time.monotonic() - began)
        limit = min(PATIENCE[form] * LIMITS[name], left)
        found = report["parts"][name] = in_a_process(name, options.device, limit)
        found["commit"] = report["commit"]
        print("\n".join(lines_of(name, found)), flush=True)
        if options.output is not None:  # after each: what has been found is kept
            write(options.output, report)
    print(f"\n{verdict(report)}")
    sys.exit(any(each["status"] in ("failed", "out of time") for each in report["parts"].values()))


def about(form: str, device: torch.device) -> dict[str, Any]:
    """On what it runs."""
    name = torch.cuda.get_device_name(device) if form == "gpu" else platform.machine()
    return {
        "form": form,
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if form == "gpu" else None,
        "commit": commit(),
        "date": datetime.now().astimezone().date().isoformat(),
    }


def write(output: Path, report: dict[str, Any]) -> None:
    """Write the JSON, and the table beside it."""
    parts = report["parts"]
    report["parts"] = {name: parts[name] for name in LIMITS if name in parts}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".txt").write_text("\n".join(table(report)) + "\n")


def earlier(output: Path | None, report: dict[str, Any]) -> dict[str, Any]:
    """The parts of a check of the same machine, which some are to join."""
    if output is None or not output.exists():
        return {}
    before: dict[str, Any] = json.loads(output.read_text())
    parts: dict[str, Any] = before.pop("parts")
    same = all(before[key] == report[key] for key in ("form", "device", "torch"))
    return parts if same else {}


def table(report: dict[str, Any]) -> Iterable[str]:
    """All lines."""
    yield from heading(report)
    for name, found in report["parts"].items():
        yield from lines_of(name, found)
    yield f"\n{verdict(report)}"


def commit() -> str | None:
    """Of this checkout, if git says it."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def heading(report: dict[str, Any]) -> list[str]:
    """The first lines of the table."""
    what = f"torch {report['torch']}, {report['device']}, commit {report['commit']}"
    if report["form"] == "gpu":
        return [f"gpu_check: {what}"]
    return [
        f"gpu_check, the CPU's form: {what}, {report['threads']} thread(s)",
        "smaller networks and images, gloo in place of NCCL; it says nothing about a GPU",
    ]


def lines_of(name: str, found: dict[str, Any]) -> Iterable[str]:
    """The lines of a part."""
    why = f": {found['why']}" if found.get("why") else ""
    yield f"\n{name} ({found['seconds']:.0f} s): {found['status']}{why}"
    for each in found["rows"]:
        aim = f"  {each['aim']}: {'yes' if each['holds'] else 'NO'}" if "aim" in each else ""
        value = f"{each['value']:.4g} {each['unit']}".strip()
        yield f"  {each['what']:<72} {value:>16}{aim}"


def verdict(report: dict[str, Any]) -> str:
    """How long it took, how many parts ran, and how many aims hold."""
    parts = report["parts"].values()
    seconds = sum(part["seconds"] for part in parts)
    aims = [each["holds"] for part in parts for each in part["rows"] if "holds" in each]
    done = sum(part["status"] == "done" for part in parts)
    held = f"{sum(aims)} of {len(aims)} aims hold"
    return f"{seconds:.0f} s; {done} of {len(parts)} parts done, {held}"


def in_a_process(name: str, device: str, limit: float) -> dict[str, Any]:
    """A part's result: its status, why, its rows, its seconds."""
    missing = [each for each in NEEDS.get(name, ()) if importlib.util.find_spec(each) is None]
    if missing:
        return {"status": "left out", "why": f"needs {', '.join(missing)}", "rows": [],
                "seconds": 0.0}  # fmt: skip
    if limit < 5:
        return {"status": "out of time", "why": "no time was left", "rows": [], "seconds": 0.0}
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--device", device]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    began = time.monotonic()
    result: dict[str, Any] = {"status": "done", "why": None, "rows": []}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end_group(process)
        result |= {"status": "out of time", "why": f"ended after {limit:.0f} s"}
    else:
        if process.returncode:
            said = [line for line in errors.splitlines() if line.strip()] or ["without a word"]
            ended = f"ended by signal {-process.returncode}"
            why = ended if process.returncode < 0 else said[-1][:300]
            result |= {"status": "failed", "why": why}
        else:
            result["rows"] = json.loads(out.splitlines()[-1])
    return result | {"seconds": round(time.monotonic() - began, 1)}


def end_group(process: "subprocess.Popen[str]") -> None:
    """End a part and what it has started, once politely, so that Ray can end its own."""
    for sign, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
            process.communicate(timeout=seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        return


def run_part(name: str, scale: Scale, form: str) -> list[Row]:
    """The rows of one part, in this process."""
    if name in PARTS:
        return PARTS[name](scale)
    others: dict[str, Callable[[Scale, str], list[Row]]] = {"suite": suite, "sweep": sweep}
    return others[name](scale, form)


def suite(scale: Scale, form: str) -> list[Row]:
    """The conformance suite of processes, those of its tests that ask for a device."""
    chosen = f"{scale.device.type} and 1x8x8-T25"
    if form == "cpu":  # a few of those that its own tests run anyway
        chosen += " and (ddpm or kuramoto-local)"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/conformance/test_processes.py", "-q", "-k",
             chosen, f"--junitxml={report}", "-p", "no:cacheprovider", "--maxfail=20"],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        if not report.exists():
            raise RuntimeError(done.stdout.strip().splitlines()[-1])
        counts = ElementTree.parse(report).getroot().find("testsuite")
    assert counts is not None
    total, failed = (int(counts.get(key, 0)) for key in ("tests", "failures"))
    failed += int(counts.get("errors", 0))
    return [row("tests", total, ""), row("tests that fail", failed, "", 0)]


def sweep(scale: Scale, form: str) -> list[Row]:
    """A sweep of two trials, which must run side by side."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        space = Path(folder) / "gpu-check.yaml"
        space.write_text(SPACE.format(**SWEEPS[form]))
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "kod_bench.cli.main", "sweep", str(space), "--profile", "check",
             "--json", "--results-dir", str(Path(folder) / "results")],
            capture_output=True, text=True, check=False,
            env=os.environ | {"KOD_BENCH_CACHE": str(Path(folder) / "cache")},
        )  # fmt: skip
        seconds = time.monotonic() - began
    events = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode:
        failed = [str(event.get("error", "")) for event in events if event["event"] == "failed"]
        raise RuntimeError((failed or [done.stderr.strip() or "the sweep failed"])[0][-300:])

    def when(kind: str) -> list[float]:
        return [
            datetime.fromisoformat(event["time"]).timestamp()
            for event in events
            if event["event"] == kind
        ]

    begun, ended = when("started"), when("done")
    apart = max(begun) >= min(ended)
    return [
        row("trials that are not done", 2 - len(ended), "", 0),
        row("trials that waited for each other", 2 * apart, "", 0),
        row("seconds of both trials over those of the sweep",
            (sum(ended) - sum(begun)) / seconds, ""),
        row("the sweep", seconds, "s"),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
