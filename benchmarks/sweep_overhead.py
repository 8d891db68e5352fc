"""What running trials as a sweep adds to the trials themselves.

    python benchmarks/sweep_overhead.py [SPACE] [--profile laptop] [--seeds 0]

The same trials twice, side by side: back to back in one process, by the function that a sweep's
workers call; and as `kod-bench sweep`, which runs as many at once as fit. Each trial computes with
`cpus_per_worker` threads in both.

Wall time alone would flatter the sweep (it uses all cores) or blame it for cores that slow each
other down. So the overhead is what the sweep's slots spent on anything but trials:

    overhead = (wall time x trials at once - seconds of the trials in the sweep) / the latter

where the end of the sweep, when fewer trials are left than slots, is idle and counted apart. Also
printed: how much longer the trials took in the sweep than alone, by the clock and in processor
seconds; on a machine that does other work only the processor seconds mean much.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import torch


def cpu_seconds(who: int) -> float:
    """Of this process, or of its children that have ended."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def back_to_back(folder: Path, arguments: argparse.Namespace) -> tuple[float, float, int]:
    """Wall and processor seconds of all trials in this process, one after the other."""
    from kod_bench.sweeps.session import prepare_sweep
    from kod_bench.sweeps.trial.run import run_trial, train_and_score

    sweep = prepare_sweep(
        arguments.space,
        profile=arguments.profile,
        data_dir=None,
        results_dir=folder,
        seeds=arguments.seeds,
        address=None,
        say=lambda _: None,
    )
    torch.set_num_threads(sweep.resources.cpus_per_worker)
    began, cpu = time.monotonic(), cpu_seconds(resource.RUSAGE_SELF)
    for trial in sweep.trials:
        run_trial(sweep, trial, lambda _: None, train_and_score)
    return (
        time.monotonic() - began,
        cpu_seconds(resource.RUSAGE_SELF) - cpu,
        len(sweep.trials),
    )


def as_sweep(folder: Path, arguments: argparse.Namespace) -> tuple[float, float, list[dict]]:  # type: ignore[type-arg]
    """Wall and processor seconds of `kod-bench sweep`, and its events."""
    command = [sys.executable, "-m", "kod_bench.cli.main", "sweep", arguments.space, "--json",
               "--profile", arguments.profile, "--results-dir", str(folder)]  # fmt: skip
    if arguments.seeds is not None:
        command += ["--seeds", ",".join(map(str, arguments.seeds))]
    began, cpu = time.monotonic(), cpu_seconds(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.monotonic() - began
    if done.returncode:
        sys.exit(f"the sweep failed: {done.stderr}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return wall, cpu_seconds(resource.RUSAGE_CHILDREN) - cpu, events


def busy(events: list[dict]) -> tuple[list[tuple[float, float]], float]:  # type: ignore[type-arg]
    """When each trial ran, and when the first event came."""

    def when(event: dict) -> float:  # type: ignore[type-arg]
        return datetime.fromisoformat(event["time"]).timestamp()

    begins = {e["trial"]: when(e) for e in events if e["event"] == "started"}
    ends = {e["trial"]: when(e) for e in events if e["event"] == "done"}
    return [(begins[trial], ends[trial]) for trial in begins], when(events[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space", nargs="?", default="fingerprints")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu, events = as_sweep(Path(folder) / "sweep", arguments)
        alone_wall, alone_cpu, trials = back_to_back(Path(folder) / "alone", arguments)
    spans, _ = busy(events)
    compute = sum(end - begin for begin, end in spans)
    first, last = min(b for b, _ in spans), max(e for _, e in spans)
    slots = max(sum(b <= begin < e for b, e in spans) for begin, _ in spans)
    # The tail: from when the first slot found nothing more to do.
    ends = sorted(end for _, end in spans)[-slots:]
    idle = sum(last - end for end in ends)
    overhead = wall * slots - idle - compute
    print(f"{trials} trials, {len(os.sched_getaffinity(0))} CPUs, {slots} at once in the sweep")
    print(f"back to back: {alone_wall:7.1f} s wall, {alone_cpu:7.1f} s CPU")
    print(f"sweep:        {wall:7.1f} s wall, {cpu:7.1f} s CPU")
    print(f"  its trials: {compute:7.1f} s, {compute / alone_wall:.2f} of those back to back")
    print(f"  before the first trial and after the last: {wall - (last - first):.1f} s")
    print(f"  idle at the end, fewer trials than slots: {idle:.1f} s of slots")
    print(f"overhead: {overhead:.1f} s of slots, {100 * overhead / compute:.1f} % of the trials")
    print(f"wall, if {slots} slots had only trials to run: {(compute + idle) / slots:.1f} s")


if __name__ == "__main__":
    main()
