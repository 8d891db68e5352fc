"""What hundreds of trials of next to no work cost, and whether the driver's memory stays flat.

    python benchmarks/many_trials.py [--trials 300]

A sweep of tiny trials (four training steps, eight samples), once as `kod-bench sweep`, whose
driver's resident memory is read every half second, and a few of the same trials back to back in one
process: what they take there is their own work, the rest is what the sweep adds to each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACE = """
name: many
dataset: {{name: fingerprints, image_size: 16, scale: 0.25,
          synthetic: {{fingers: 4, impressions: 2}}}}
network: {{width: 8, multipliers: [1, 2], blocks: 1}}
training: {{iterations: 4, batch_size: 4, log_every: 4, checkpoint_every: 4, ema_decay: 0.9,
           warmup: 1}}
evaluation: {{samples: 8, references: 16, batch_size: 8}}
models:
  ddpm: {{process: ddpm, steps: 2}}
seeds: [{seeds}]
profiles: {{laptop: {{}}}}
"""
ALONE = 20  # trials back to back


def write_space(folder: Path, trials: int) -> Path:
    """A search space of so many seeds."""
    path = folder / f"many-{trials}.yaml"
    path.write_text(SPACE.format(seeds=", ".join(map(str, range(trials)))))
    return path


def back_to_back(space: Path, folder: Path) -> float:
    """Seconds per trial in this process, without the first, which loads what all share."""
    from kod_bench.sweeps.session import prepare_sweep
    from kod_bench.sweeps.trial.run import run_trial, train_and_score

    sweep = prepare_sweep(str(space), profile="laptop", data_dir=None, results_dir=folder,
                          seeds=None, address=None, say=lambda _: None)  # fmt: skip
    run_trial(sweep, sweep.trials[0], lambda _: None, train_and_score)
    began = time.monotonic()
    for trial in sweep.trials[1:]:
        run_trial(sweep, trial, lambda _: None, train_and_score)
    return (time.monotonic() - began) / (len(sweep.trials) - 1)


def resident(process: int) -> float:
    """Megabytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def as_sweep(space: Path, folder: Path) -> tuple[float, dict[int, float], int]:
    """Seconds from the first trial's begin to the end; memory by trials done; trials at once."""
    command = [sys.executable, "-m", "kod_bench.cli.main", "sweep", str(space), "--json",
               "--profile", "laptop", "--results-dir", str(folder)]  # fmt: skip
    memory: dict[int, float] = {}
    running: set[str] = set()
    done, most, first, last = 0, 0, 0.0, 0.0
    with (folder / "errors.txt").open("w") as errors:
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        event = json.loads(line)
        if event["event"] == "started":
            first = first or time.monotonic()
            running.add(event["trial"])
            most = max(most, len(running))
        elif event["event"] == "done":
            last = time.monotonic()
            running.discard(event["trial"])
            done += 1
            memory[done] = resident(driver.pid)
    if driver.wait():
        sys.exit((folder / "errors.txt").read_text())
    return last - first, memory, most


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall, memory, at_once = as_sweep(write_space(folder, arguments.trials), folder)
        alone = back_to_back(write_space(folder, ALONE + 1), folder / "alone")
    each = wall * at_once / arguments.trials
    print(f"{arguments.trials} trials, {at_once} at once, in {wall:.0f} s: {each:.2f} s each")
    print(f"alone {alone:.2f} s each, so the sweep adds {each - alone:.2f} s to a trial")
    places = sorted({1, *(round(len(memory) * part / 4) for part in range(1, 5))} & memory.keys())
    shown = ", ".join(f"{memory[place]:.0f} MB after {place}" for place in places)
    print(f"the driver's memory: {shown}")


if __name__ == "__main__":
    main()
