"""Whatever became of the files of a sweep, commands say so in lines, and touch nothing outside.

A finished and an unfinished sweep are damaged in thousands of ways. Trials' files are damaged many
at once, one of each trial: what one trial's file does to another trial's is a fault by itself. The
plan and links, which end a command at once, are damaged one at a time.

A failure names the mutation. The same again: ``KOD_BENCH_FUZZ_SEED=... pytest tests/fuzz``.
"""

import itertools
import os
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kod_bench.errors import UsageError
from tests.fuzz.commands import WOULD_RUN, copy_sweep, fault, run
from tests.fuzz.mutations import Mutation, kinds_for
from tests.fuzz.outside import Watcher, make_outside
from tests.fuzz.sweeps import finished_sweep, unfinished_sweep

SEED = os.environ.get("KOD_BENCH_FUZZ_SEED", "2026")

#: Files and folders of the sweep itself that are not its plan.
LOOSE = (
    *("lock", "stop", "signature.json", "space.yaml", ".rows.parquet", "real.png", "study.journal"),
    *("study.journal.lock", "study.journal.damaged", "cache", "cache/reference-beef.npz", "report"),
    *("report/report.html", "report/comparison.md", "report/trials.csv", "report/samples.png"),
    *("report/figures", "report/figures/kid.svg", "real-mollweide.png"),
)
PLAN = ("sweep.yaml", "trials.jsonl", "trials")
#: What a trial of another state has.
TRIAL = ("row.parquet", "error.json", "mollweide-matched-ancestral-100.png")
#: What commands read of a trial is damaged more often than what they do not.
OFTEN = {"row.parquet": 12, "measured": 3, "history.jsonl": 4, "error.json": 4, "rungs.json": 2}

#: So many faults are told in one go; each takes a search for the mutation that is enough for it.
MOST_FAULTS = 5

Command = tuple[object, ...]


@dataclass(frozen=True)
class Bases:
    """Sweeps that are as they should be, each with two models: of many trials, and of few."""

    large: tuple[Path, Path]
    small: tuple[Path, Path]


@dataclass(frozen=True)
class Batch:
    """Mutations that are made at once.

    Attributes:
        base: the sweep, as it should be.
        mutations: of different trials, or one of the sweep.
        kind: trials, rows kept, plan or link.
    """

    base: Path
    mutations: tuple[Mutation, ...]
    kind: str


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_KEY", str(tmp_path_factory.mktemp("key") / "key"))
        _patch(patch)
        for seeds in (15, 2):
            root = tmp_path_factory.mktemp("bases")
            made.append((finished_sweep(root, seeds), unfinished_sweep(root, max(2, seeds // 3))))
            for sweep in made[-1]:
                assert run("report", sweep, "--terminal").code == 0  # leaves its cache of rows
    return Bases(*made)


@pytest.fixture(autouse=True)
def _no_trial_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    _patch(monkeypatch)


def _patch(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UsageError(WOULD_RUN)

    patch.setattr("kod_bench.sweeps.runner.check_local_resources", refuse)
    # The cache of rows, which small sweeps do not need, is read and written too.
    patch.setattr("kod_bench.reports.row_cache.FEWEST_FILES", 1)


def batches(bases: Bases, count: int) -> Iterator[Batch]:
    """Mutations without end, in batches; of the trials' files, most."""
    chooser = random.Random(SEED)
    numbers = itertools.count()

    def mutation(path: str, kinds: Sequence[str]) -> Mutation:
        return Mutation(path, chooser.choice(kinds), f"{SEED}-{next(numbers)}")

    made = 0
    while made < count:
        for large, small in zip(bases.large, bases.small, strict=True):
            for is_kept in (False, False, True):
                paths = _of_each_trial(large, chooser, is_kept)
                paths.append(chooser.choice(LOOSE))
                found = tuple(mutation(path, kinds_for(large / path)) for path in paths)
                yield Batch(large, found, "rows kept" if is_kept else "trials")
                made += len(found)
            for _ in range(8):
                path = chooser.choice(PLAN)
                kinds = kinds_for(small / path)
                if path == "trials.jsonl":
                    kinds = (*kinds, *["planned trials"] * len(kinds))
                yield Batch(small, (mutation(path, kinds),), "plan")
            for _ in range(8):
                path = chooser.choice((*LOOSE, *_of_each_trial(small, chooser, False), "trials"))
                # The one name under which a link may be: it says that the study is locked.
                kind = "plan" if path == "study.journal.lock" else "link"
                yield Batch(small, (mutation(path, ("link",)),), kind)
            made += 16


def _of_each_trial(sweep: Path, chooser: random.Random, is_row_kept: bool) -> list[str]:
    """A file, or folder, of every trial that has any; now and then the trial's own folder."""
    found = []
    for trial in sorted((sweep / "trials").iterdir()):
        names = [path.relative_to(trial).as_posix() for path in sorted(trial.rglob("*"))]
        names = sorted({*names, *TRIAL} - ({"row.parquet"} if is_row_kept else {""}))
        names += [] if is_row_kept else [""]
        weights = [OFTEN.get(name.partition("-")[0], 1) for name in names]
        (chosen,) = chooser.choices(names, weights)
        found.append(f"trials/{trial.name}/{chosen}".rstrip("/"))
    return found


def faults(batch: Batch, folder: Path, watcher: Watcher, full: bool) -> list[str]:
    """Damage a copy of a sweep, run the commands on it, and say what they did wrong."""
    sweep = copy_sweep(batch.base, folder / "sweep")
    for mutation in batch.mutations:
        mutation.apply(sweep)
    found = []
    try:
        watcher.seen()  # links were made
        for words, codes in _commands(batch, sweep, full):
            ended = run(*words)
            if (wrong := fault(words, ended, codes)) is not None:
                found.append(wrong)
            elif batch.kind == "link" and "is a link" not in ended.err:
                found.append(f"{words}: the link is not named: {ended.out}{ended.err}")
            elif words[0] == "status" and batch.kind in ("trials", "rows kept"):
                found += _lost(batch, ended.out)
            found += [f"{' '.join(map(str, words))}: {each}" for each in watcher.seen()]
            others = sorted(path.name for path in folder.iterdir())
            if others != ["outside", "sweep"] or list(Path.cwd().iterdir()):
                found.append(f"{words}: made something outside: {others}")
    finally:
        for path in (each for m in batch.mutations for each in ((sweep / m.path),)):
            if not path.is_symlink() and path.exists():
                path.chmod(0o700)
        shutil.rmtree(sweep)
    return found


def _commands(batch: Batch, sweep: Path, full: bool) -> list[tuple[Command, tuple[int, ...]]]:
    """What is run, and how it may end."""
    if batch.kind == "link":
        refused = (2,)
        return [
            (("status", sweep), refused),
            (("report", sweep), refused),
            (("compare", sweep, "published"), refused),
            (("resume", sweep, "--quiet"), refused),
        ]
    # Of a sweep of few trials, no row may be left.
    may_refuse = (0, 2)
    trials = batch.kind in ("trials", "rows kept")
    report: Command = ("report", sweep) if full else ("report", sweep, "--terminal")
    return [
        (("status", sweep), (0,) if trials else may_refuse),
        (report, may_refuse),
        (("compare", "ddpm", "kuramoto-local", "--sweep", sweep), may_refuse),
        (("resume", sweep, "--quiet"), may_refuse),
    ]


def _lost(batch: Batch, out: str) -> list[str]:
    """Whether `status` counts fewer trials as done than those whose files were left alone."""
    whole = len(list(batch.base.glob("trials/*/row.parquet")))
    damaged = sum(
        (batch.base / m.path / "row.parquet").is_file() or m.path.endswith("/row.parquet")
        for m in batch.mutations
    )
    counted = re.search(r"(\d+) done", out)
    done = int(counted[1]) if counted else 0
    return [f"status: {done} done of {whole}, {damaged} damaged: {out}"] * (done < whole - damaged)


def fuzz(bases: Bases, folder: Path, count: int) -> None:
    """Damage `count` files or more; a failure names the mutations that it needs."""
    outside = make_outside(folder / "outside")
    wrong: list[str] = []
    made = 0
    with Watcher(outside) as watcher:
        for number, batch in enumerate(batches(bases, count)):
            full = number % 40 == 5
            found = faults(batch, folder, watcher, full)
            made += len(batch.mutations)
            if found:
                wrong.append(_told(batch, found, folder, watcher, full))
            if len(wrong) == MOST_FAULTS:
                break
    assert not wrong, f"of {made} mutations:\n\n" + "\n\n".join(wrong)
    assert made >= count


def _told(batch: Batch, found: list[str], folder: Path, watcher: Watcher, full: bool) -> str:
    """What was wrong, and the one mutation that is enough for it, or else all of them."""
    for mutation in batch.mutations:
        alone = Batch(batch.base, (mutation,), batch.kind)
        if again := faults(alone, folder, watcher, full):
            return f"{mutation}:\n" + "\n".join(again)
    return "\n".join([*map(str, batch.mutations), "only together:", *found])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a damaged sweep is put; the working folder is another one, and empty."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.mark.timeout(200)
def test_200_mutations_cost_what_they_touch(bases: Bases, folder: Path) -> None:
    fuzz(bases, folder, 200)


@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_5000_mutations_cost_what_they_touch(bases: Bases, folder: Path) -> None:
    fuzz(bases, folder, 5000)


def test_the_watcher_sees_a_read_a_listing_and_a_write(tmp_path: Path) -> None:
    outside = make_outside(tmp_path / "outside")
    with Watcher(outside) as watcher:
        assert watcher.seen() == []
        (outside / "lock").stat()
        assert watcher.seen() == []
        (outside / "lock").read_bytes()
        assert f"{outside}/lock read" in watcher.seen()
        list((outside / "report").iterdir())
        assert f"{outside}/report opened" in watcher.seen()
        (outside / "report" / "new").write_text("")
        assert f"{outside}/report/new made" in watcher.seen()
        (outside / "row.parquet").unlink()
        assert f"{outside}/row.parquet deleted" in watcher.seen()
