"""What a plan of many trials costs: seconds of each step, and of the same step in format 1.

Format 1 had every trial in full in ``sweep.yaml``. It is timed at a tenth of the trials and
multiplied by ten.

Run with `python benchmarks/plan_scale.py [trials]`.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import yaml

from kod_bench.results import provenance, read_trial
from kod_bench.sweeps.display.status import trial_views
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.networks import check_networks, guessed_channels
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.space.yaml_file import load_plan
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.open import open_planned, open_sweep

SPACE = """
name: large
dataset: {name: fingerprints, image_size: 32}
training: {iterations: 1000, learning_rate: {loguniform: [1e-4, 1e-2]}}
parameters: {steps: {grid: [25, 100]}}
models:
  kuramoto:
    process: kuramoto
    coupling: {choice: [local, global]}
    coupling_strength: {uniform: [0, 0.1]}
    neighbourhood_radius: {int: [1, 8], when: {coupling: local}}
  ddpm: {process: ddpm}
search: {strategy: random, trials: TRIALS}
seeds: [0, 1]
"""

Result = TypeVar("Result")


def timed(name: str, function: Callable[[], Result], times: int = 1) -> Result:
    """Run something once, and say how long it took, times a factor."""
    began = time.perf_counter()
    result = function()
    print(f"{name:<44} {times * (time.perf_counter() - began):8.3f} s")
    return result


def main() -> None:
    """Time every step of a plan's life."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "large.yaml"
        path.write_text(SPACE.replace("TRIALS", str(count // 8)))
        space = timed("search space validated and expanded", lambda: load_space(path, "auto"))
        timed("networks built", lambda: check_networks(space, guessed_channels(space)))
        trials = timed("trials made", lambda: make_trials(space, "hash"))
        code = provenance.collect()

        def create() -> Path:
            return create_sweep(
                space, trials, results_dir=folder, data_dir=None, provenance=code
            ).folder

        sweep = timed(f"{len(trials)} trials written, and read again", create)
        timed("plan read, with the ids", lambda: [trial.id for trial in open_sweep(sweep).trials])
        timed("one trial read, as a worker does", lambda: open_planned(sweep, trials[-1].id))
        whole = open_sweep(sweep)
        timed("states of all trials (status)", lambda: trial_views(whole))
        timed(
            "what is left to run (resume)",
            lambda: [t.id for t in whole.trials if read_trial(whole.trial_folder(t)) is None],
        )
        size = (sweep / "trials.jsonl").stat().st_size
        print(f"{'size of trials.jsonl':<44} {size / 1e6:8.3f} MB")

        tenth = json.loads(json.dumps([asdict(t) for t in trials[: len(trials) // 10]]))
        old = folder / "format-1.yaml"
        timed(
            "format 1: written",
            lambda: old.write_text(yaml.safe_dump({"trials": tenth}, sort_keys=False)),
            10,
        )
        timed("format 1: read, also by every worker", lambda: load_plan(old), 10)


if __name__ == "__main__":
    main()
