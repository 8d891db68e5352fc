"""Finished trials of other sweeps: what a new one may take from them, and where they lie now."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kod_bench.errors import UsageError, one_line
from kod_bench.inside import MOST_NUMBERS, child, is_file, read_json
from kod_bench.results import Row, read_trial
from kod_bench.sampling import MANIFEST_FILE, Way
from kod_bench.storage import Location, ObjectFolder, parse_location
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.reuse import Kind, Reused, lineage_hash
from kod_bench.sweeps.plan.sweep import LOCK_FILE, SWEEP_FILE, Sweep
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.store.listing import list_trials, saved_iteration
from kod_bench.sweeps.store.locks import is_locked
from kod_bench.sweeps.store.mirror import fetch_named, fetch_outcomes
from kod_bench.sweeps.store.ownership import is_own


@dataclass(frozen=True)
class Donor:
    """A trial that is done.

    Attributes:
        sweep: of it.
        trial: of the sweep's plan.
        rows: of the trial.
        has_model: whether the last checkpoint of its training is there.
    """

    sweep: Sweep
    trial: Trial
    rows: list[Row]
    has_model: bool

    @property
    def iterations(self) -> int:
        """That its model was trained."""
        return self.rows[0].iterations

    def give(self, kind: Kind) -> Reused:
        """What another trial takes from this one."""
        seconds = self.rows[0].training_seconds
        if kind == "row":
            seconds += sum(row.sampling_seconds + row.evaluation_seconds for row in self.rows)
        before = self.trial.reused
        continued = None
        if before is not None:
            continued = before.continued_from if before.is_trained else before.iterations
        return Reused(
            kind,
            str(self.sweep.location),
            f"{self.sweep.space}/{self.sweep.name}",
            self.trial.id,
            self.iterations,
            self.rows[0].pruned_at,
            continued,
            _weights(self),
            round(seconds, 3),
        )


@dataclass(frozen=True)
class Finished:
    """What a sweep has to give.

    Attributes:
        donors: its trials that are done.
        unfinished: how many are not.
        runs: whether it is being run on this machine.
    """

    donors: list[Donor]
    unfinished: int
    runs: bool


def finished(sweep: Sweep) -> Finished:
    """The trials of a sweep that are done. None of its checkpoints is read.

    Raises:
        UsageError: if its trials cannot be listed.
    """
    try:
        unpublished = fetch_outcomes(sweep)
        files = list_trials(sweep)
    except OSError as error:
        raise UsageError(f"{sweep.shown}: cannot be read ({one_line(error)})") from error
    donors = []
    for trial in sweep.trials:
        if trial.id in unpublished:
            continue
        rows = read_trial(sweep.trial_folder(trial))
        if rows is None or any(row.trial != trial.id for row in rows):
            continue
        saved = saved_iteration(files.get(trial.id) or {})
        donors.append(Donor(sweep, trial, rows, saved == rows[0].iterations))
    runs = is_locked(sweep.folder / LOCK_FILE)
    return Finished(donors, len(sweep.trials) - len(donors), runs)


def made_by(donor: Donor) -> frozenset[str]:
    """Versions of the code that planned a trial, trained it and scored it."""
    rows = (f"{row.version}+{row.code_hash}" for row in donor.rows)
    return frozenset((donor.trial.code, *rows))


@dataclass(frozen=True)
class Reuse:
    """The trials of a plan, and what they begin with."""

    trials: tuple[Trial, ...]

    def count(self, kind: Kind | None) -> int:
        """How many take this from others; None: nothing."""
        return sum((each.reused.kind if each.reused else None) == kind for each in self.trials)

    @property
    def iterations(self) -> tuple[int, int]:
        """Of training: those that need not be done, and all of them."""
        taken = sum(each.reused.iterations for each in self.trials if each.reused is not None)
        return taken, sum(each.training["iterations"] for each in self.trials)

    @property
    def seconds(self) -> float:
        """That it took to make what is taken over."""
        return sum(each.reused.seconds for each in self.trials if each.reused is not None)


def reuse(
    trials: Sequence[Trial],
    sweeps: Sequence[Sweep],
    *,
    stops_early: bool,
    say: Callable[[str], None],
) -> Reuse:
    """Let the trials of a plan begin with what those of other sweeps have done.

    Args:
        trials: of the plan.
        sweeps: the others.
        stops_early: whether the plan has a rule of early stopping: it compares trials on their way,
            so none begins in the middle.
        say: receives lines about what is left out.

    Raises:
        UsageError: if a sweep cannot be read.
    """
    by_model: dict[str, list[Donor]] = {}
    by_lineage: dict[str, list[Donor]] = {}
    for sweep in sweeps:
        if sweep.rehearsal is not None:
            say(f"reuse: {sweep.shown} is a rehearsal and gives nothing")
            continue
        if not is_own(sweep):
            say(
                f"warning: {sweep.shown} was not planned by you, or not here: its rows and weights "
                "are taken as they are (docs/trust.md)"
            )
        found = finished(sweep)
        if found.unfinished:
            state = "it is still running" if found.runs else "kod-bench resume finishes it"
            say(
                f"reuse: {sweep.shown}: {found.unfinished} of {len(sweep.trials)} trials are not "
                f"done and give nothing ({state})"
            )
        current = trials[0].code if trials else ""
        strange = 0
        for donor in found.donors:
            if made_by(donor) != {current}:
                strange += 1
            elif donor.rows[0].pruned_at is None:  # that hangs on the other trials of its sweep
                by_model.setdefault(donor.trial.trained_hash, []).append(donor)
                by_lineage.setdefault(lineage_hash(donor.trial.values), []).append(donor)
        if strange:
            say(
                f"reuse: {sweep.shown}: {strange} trials were made by other code than {current} "
                "and give nothing"
            )
    gone = 0
    made = []
    for trial in trials:
        same = by_model.get(trial.trained_hash, [])
        longer = [] if stops_early else by_lineage.get(lineage_hash(trial.values), [])
        wanted = trial.training["iterations"]
        before = [each for each in longer if each.iterations < wanted]
        if rows := [each for each in same if each.trial.scored_hash == trial.scored_hash]:
            made.append(_with(trial, rows[-1].give("row")))
        elif models := [each for each in same if each.has_model]:
            made.append(_with(trial, models[-1].give("model")))
        elif parts := [each for each in before if each.has_model]:
            longest = max(parts, key=lambda each: each.iterations)
            made.append(_with(trial, longest.give("part")))
        else:
            gone += bool(same or before)
            made.append(trial)
    if gone:
        say(f"reuse: {gone} trials would begin with a model whose checkpoint is gone: trained anew")
    return Reuse(tuple(made))


def locate(sweep: Sweep, named: Sequence[Location] = ()) -> dict[str, Location]:
    """Where the sweeps lie now of which trials are reused, by where they were.

    In this order: beside this sweep, in the same results folder; where its user says; where they
    were, if the plan is its user's own.

    Args:
        sweep: whose trials reuse others.
        named: places that its user has named.

    Returns:
        Those that are to be found.

    Raises:
        UsageError: naming what the plan would read, if it is not its user's own and that was not
            confirmed. Nothing has been read then.
    """
    wanted = {each.reused.sweep: each.reused.name for each in sweep.trials if each.reused}
    found: dict[str, Location] = {}
    asked = []
    for place, name in wanted.items():
        beside = _beside(sweep, name)
        moved = [each for each in named if _is_meant(each, place, name) and _is_sweep(each)]
        if beside is not None and _is_sweep(beside):
            found[place] = beside
        elif moved:
            found[place] = _in_full(moved[0])
        elif is_own(sweep):
            there = parse_location(place)
            if _is_sweep(there):
                found[place] = there
        else:
            asked.append(place)
    if asked:
        options = " ".join(f"--reuse {place}" for place in asked)
        raise UsageError(
            f"{sweep.shown}: this plan was not made by you, or not here, and would read the models "
            f"in {' and in '.join(map(repr, asked))}; to let it, add {options} (docs/trust.md)"
        )
    return found


def with_donors(sweep: Sweep, named: Sequence[Location] = ()) -> Sweep:
    """The sweep, knowing where those lie that it reuses; see `locate`."""
    return replace(sweep, donors=locate(sweep, named))


def _with(trial: Trial, reused: Reused) -> Trial:
    return replace(trial, reuse=reused.values)


def _weights(donor: Donor) -> str | None:
    """The hash of a trial's model, as the manifest of its samples has it; None if it has none."""
    row = donor.rows[0]
    way = Way(row.prior, row.sampler, row.network_evaluations).name
    folder = donor.sweep.trial_folder(donor.trial)
    try:
        path = child(folder, SAMPLES, way, MANIFEST_FILE)
        fetch_named(donor.sweep, [f"{donor.trial.id}/{SAMPLES}/{way}/{MANIFEST_FILE}"])
        said = read_json(path, MOST_NUMBERS)
    except OSError:
        return None
    weights = said.get("weights") if isinstance(said, Mapping) else None
    return weights if isinstance(weights, str) and len(weights) == 64 else None


def _beside(sweep: Sweep, name: str) -> Location | None:
    """Where a sweep of the same results folder is; None where there is no such folder."""
    if sweep.remote is None:
        above = sweep.folder.resolve().parents
        return above[1].joinpath(*name.split("/")) if len(above) > 1 else None
    results = sweep.remote.uri.split("/")[:-2]
    return ObjectFolder("/".join((*results, *name.split("/")))) if len(results) > 2 else None


def _is_sweep(place: Location) -> bool:
    if isinstance(place, Path):
        return is_file(place / SWEEP_FILE)
    try:
        return place.find(SWEEP_FILE) is not None
    except OSError:
        return False


def _is_meant(named: Location, place: str, name: str) -> bool:
    """Whether what a user names is a sweep: the place where it was, or a folder of its name."""
    if isinstance(named, ObjectFolder):
        return named.uri == place or named.name == name.rpartition("/")[2]
    real = Path(os.path.realpath(named))
    return str(real) == place or real.name == name.rpartition("/")[2]


def _in_full(place: Location) -> Location:
    return place if isinstance(place, ObjectFolder) else place.absolute()
