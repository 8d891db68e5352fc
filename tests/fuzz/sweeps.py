"""Sweeps to be damaged: planned as `kod-bench sweep` plans them, with made-up results."""

import json
from pathlib import Path

import numpy as np
import torch
from tensorboardX import SummaryWriter

from kod_bench.results import provenance, write_rows
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.search.optuna_search import OptunaSearch
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.growth import grown
from tests.reports.study import draw, leave_files
from tests.rows import make_row

_SPACE = """
name: NAME
dataset: {name: fingerprints, image_size: 16, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1, 2], blocks: 1}
training: {iterations: 600, learning_rate: RATE}
evaluation: {samples: 16, references: 32}
seeds: SEEDS
models:
  ddpm: {process: ddpm, steps: 100}
  kuramoto-local: {process: kuramoto, coupling: local, steps: 100}
"""
_SEARCH = "search: {strategy: optuna, trials: 4, metric: kid, early_stopping: asha}\n"
_WAY = ("matched", "ancestral")


def finished_sweep(root: Path, seeds: int) -> Path:
    """A sweep of two models whose trials are all done, with all that it leaves."""
    sweep = _planned(root, "finished", seeds, "1.0e-3", "")
    for place, trial in enumerate(sweep.trials):
        _finish(sweep, trial, place)
    _leave(sweep)
    return sweep.folder


def unfinished_sweep(root: Path, seeds: int) -> Path:
    """A search of which trials are done, failed, were interrupted, wait or are to be chosen."""
    sweep = _planned(root, "unfinished", seeds, "{loguniform: [1.0e-4, 1.0e-2]}", _SEARCH)
    search = OptunaSearch(sweep, lambda _: None)
    for _ in range(6):
        search.next_trials()
    search.publish()  # the study's file
    sweep = grown(sweep)
    for place, trial in enumerate(sweep.trials):
        if place % 4 < 2:
            _finish(sweep, trial, place)
        elif place % 4 == 2:
            _begin(sweep.trial_folder(trial))
            if place % 8 == 2:
                record = {"error": "it broke", "type": "ValueError", "traceback": "...\n"}
                (sweep.trial_folder(trial) / "error.json").write_text(json.dumps(record))
    _leave(sweep)
    return sweep.folder


def _planned(root: Path, name: str, seeds: int, rate: str, search: str) -> Sweep:
    text = _SPACE.replace("NAME", name).replace("RATE", rate) + search
    source = root / f"{name}.yaml"
    source.write_text(text.replace("SEEDS", str(list(range(seeds)))))
    space = load_space(source, "default")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=root / "results",
        data_dir=None,
        provenance=provenance.collect(),
        hashes={variant.dataset: "hash" for variant in space.variants},
    )


def _finish(sweep: Sweep, trial: Trial, place: int) -> None:
    """What a trial leaves that is done."""
    folder = sweep.trial_folder(trial)
    _begin(folder)
    rows = [
        make_row(
            space=sweep.space,
            sweep=sweep.name,
            trial=trial.id,
            model=trial.model,
            process=trial.process,
            steps=trial.steps,
            seed=trial.seed,
            config=trial.config,
            config_hash=trial.config_hash,
            network_evaluations=evaluations,
            kid=1 + 0.1 * place + 0.01 * trial.seed + 1 / evaluations,
        )
        for evaluations in (100, 25)
    ]
    leave_files(folder, *_WAY, place)
    write_rows(folder, rows)


def _begin(folder: Path) -> None:
    """What a trial leaves as soon as it has begun."""
    folder.mkdir()
    with SummaryWriter(str(folder / "tensorboard")) as curves:
        curves.add_scalar("train/loss", 1.0, 1)
    records = [{"iteration": i, "loss": 1 / (1 + i), "seconds": 0.1 * i} for i in range(1, 9)]
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    (folder / "rungs.json").write_text('{"4": {"kid": 2.5, "goes_on": true}}')
    (folder / "memory.json").write_text('{"micro_batch_size": 16}')
    (folder / "log.txt").write_text("INFO training\n")
    for name in ("lock", "training.lock"):
        (folder / name).touch()
    (folder / "checkpoints").mkdir()
    state = {"iteration": 8, "network": {"weight": torch.zeros(2)}}
    torch.save(state, folder / "checkpoints" / "iteration-00000008.pt")


def _leave(sweep: Sweep) -> None:
    """What a sweep leaves beside its trials."""
    folder = sweep.folder
    draw(folder / "real.png")
    (folder / "lock").touch()
    (folder / "stop").touch()
    (folder / "space.yaml").write_text("# as planned, from: /nowhere\nname: tiny\n")
    (folder / "cache").mkdir()
    np.savez(folder / "cache" / "reference-beef.npz", features=np.zeros((4, 2)))
    (folder / "report" / "figures").mkdir(parents=True)
    for name in ("report.html", "comparison.md", "trials.csv", "figures/kid.svg"):
        (folder / "report" / name).write_text("an older one\n")
    draw(folder / "report" / "samples.png")
    rows = sorted(folder.glob("trials/*/row.parquet"))
    (folder / ".rows.parquet").write_bytes(rows[0].read_bytes())
