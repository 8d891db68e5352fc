"""How long a report takes, and how much memory, over 2,000, 20,000 and 200,000 rows.

Makes synthetic rows of sampled sweeps (configurations of two structured models and one Euclidean
one, five seeds each, two numbers of evaluations) as Parquet files of 10,000 rows each, and, up to
`--files` rows, as the row files of a sweep, one per trial. Then reads them in a process of its own
and writes everything that `kod-bench report` writes, but pictures.

    python benchmarks/report_scale.py [--rows 2000 20000 200000] [--files 2000]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEEDS = 5
EVALUATIONS = (25, 100)
PART = 10_000


def make_rows(count: int) -> Iterator[dict[str, object]]:
    """Rows by trial: all its evaluations, one after the other."""
    generator = np.random.default_rng(0)
    parameters = {f"parameter_{i}": float(i) for i in range(40)}  # a configuration has about 1.5 kB
    for number in range(count):
        trial, way = divmod(number, len(EVALUATIONS))
        configuration, seed = divmod(trial, SEEDS)
        model = ("ddpm", "kuramoto-global", "kuramoto-local")[configuration % 3]
        config = {"code": "0.1.0+c0de", "parameters": parameters | {"strength": configuration}}
        config |= {"process": model, "sampling": [], "seed": seed, "steps": 100}
        yield {
            "space": "scale",
            "sweep": "20260101-000000",
            "trial": f"{model}-T100-seed{seed}-{configuration:08x}",
            "model": model,
            "process": model.split("-")[0],
            "steps": 100,
            "seed": seed,
            "config": json.dumps(config, sort_keys=True),
            "config_hash": f"{trial:012x}",
            "dataset": "fingerprints",
            "data_hash": "dada",
            "image_size": 32,
            "channels": 1,
            "train_count": 2867,
            "parameters": 283_074,
            "iterations": 700,
            "batch_size": 32,
            "workers": 1,
            "images_seen": 22_400,
            "loss": 0.5,
            "training_seconds": 300.0,
            "resumed_from": 0,
            "resumed_exactly": True,
            "precision": "fp32",
            "prior": "matched",
            "sampler": "ancestral",
            "network_evaluations": EVALUATIONS[way],
            "sampling_seconds": 30.0,
            "kid": 2.0 + float(generator.normal(0, 0.3)),
            "fid": 600.0 + float(generator.normal(0, 30)),
            "kid_real": 0.1,
            "fid_real": 90.0,
            "features": "efficientnet-lite0@96-57934424",
            "sample_count": 192,
            "real_count": 192,
            "reference_count": 1000,
            "reference_hash": "beef",
            "evaluation_seconds": 5.0,
            "device": "cpu",
            "hostname": "here",
            "version": "0.1.0",
            "code_hash": "c0de",
            "packages": json.dumps({"torch": "2.14.0", "numpy": "2.0.0"}),
            "finished_at": "2026-01-01T00:00:00+00:00",
        }


def write(folder: Path, count: int, part: int) -> None:
    """Rows into files of `part` rows each."""
    from kod_bench.results import SCHEMA

    schema = pa.schema([field.with_nullable(True) for field in SCHEMA])
    rows: list[dict[str, object]] = []
    for number, row in enumerate(make_rows(count), 1):
        rows.append(row)
        if len(rows) == part or number == count:
            pq.write_table(
                pa.Table.from_pylist(rows, schema=schema), folder / f"{number:09}.parquet"
            )
            rows = []


def measure(folder: Path) -> dict[str, float]:
    """Read, work out and write a report; seconds of each, and memory."""
    from kod_bench.diffusion import PROCESSES  # torch is imported before the clock starts
    from kod_bench.reports import SweepReport, make_content, read_frame

    assert PROCESSES
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    read = read_frame(sorted(folder.glob("*.parquet")))
    seconds = {"read": time.perf_counter() - began}
    content = make_content(read.rows, title="scale", configurations=read.configurations)
    seconds["content"] = time.perf_counter() - began - sum(seconds.values())
    with tempfile.TemporaryDirectory() as output:
        SweepReport(content, {}).write(Path(output))
    seconds["write"] = time.perf_counter() - began - sum(seconds.values())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds | {
        "rows": len(read.rows),
        "cells": sum(len(group.cell_table) for group in content.groups),
        "differences": sum(len(group.difference_table) for group in content.groups),
        "megabytes": most / 1024,
        "megabytes_above_idle": (most - idle) / 1024,
    }


def main() -> None:
    """Print a line per size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="*", default=[2_000, 20_000, 200_000])
    parser.add_argument("--files", type=int, default=2_000, help="most rows in files of their own")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    for count in options.rows:
        for part, kind in ((PART, "large files"), (len(EVALUATIONS), "row files")):
            if kind == "row files" and count > options.files:
                continue
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), count, part)
                command = [sys.executable, __file__, "--measure", folder]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout)
            total = found["read"] + found["content"] + found["write"]
            print(
                f"{found['rows']:>7} rows in {kind}: {total:6.1f} s (read {found['read']:.1f}, "
                f"content {found['content']:.1f}, write {found['write']:.1f}), "
                f"{found['megabytes']:.0f} MB, of them {found['megabytes_above_idle']:.0f} MB "
                f"beyond the imports; {found['cells']} cells, {found['differences']} differences",
                flush=True,
            )


if __name__ == "__main__":
    main()
