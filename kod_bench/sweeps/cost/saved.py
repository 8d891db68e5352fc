"""What a plan takes over from other sweeps, and what that saves."""

from collections.abc import Callable, Sequence
from typing import Any

from kod_bench.sweeps.display.trial_table import duration
from kod_bench.sweeps.plan.planned import Planned
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.store.donors import Reuse, reuse


def reuse_trials(planned: Planned, reused: Sequence[Sweep], say: Callable[[str], None]) -> Reuse:
    """Let the trials of a plan begin with what other sweeps have done.

    Args:
        planned: the plan. Trials that a search will choose are no part of it yet.
        reused: the other sweeps.
        say: receives lines about what is left out.

    Raises:
        UsageError: if one of them cannot be read.
    """
    search = planned.space.options.search
    drawn = {(v.label, v.steps) for v in planned.space.variants if v.drawn}
    chosen_later = drawn if search.strategy == "optuna" else set()
    fixed = [t for t in planned.trials if (t.model, t.steps) not in chosen_later]
    if not reused:
        return Reuse(planned.trials)
    found = reuse(fixed, reused, stops_early=search.pruner is not None, say=say)
    if chosen_later:
        say("reuse: trials that the search chooses by results are trained anew")
    by_hash = {trial.config_hash: trial for trial in found.trials}
    trials = tuple(by_hash.get(trial.config_hash, trial) for trial in planned.trials)
    return Reuse(trials)


def reuse_line(found: Reuse) -> str:
    """What is taken over, and what that saves."""
    taken, total = found.iterations
    return (
        f"reuse: {found.count('row')} trials adopted, {found.count('model')} re-scored, "
        f"{found.count('part')} continued, {found.count(None)} new; saves {taken:,} of {total:,} "
        f"training iterations{f', which took {duration(found.seconds)}' if taken else ''}"
    )


def reuse_event(found: Reuse) -> dict[str, Any]:
    """The same for programs."""
    taken, total = found.iterations
    return {
        "adopted": found.count("row"),
        "rescored": found.count("model"),
        "continued": found.count("part"),
        "new": found.count(None),
        "iterations_saved": taken,
        "iterations": total,
        "seconds_saved": found.seconds,
    }
