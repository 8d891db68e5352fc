"""Kills a sweep's processes at random, resumes it, and counts what that cost.

    python benchmarks/chaos.py --rounds 20

A round is one sweep of twelve tiny trials. `kill -9` hits its driver, one of its workers, Ray's
raylet or its GCS at a random moment, again and again; `kod-bench resume` goes on after each. Then:

- every trial has exactly one row, and no row file was written twice (inode, time and bytes);
- rows, weights and samples (these by their hashes) are those of an undisturbed sweep, to the bit;
- training steps repeated are at most one checkpoint interval for each trial that was interrupted;
- a driver whose Ray was killed has ended by itself within `PATIENCE` seconds;
- no process of the sweep is left `PATIENCE` seconds after its driver.

Prints one line per kill and one per round; ends with status 1 at the first violation.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TRIALS = 12
ITERATIONS = 300
CHECKPOINTS = 12  # of a whole training
PATIENCE = 400.0
STANDSTILL = 240.0  # seconds in which no trial trains: the sweep hangs
SEVERAL_WORKERS = 10  # one round in so many; they take several times as long
SPACE = """
name: chaos
dataset: {{name: fingerprints, image_size: 16, scale: 0.25,
          synthetic: {{fingers: 6, impressions: 2}}}}
network: {{width: 8, multipliers: [1, 2], blocks: 1}}
training: {{iterations: {iterations}, batch_size: 8, log_every: 5,
           checkpoint_every: {checkpoint_every}, ema_decay: 0.9, warmup: 5}}
evaluation: {{samples: 16, references: 32, batch_size: 16}}
models:
  kuramoto: {{process: kuramoto, pool_size: 32, calibration_chains: 16, steps: {{grid: [4, 6]}}}}
  ddpm: {{process: ddpm, steps: {{grid: [4, 8]}}}}
seeds: [0, 1, 2]
profiles: {{laptop: {{resources: {{workers_per_trial: {workers}}}}}}}
"""
#: What differs between two runs of one trial.
OF_A_RUN = (
    *("sweep", "training_seconds", "sampling_seconds", "evaluation_seconds", "finished_at"),
    "resumed_from",
)
VICTIMS = ("driver", "worker", "raylet", "gcs")


class ViolationError(AssertionError):
    """Something that must not happen has happened."""


@dataclass
class Tally:
    """What a round cost."""

    kills: Counter[str] = field(default_factory=Counter)
    resumes: int = 0
    rows: int = 0
    different: int = 0  # trials whose rows, weights or samples are not those of the undisturbed
    interrupted: int = 0  # trials, each time that one had to be continued
    repeated: int = 0  # training steps
    worst: int = 0  # of one trial, of one interruption
    slowest_end: float = 0.0  # of a driver whose Ray was killed, seconds
    seconds: float = 0.0

    def line(self) -> str:
        """In words."""
        kills = ", ".join(f"{n} {name}" for name, n in sorted(self.kills.items()))
        return (
            f"{sum(self.kills.values())} kills ({kills}), {self.resumes} resumes, {self.rows} rows,"
            f" {self.different} different, {self.interrupted} interruptions, {self.repeated} steps"
            f" repeated (at most {self.worst} each), slowest end {self.slowest_end:.1f} s,"
            f" {self.seconds:.0f} s"
        )


def outcome(sweep: Path) -> dict[str, list[Any]]:
    """What each trial has come to: its rows, then its weights and samples as hashes."""
    from kod_bench.results import read_rows

    found: dict[str, list[Any]] = {}
    for row in read_rows(sweep / "trials").rows:
        kept = {name: value for name, value in asdict(row).items() if name not in OF_A_RUN}
        found.setdefault(row.trial, []).append(kept)
    for path in sorted(sweep.glob("trials/*/samples/*/manifest.json")):
        manifest = json.loads(path.read_text())
        hashes = [each["sha256"] for each in manifest["shards"]]
        found[path.parents[2].name].append((path.parent.name, manifest["weights"], hashes))
    return found


def session_processes(leader: int) -> dict[int, str]:
    """Live processes of a session by id, with their command lines; its leader is one of them."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found[int(folder.name)] = command
    return found


class Chaos:
    """One round.

    Args:
        folder: an empty one.
        generator: decides who dies, and when.
        workers: of a trial; more than one are Ray Train's.
        kills: how many there are at most.
        iterations: of a trial; a multiple of 60.
        undisturbed: `outcome` of a sweep without kills; None: this is one.
    """

    def __init__(
        self,
        folder: Path,
        generator: random.Random,
        workers: int,
        kills: int,
        iterations: int = ITERATIONS,
        undisturbed: dict[str, list[Any]] | None = None,
    ) -> None:
        self._folder = folder
        self._random = generator
        self._kills = kills
        self._iterations = iterations
        self._interval = iterations // CHECKPOINTS
        self._undisturbed = undisturbed
        self._rows: dict[str, tuple[int, int, str]] = {}
        self.tally = Tally()
        self._space = folder / "chaos.yaml"
        self._space.write_text(
            SPACE.format(iterations=iterations, checkpoint_every=self._interval, workers=workers)
        )

    def run(self) -> Tally:
        """Kill and resume until all trials are done."""
        began = time.monotonic()
        while not self._attempt():
            self._check_rows()
            self._count_repeated()
            self.tally.resumes += 1
        self._check_rows()
        self._check_end()
        self.tally.seconds = time.monotonic() - began
        return self.tally

    @property
    def sweep(self) -> Path | None:
        """Its folder, once there is one."""
        return next((p.parent for p in self._folder.glob("results/chaos/*/sweep.yaml")), None)

    def _attempt(self) -> bool:
        """Run or resume the sweep, killing; True if it has come to its end with all trials done."""
        results = ["--results-dir", str(self._folder / "results")]
        order = ["resume"] if self.sweep else ["sweep", str(self._space)]
        with (self._folder / "out.txt").open("a") as out:
            driver = subprocess.Popen(
                [sys.executable, "-m", "kod_bench.cli.main", *order, *results],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        try:
            return self._torment(driver)
        finally:
            driver.kill()
            driver.wait()
            self._await_end_of_session(driver.pid)

    def _torment(self, driver: "subprocess.Popen[bytes]") -> bool:
        while sum(self.tally.kills.values()) < self._kills:
            if not self._wait_for_a_moment(driver):
                break
            victim = self._random.choice(VICTIMS)
            if not self._kill(driver, victim):
                continue
            if victim == "driver":
                driver.wait()
                return False
            if victim in ("raylet", "gcs"):
                killed = time.monotonic()
                try:
                    driver.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    raise ViolationError(f"{victim} killed: the driver hangs") from None
                taken = time.monotonic() - killed
                self.tally.slowest_end = max(self.tally.slowest_end, taken)
                said = (self._folder / "out.txt").read_text().rstrip().splitlines()[-2:]
                if driver.returncode == 0 or "Continue with: kod-bench resume" not in str(said):
                    raise ViolationError(f"{victim} killed: {driver.returncode}, {said!r}")
                return False
        self._wait_for_the_end(driver)
        return driver.returncode == 0

    def _wait_for_the_end(self, driver: "subprocess.Popen[bytes]") -> None:
        """However long it takes, as long as something is trained or done."""
        seen, changed = self._progress(), time.monotonic()
        while driver.poll() is None:
            if (now := self._progress()) != seen:
                seen, changed = now, time.monotonic()
            elif time.monotonic() - changed > STANDSTILL:
                raise ViolationError("the sweep hangs")
            time.sleep(0.5)

    def _wait_for_a_moment(self, driver: "subprocess.Popen[bytes]") -> bool:
        """Sleep for a random while: mostly from when something is trained. False if it ended."""
        if self._random.random() < 0.85:
            before = self._progress()
            while self._progress() == before:
                if driver.poll() is not None:
                    return False
                time.sleep(0.05)
            delay = self._random.uniform(0, 8)
        else:
            delay = self._random.uniform(1, 10)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            if driver.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def _progress(self) -> list[tuple[str, int]]:
        files = self._folder.glob("results/chaos/*/trials/*/history.jsonl")
        return sorted((path.parent.name, path.stat().st_mtime_ns) for path in files)

    def _kill(self, driver: "subprocess.Popen[bytes]", victim: str) -> bool:
        def is_victim(line: str) -> bool:
            # Processes that compute: a trial's own, and Ray Train's. Others are called ray::IDLE,
            # or are Ray's agents.
            return {
                "worker": line.startswith(("ray::ImplicitFunc", "ray::RayTrainWorker")),
                "raylet": "/raylet/raylet " in line,
                "gcs": "/gcs/gcs_server " in line,
                "driver": False,
            }[victim]

        processes = session_processes(driver.pid)
        chosen = sorted(p for p, line in processes.items() if is_victim(line))
        if victim == "driver":
            chosen = [driver.pid]
        if not chosen:
            return False
        target = self._random.choice(chosen)
        os.kill(target, signal.SIGKILL)
        self.tally.kills[victim] += 1
        print(f"  kill -9 {victim:<7} {target} {processes.get(target, '')[:40]}", flush=True)
        return True

    def _await_end_of_session(self, session: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while left := session_processes(session):
            if time.monotonic() > deadline:
                for process in left:
                    os.kill(process, signal.SIGKILL)
                raise ViolationError(f"left over: {left}")
            time.sleep(0.1)

    def _check_rows(self) -> None:
        found = {}
        for path in self._folder.glob("results/chaos/*/trials/*/row.parquet"):
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.parent.name] = (status.st_ino, status.st_mtime_ns, digest)
        for trial, row in self._rows.items():
            if found.get(trial) != row:
                raise ViolationError(f"{trial}: its row was {row}, is {found.get(trial)}")
        self._rows = found
        self.tally.rows = len(found)

    def _count_repeated(self) -> None:
        for path in self._folder.glob("results/chaos/*/trials/*/history.jsonl"):
            trial = path.parent
            if (trial / "row.parquet").exists():
                continue
            reached = max((r["iteration"] for r in _records(path)), default=0)
            saved = max(
                (int(p.stem.split("-")[1]) for p in trial.glob("checkpoints/iteration-*.pt")),
                default=0,
            )
            self.tally.interrupted += 1
            self.tally.repeated += reached - saved
            self.tally.worst = max(self.tally.worst, reached - saved)
            if reached - saved > self._interval:
                raise ViolationError(f"{trial.name}: reached {reached}, saved {saved}")

    def _check_end(self) -> None:
        from kod_bench.results import read_rows

        assert self.sweep is not None
        found = read_rows(self.sweep / "trials")
        trials = sorted(row.trial for row in found.rows)
        if found.unreadable or len(trials) != TRIALS or len(set(trials)) != TRIALS:
            raise ViolationError(f"rows of {trials}, unreadable: {found.unreadable}")
        for trial in trials:
            reached = [r["iteration"] for r in _records(self.sweep / "trials" / trial)]
            if reached != list(range(5, self._iterations + 1, 5)):
                raise ViolationError(f"{trial}: its history has {reached}")
        if self._undisturbed is not None:
            self._compare(outcome(self.sweep), self._undisturbed)

    def _compare(self, found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
        if found.keys() != wanted.keys():
            raise ViolationError("other trials than undisturbed: has the code changed meanwhile?")
        self.tally.different = sum(found.get(trial) != wanted[trial] for trial in wanted)
        for trial, parts in wanted.items():
            for one, other in zip(parts, found.get(trial, []), strict=True):
                if one != other:
                    said = f"{one}, is {other}"
                    if isinstance(one, dict):
                        names = [name for name in one if one[name] != other[name]]
                        said = ", ".join(f"{name} {one[name]}, is {other[name]}" for name in names)
                    raise ViolationError(f"{trial}: undisturbed {said}")


def _records(path: Path) -> list[dict[str, int]]:
    if path.is_dir():
        path = path / "history.jsonl"
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:  # torn by a kill
            continue
    return records


def main() -> None:
    """Run some rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=8, help="at most, per round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="a multiple of 60")
    parser.add_argument("--workers", type=int, help="per trial; default: 2 in some rounds")
    arguments = parser.parse_args()
    if arguments.iterations < 60 or arguments.iterations % 60:
        parser.error(f"--iterations {arguments.iterations}: must be a multiple of 60")
    undisturbed: dict[int, dict[str, list[Any]]] = {}
    for number in range(arguments.rounds):
        workers = arguments.workers or (2 if number % SEVERAL_WORKERS == 2 else 1)
        generator = random.Random(arguments.seed + number)
        print(f"round {number + 1} of {arguments.rounds}, {workers} worker(s) per trial")
        if workers not in undisturbed:
            with tempfile.TemporaryDirectory() as folder:
                calm = Chaos(Path(folder), generator, workers, 0, arguments.iterations)
                print(f"  undisturbed: {calm.run().line()}", flush=True)
                assert calm.sweep is not None
                undisturbed[workers] = outcome(calm.sweep)
        with tempfile.TemporaryDirectory() as folder:
            chaos = Chaos(
                Path(folder),
                generator,
                workers,
                arguments.kills,
                arguments.iterations,
                undisturbed[workers],
            )
            try:
                tally = chaos.run()
            except ViolationError as violation:
                print(f"VIOLATION {violation}\nso far: {chaos.tally.line()}")
                print("\n".join((Path(folder) / "out.txt").read_text().splitlines()[-30:]))
                sys.exit(1)
        print(f"  {tally.line()}", flush=True)


if __name__ == "__main__":
    main()
