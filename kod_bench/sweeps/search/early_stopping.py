"""Early stopping: trials that fall behind are pruned, and their time goes to others.

At each rung, an iteration, a trial's EMA model draws a few samples, and their `rung_metric` is
compared with that of the trials which have been at this rung before. Nobody waits for others, and a
trial that goes on simply trains on. Two rules:

- `asha`: asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel
  Hyperparameter Tuning"), in the form that stops trials rather than pausing them. Rungs are a
  factor apart; the best ``1 / reduction_factor`` go on, at least one.
- `median`: the rule of Vizier (Golovin et al. 2017), of the values at the rung itself in place of
  running means. Rungs are evenly spaced; whoever is not behind the others' median goes on.

Compared are trials of one model, grid point and seed. What a trial had at its rungs is in its
folder (`RUNGS_FILE`), written before it is compared: whatever process is killed, the others' values
are there, and a decision that was made stays.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kod_bench.atomic import atomic_write
from kod_bench.errors import one_line
from kod_bench.inside import MOST_PLAN, read_bytes, read_json
from kod_bench.sweeps.plan.files import RUNGS_FILE
from kod_bench.sweeps.plan.sweep import LOCK_FILE, TRIALS_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.plan.trials_file import decode_companions
from kod_bench.sweeps.space import RUNG_METRICS, MedianOptions, Pruner
from kod_bench.sweeps.store.locks import is_locked
from kod_bench.sweeps.store.mirror import fetch_named, put_rungs

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung:
    """What a trial had at a rung.

    Attributes:
        value: of few samples, of `rung_metric`; lower is better.
        goes_on: what was decided; None if it was not yet.
    """

    value: float
    goes_on: bool | None = None


def rung_iterations(sweep: Sweep, trial: Trial) -> tuple[int, ...]:
    """The iterations at which a trial is judged; none if the sweep stops nothing early."""
    if sweep.early_stopping is None:
        return ()
    return sweep.early_stopping.rungs(trial.training_section.iterations)


def rung_metric(sweep: Sweep, trial: Trial) -> str:
    """The column by which a trial is judged: what the search goes by, or KID.

    On angles correlation distance: KID sees their hues alone.
    """
    if sweep.stopping_metric is not None:
        return sweep.stopping_metric
    return "correlation_distance" if trial.dataset_options.values == "angles" else "kid"


def goes_on(value: float, others: Sequence[float], rule: Pruner) -> bool:
    """What a rule says of a value, given those that others have had at the same rung.

    What is not finite counts as the worst, and never goes on itself.
    """
    if not math.isfinite(value):
        return False
    every = [other if math.isfinite(other) else math.inf for other in others]
    if isinstance(rule, MedianOptions):
        return len(every) < rule.startup_trials or value <= median(every)
    every = sorted([value, *every])
    return value <= every[max(1, len(every) // rule.reduction_factor) - 1]


def judge(sweep: Sweep, trial: Trial, iteration: int, value: float) -> bool:
    """Record what a trial has at a rung, compare it with the others, record what follows.

    Where the others' are on a store that is away, the trial goes on.

    Raises:
        OSError: if the record cannot be written.
    """
    if sweep.early_stopping is None:
        raise ValueError(f"{sweep.shown}: stops nothing early")
    _record(sweep, trial, iteration, Rung(value))
    others = []
    try:
        names = _others(sweep, trial)
    except OSError as error:
        _log.warning("not judged at rung %d, goes on: %s", iteration, one_line(error))
        return True
    for name in names:
        if (rung := read_rungs(sweep.trials_folder / name).get(iteration)) is not None:
            others.append(rung.value)
    decision = goes_on(value, others, sweep.early_stopping)
    _record(sweep, trial, iteration, Rung(value, decision))
    return decision


def decided(folder: Path, iteration: int) -> bool | None:
    """What was decided of the trial in a folder at a rung; None if nothing was."""
    rung = read_rungs(folder).get(iteration)
    return None if rung is None else rung.goes_on


def pruned_at(folder: Path) -> int | None:
    """The rung at which the trial in a folder was given up; None if it was not."""
    found = [iteration for iteration, rung in read_rungs(folder).items() if rung.goes_on is False]
    return min(found, default=None)


def given_up_at(sweep: Sweep, trial: Trial) -> int | None:
    """The iteration at which a trial was given up, here or where its model comes from."""
    if (reused := trial.model_of) is not None:
        return reused.pruned_at
    return pruned_at(sweep.trial_folder(trial))


def read_rungs(folder: Path) -> dict[int, Rung]:
    """What the trial in a folder had at its rungs; of a file that is damaged, nothing."""
    try:
        found = read_json(folder / RUNGS_FILE)
        return {int(iteration): _rung(rung) for iteration, rung in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}


def _rung(said: Mapping[str, Any]) -> Rung:
    """A rung as it was written: the value by the name of its metric.

    Raises:
        TypeError: if it is none.
    """
    (value, *more) = (found for name, found in said.items() if name in RUNG_METRICS)
    goes_on = said.get("goes_on")
    if (
        more
        or isinstance(value, bool)
        or not isinstance(value, (int, float))
        or goes_on not in (True, False, None)
        or len(said) > 1 + ("goes_on" in said)
    ):
        raise TypeError("not a rung")
    return Rung(float(value), goes_on)


def _record(sweep: Sweep, trial: Trial, iteration: int, rung: Rung) -> None:
    folder = sweep.trial_folder(trial)
    rungs = read_rungs(folder) | {iteration: rung}
    with atomic_write(folder / RUNGS_FILE) as file:
        name = rung_metric(sweep, trial)
        said = {at: {name: one.value, "goes_on": one.goes_on} for at, one in rungs.items()}
        file.write(json.dumps(said).encode())
    put_rungs(sweep, trial)


def _others(sweep: Sweep, trial: Trial) -> list[str]:
    """Ids of the trials that a trial is compared with; their records are fetched."""
    if sweep.remote is not None and sweep.growth is not None:
        # To another copy: this node's may be the driver's own, and ahead of the store.
        content = sweep.remote.read(TRIALS_FILE)
    else:
        content = read_bytes(sweep.folder / TRIALS_FILE, MOST_PLAN)
    names = decode_companions(content, trial.id)
    # Those that run on this node are newer here than on the store.
    elsewhere = [n for n in names if not is_locked(sweep.trials_folder / n / LOCK_FILE)]
    fetch_named(sweep, [f"{name}/{RUNGS_FILE}" for name in elsewhere])
    return names
