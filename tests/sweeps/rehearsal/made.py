"""A rehearsal whose trials have not been run, and files as they would have left them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kod_bench.results import write_rows
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.rehearsal.prepare import prepare_rehearsal
from kod_bench.sweeps.session import open_space
from kod_bench.sweeps.trial.rehearsed import Used
from tests.rows import make_row


def rehearsal(space: Path, results: Path, *changes: str) -> Sweep:
    """Of a space's profile `laptop`."""
    found = open_space(
        str(space),
        profile="laptop",
        seeds=None,
        changes=changes,
        address=None,
        say=lambda _: None,
    )
    return prepare_rehearsal(
        found,
        data_dir=None,
        results_dir=results,
        address=None,
        grows=False,
        say=lambda _: None,
    )


def leave(sweep: Sweep, trial: Trial, used: Used | None = None, **changes: Any) -> None:
    """As a trial that took a second for an iteration, two for the first of each process."""
    folder = sweep.trial_folder(trial)
    (folder / "checkpoints").mkdir(parents=True)
    iterations = trial.training["iterations"]
    (folder / "checkpoints" / f"iteration-{iterations:08d}.pt").write_bytes(b"0" * 5000)
    seconds, lines = 0.0, []
    for n in range(1, iterations + 1):
        seconds += 2.0 if n in (1, 4) else 1.0
        lines.append(json.dumps({"iteration": n, "seconds": seconds, "loss": 1.0}) + "\n")
    (folder / "history.jsonl").write_text("".join(lines))
    (folder / "used-trial.json").write_text(
        json.dumps(asdict(used or Used("here", 100.0, 10**9, 10**10)))
    )
    row = make_row(
        trial=trial.id,
        model=trial.model,
        process=trial.process,
        steps=trial.steps,
        seed=trial.seed,
        config=trial.config,
        config_hash=trial.config_hash,
        iterations=iterations,
        micro_batch_size=trial.training["batch_size"],
        channels=1,
        resumed_from=3,
        rehearsal=True,
        evaluation_seconds=4.0,
    )
    rows = []
    for way in trial.scorings:
        name = f"{way.prior}-{way.sampler}-{way.network_evaluations}"
        shard = folder / "samples" / name / "shard-000000.npz"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(b"0" * 1600)
        # 16 images in 2 evaluations of 0.25 s; forward chains of 4 steps of 0.5 s.
        drawn = 16 * (2 * 0.25 + (4 * 0.5 if way.prior == "forward" else 0.0))
        rows.append(replace(row, **asdict(way), sampling_seconds=drawn, **changes))
    write_rows(folder, rows)
