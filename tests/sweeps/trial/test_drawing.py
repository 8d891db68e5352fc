"""A trial's samples as shards: what a kill costs, what stays, and that no row shows it."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch.nn.functional as F
from torch import Tensor

from kod_bench.evaluation import FeatureExtractor
from kod_bench.evaluation.features import Features
from kod_bench.results import Row
from kod_bench.sampling import Claims, ShardFolder
from kod_bench.storage import ObjectFolder, StoredObject
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.store.open import open_planned
from kod_bench.sweeps.store.stopping import STOP_FILE
from kod_bench.sweeps.trial import meter as meter_module
from kod_bench.sweeps.trial import scoring as scoring_module
from kod_bench.sweeps.trial.drawing import ALL, Part
from kod_bench.sweeps.trial.progress import DrawingProgress
from kod_bench.sweeps.trial.reference import load_reference
from kod_bench.sweeps.trial.run import draw_trained, run_trial, score_trained, train_and_score
from kod_bench.training import StoppedError
from tests.object_store import BUCKET, bucket_in_environment, serve_bucket
from tests.planned import plan_sweep

SPACE = """
name: shards
dataset: {name: fingerprints, image_size: 16, scale: 0.25, synthetic: {fingers: 6, impressions: 2}}
network: {width: 8, multipliers: [1], blocks: 1}
training: {iterations: 4, batch_size: 8, log_every: 2, checkpoint_every: 2, warmup: 1}
evaluation: {samples: 20, references: 16, batch_size: 8, keep_samples: KEEP}
models:
  kuramoto:
    {process: kuramoto, coupling: local, pool_size: 16, calibration_chains: 16, steps: 4,
     priors: [matched, forward], network_evaluations: [4]}
profiles: {laptop: {}}
"""

#: What differs between two runs of one trial.
_OF_A_RUN = ("sweep", "training_seconds", "sampling_seconds", "evaluation_seconds", "finished_at")
_OF_A_RUN += ("resumed_from",)


class Blocks(FeatureExtractor):
    """Means of blocks of pixels: enough to tell samples apart, and quick."""

    name = "blocks"

    def __call__(self, images: Tensor) -> Features:
        blocks = F.avg_pool2d(images.double(), 4).flatten(1)
        return blocks.numpy()


@pytest.fixture(autouse=True, scope="module")
def _quick_features() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring_module, "make_extractor", lambda *_: Blocks())
        yield


class KilledError(Exception):
    """Stands for kill -9: it comes where nothing is tidied up."""


def plan(folder: Path, keep: str = "auto") -> Sweep:
    return plan_sweep(SPACE.replace("KEEP", keep), folder)


def run(sweep: Sweep, report: Callable[[Status], None] = lambda _: None) -> list[dict[str, Any]]:
    """The rows, without what no two runs share."""
    return [comparable(row) for row in run_trial(sweep, sweep.trials[0], report, train_and_score)]


def comparable(row: Row) -> dict[str, Any]:
    found = {name: value for name, value in asdict(row).items() if name not in _OF_A_RUN}
    # The plan says what is kept, and the row's numbers do not depend on it.
    config = json.loads(found.pop("config"))
    config["evaluation"].pop("keep_samples", None)
    return {k: v for k, v in found.items() if k not in ("config_hash", "trial")} | config


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path
) -> tuple[Sweep, list[dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOD_BENCH_CACHE", str(cache_dir))
        patch.setenv("KOD_BENCH_KEY", str(cache_dir / "key"))
        sweep = plan(tmp_path_factory.mktemp("undisturbed"))
        return sweep, run(sweep)


def shards(sweep: Sweep) -> list[Path]:
    return sorted(sweep.trial_folder(sweep.trials[0]).glob("samples/*/shard-*.npz"))


def numbers(path: Path) -> str:
    """The hash that a shard says."""
    with np.load(path) as archive:
        found: str = json.loads(str(archive["about"]))["sha256"]
    return found


def kill_after(patch: pytest.MonkeyPatch, count: int, before: bool = False) -> list[int]:
    """The process dies once so many shards are there, or just before the last one is."""
    write, drawn = ShardFolder.write, []

    def counted(self: ShardFolder, index: int, *arguments: Any, **more: Any) -> None:
        if before and len(drawn) == count - 1:
            drawn.append(index)
            raise KilledError
        write(self, index, *arguments, **more)
        drawn.append(index)
        if len(drawn) == count:
            raise KilledError

    patch.setattr(ShardFolder, "write", counted)
    return drawn


def run_and_kill(sweep: Sweep, count: int, before: bool = False) -> list[int]:
    """The shards that a run drew until it died: see `kill_after`."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = kill_after(patch, count, before)
        with pytest.raises(KilledError):
            run(sweep)
    return drawn


def test_shards_and_manifest_lie_in_the_trials_folder(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
) -> None:
    sweep, rows = undisturbed
    assert [row["prior"] for row in rows] == ["matched", "forward"]
    names = [path.relative_to(path.parents[1]).as_posix() for path in shards(sweep)]
    assert len(names) == 6
    assert names[-1] == "matched-ancestral-4/shard-000002.npz"
    manifest = json.loads((shards(sweep)[-1].parent / "manifest.json").read_text())
    assert (manifest["count"], manifest["size"], len(manifest["shards"])) == (20, 8, 3)
    left = [path.name for path in shards(sweep)[0].parent.iterdir()]
    assert sorted(left) == ["manifest.json", *(f"shard-00000{n}.npz" for n in range(3))]


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("before", [False, True])
def test_a_kill_in_sampling_costs_one_shard_at_most_and_no_bit_of_the_row(
    undisturbed: tuple[Sweep, list[dict[str, Any]]], tmp_path: Path, count: int, before: bool
) -> None:
    sweep = plan(tmp_path)
    first = run_and_kill(sweep, count, before)
    with pytest.MonkeyPatch.context() as patch:
        second = kill_after(patch, 1000)
        rows = run(sweep)
    assert rows == undisturbed[1]
    assert len(first) + len(second) == 6 + before


def test_a_kill_in_scoring_costs_no_drawing(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    with pytest.MonkeyPatch.context() as patch:

        def killed(*_: Any) -> None:
            raise KilledError

        patch.setattr(scoring_module, "make_row", killed)
        with pytest.raises(KilledError):
            run(sweep)
    drawn = kill_after(monkeypatch, 1000)
    assert run(sweep) == undisturbed[1]
    assert drawn == []


class Patient(Blocks):
    """Counts its images, and dies before the last of so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls, self.asked = calls, 0

    def __call__(self, images: Tensor) -> Features:
        self.calls -= 1
        if not self.calls:
            raise KilledError
        self.asked += len(images)
        return super().__call__(images)


def score_until(calls: int, patch: pytest.MonkeyPatch) -> Patient:
    """Scores 8 images at a time until the process dies before a call, or to the end."""
    extractor = Patient(calls)
    # The reference is not a part of it.
    patch.setattr(scoring_module, "load_reference", reference_of_blocks)
    patch.setattr("kod_bench.evaluation.measured._BLOCK", 8)
    patch.setattr(scoring_module, "make_extractor", lambda *_: extractor)
    return extractor


def reference_of_blocks(subject: Any, _: Any, *others: Any) -> Any:
    return load_reference(subject, Blocks(), *others)


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_a_kill_in_scoring_costs_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    score_until(-1, monkeypatch)
    undisturbed = run(plan(tmp_path / "whole"))
    sweep = plan(tmp_path)
    first = score_until(calls, monkeypatch)
    with pytest.raises(KilledError):
        run(sweep)
    second = score_until(-1, monkeypatch)
    drawn = kill_after(monkeypatch, 1000)
    assert run(sweep) == undisturbed
    assert drawn == []
    assert first.asked + second.asked == 40  # of two ways
    assert (first.asked > 0) == (calls > 1)
    left = (sweep.trial_folder(sweep.trials[0]) / "samples").rglob("features-*")
    assert not [*left]


def test_kills_in_training_sampling_and_scoring_cost_no_bit_of_the_row(
    undisturbed: tuple[Sweep, list[dict[str, Any]]], tmp_path: Path
) -> None:
    def dies(phase: str, count: int) -> Callable[[Status], None]:
        said: list[str] = []

        def report(status: Status) -> None:
            said.append(status.phase)
            if said.count(phase) == count:
                raise KilledError

        return report

    sweep = plan(tmp_path)
    for phase, count in [("training", 1), ("training", 1), ("training", 1), ("sampling", 1)]:
        with pytest.raises(KilledError):
            run(sweep, dies(phase, count))
    with pytest.raises(KilledError):
        run(sweep, dies("scoring", 1))
    assert run(sweep) == undisturbed[1]
    (row,) = {(each["resumed_exactly"], each["loss"]) for each in undisturbed[1]}
    assert row[0] is True
    assert [numbers(path) for path in shards(sweep)] == [
        numbers(path) for path in shards(undisturbed[0])
    ]


def test_a_damaged_shard_is_drawn_again_though_all_are_there(
    undisturbed: tuple[Sweep, list[dict[str, Any]]], tmp_path: Path
) -> None:
    sweep = plan(tmp_path)
    run_and_kill(sweep, 6)
    damaged = shards(sweep)[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert run(sweep) == undisturbed[1]
    log = (sweep.trial_folder(sweep.trials[0]) / "log.txt").read_text()
    assert f"{damaged} is damaged and is drawn again" in log


def test_shards_of_another_code_version_are_drawn_again_with_one_line_a_way(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kod_bench.sweeps.trial.drawing.current_code", lambda: "0.0.1+older")
        run_and_kill(sweep, 6)
    drawn = kill_after(monkeypatch, 1000)
    assert run(sweep) == undisturbed[1]
    assert len(drawn) == 6
    log = (sweep.trial_folder(sweep.trials[0]) / "log.txt").read_text()
    assert len(re.findall(r"3 shard\(s\) are damaged, or of other weights or another", log)) == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1,), (2, 0)])
def test_however_many_draw_in_whatever_order_the_shards_are_the_same(
    undisturbed: tuple[Sweep, list[dict[str, Any]]], tmp_path: Path, order: tuple[int, ...]
) -> None:
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    run_and_kill(sweep, 1, before=True)  # trained, and nothing drawn
    assert not shards(sweep)
    for worker in order:
        draw_trained(sweep, trial, Part(worker, 3))  # of whom one never comes
    assert [numbers(path) for path in shards(sweep)] == [
        numbers(path) for path in shards(undisturbed[0])
    ]
    assert run(sweep) == undisturbed[1]


def test_of_a_training_that_was_stopped_nobody_draws_or_complains(tmp_path: Path) -> None:
    """Several workers have saved where they were; the trial's next step is to have them draw."""
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    (sweep.folder / STOP_FILE).touch()
    draw_trained(sweep, trial, Part(0, 2))
    assert not shards(sweep)
    with pytest.raises(StoppedError):
        score_trained(sweep, trial, lambda _: None)


def test_progress_counts_the_images_of_a_way(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr("kod_bench.sweeps.trial.meter.time.monotonic", lambda: float(next(clock)))
    seen: list[Status] = []
    run(sweep, seen.append)
    sampling = [status for status in seen if status.phase == "sampling"]
    assert {status.total for status in sampling} == {20}
    done = [status.done for status in sampling]
    assert done[0] == 0
    assert max(done) == 20
    assert sorted(set(done[: done.index(20)])) == done[: done.index(20)]
    assert all(
        status.speed and status.seconds_left is not None for status in sampling if status.done
    )


def test_who_draws_nothing_sees_how_far_all_are_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    clock = [100.0]
    monkeypatch.setattr("kod_bench.sweeps.trial.progress.time.monotonic", lambda: clock[0])
    first, second = (
        sweep.trial_folder(trial) / "samples" / f"{prior}-ancestral-4"
        for prior in ("matched", "forward")
    )

    def draw(way: Path, *numbers: int) -> None:
        way.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            (way / f"shard-{number:06d}.npz").touch()

    draw(first, 1)  # of an earlier attempt
    progress = DrawingProgress(sweep, trial)
    clock[0] += 2
    assert progress.status() == Status("sampling", 8, 20, None, None, None)
    draw(first, 0)
    assert progress.status() == Status("sampling", 16, 20, None, 4.0, 1.0)
    draw(first, 2)
    draw(second, 0)
    clock[0] += 1
    assert progress.status() == Status("sampling", 8, 20, None, 8.0, 1.5)  # 24 images in 3 s
    draw(second, 1, 2)
    assert progress.status() is None


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("9", 4), ("8", 2), ("all", 6)])
def test_what_is_dropped_can_be_drawn_again_to_the_bit(
    undisturbed: tuple[Sweep, list[dict[str, Any]]], tmp_path: Path, keep: str, left: int
) -> None:
    sweep = plan(tmp_path, keep)
    assert run(sweep) == undisturbed[1]
    assert len(shards(sweep)) == left
    (trial,) = sweep.trials
    manifests = sorted(sweep.trial_folder(trial).glob("samples/*/manifest.json"))
    listed = [
        each["sha256"] for path in manifests for each in json.loads(path.read_text())["shards"]
    ]
    draw_trained(sweep, trial, ALL)
    assert [numbers(path) for path in shards(sweep)] == listed


def test_auto_keeps_what_is_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sweep = plan(tmp_path)
    monkeypatch.setattr("kod_bench.sweeps.space.evaluation.AUTO_BYTES", 2 * 20 * 16 * 16 - 1)
    run(sweep)
    assert not shards(sweep)


def test_another_node_goes_on_with_what_is_on_the_store(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache_dir: Path,
) -> None:
    space = tmp_path / "shards.yaml"
    space.write_text(SPACE.replace("KEEP", "9"))
    with serve_bucket() as url, bucket_in_environment(url):
        here = prepare_sweep(
            str(space),
            profile="laptop",
            data_dir=None,
            results_dir=ObjectFolder(f"s3://{BUCKET}/results"),
            seeds=None,
            address=None,
            say=lambda _: None,
        )
        (trial,) = here.trials
        assert here.remote is not None
        store = here.remote / "trials" / trial.id
        run_and_kill(here, 4, before=True)
        listed = [name for name in store.list() if name.startswith("samples/")]
        assert sorted(listed) == [
            f"samples/matched-ancestral-4/shard-00000{n}.npz" for n in range(3)
        ]
        assert {"trajectory-matched-ancestral-4.png"} <= store.list().keys()

        monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "elsewhere"))
        there, trial = open_planned(here.location, trial.id)
        assert there.folder != here.folder
        drawn = kill_after(monkeypatch, 1000)
        first = score_until(5, monkeypatch)  # all of a way, and some of the next
        with pytest.raises(KilledError):
            run(there)
        assert drawn == [0, 1, 2]  # of the second way
        assert sum("/features-" in name for name in store.list()) == 4

        monkeypatch.setenv("KOD_BENCH_CACHE", str(tmp_path / "third"))
        third, trial = open_planned(here.location, trial.id)
        second = score_until(-1, monkeypatch)
        rows = run(third)
        assert drawn == [0, 1, 2]
        assert first.asked + second.asked == 40
        assert rows == run(plan(tmp_path / "whole"))
        left = sorted(name for name in store.list() if name.startswith("samples/"))
        kept = ("manifest.json", "shard-000000.npz", "shard-000001.npz")  # nine images
        assert left == [
            f"samples/{prior}-ancestral-4/{name}"
            for prior in ("forward", "matched")
            for name in kept
        ]
        assert not shards(third)  # the store has them


@contextmanager
def held_by_another(sweep: Sweep, way: str, index: int) -> Iterator[int]:
    """Another process says that it draws a shard; its id."""
    folder = sweep.trial_folder(sweep.trials[0]) / "samples" / way
    folder.mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with Claims(folder) as claims, claims.claim(index):
            os.write(writing, b".")
            os.read(os.pipe()[0], 1)  # for ever
        os._exit(1)
    try:
        os.read(reading, 1)
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, 9)
        with suppress(ChildProcessError):
            os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_shard_of_a_dead_helper_is_drawn_by_the_trial(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    with held_by_another(sweep, "matched-ancestral-4", 1) as helper:
        drawn = kill_after(monkeypatch, 1000)
        seen_before_death: list[list[int]] = []

        def dies() -> None:
            seen_before_death.append([*drawn])
            os.kill(helper, 9)
            os.waitpid(helper, 0)

        monkeypatch.setattr(
            "kod_bench.sweeps.trial.meter.time.sleep", lambda _: seen_before_death or dies()
        )
        rows = run(sweep)
    assert seen_before_death == [[0, 2]]  # it waits once there is nothing else to do
    assert drawn == [0, 2, 1, 0, 1, 2]
    assert rows == undisturbed[1]


def test_a_claim_that_nobody_gives_up_holds_nothing_up_for_ever(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kod_bench.sweeps.trial.drawing._PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("kod_bench.sweeps.trial.drawing._PATIENCE_SHARDS", 0.0)
    sweep = plan(tmp_path)
    with held_by_another(sweep, "matched-ancestral-4", 1):
        assert run(sweep) == undisturbed[1]


def test_who_helps_ends_when_others_wait(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    run_and_kill(sweep, 1, before=True)
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr("kod_bench.sweeps.trial.meter.time.monotonic", lambda: float(next(clock)))
    asked = iter([False] * 6 + [True] * 100)
    draw_trained(sweep, trial, Part(3, helps=True, gives_way=lambda: next(asked)))
    assert len(shards(sweep)) == 1  # of four calls; in the second one it was told
    log = (sweep.trial_folder(trial) / "log.txt").read_text()
    assert "helping on" in log
    assert "gave its room to those who wait for it" in log
    draw_trained(sweep, trial, Part(3, helps=True))
    assert len(shards(sweep)) == 6
    assert run(sweep) == undisturbed[1]


def test_what_another_node_has_put_on_the_store_meanwhile_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    old, new = StoredObject(5, None), StoredObject(6, None)
    listed = {"shard-000000.npz": old}
    monkeypatch.setattr(meter_module, "list_shards", lambda *_: dict(listed))
    monkeypatch.setattr(meter_module, "stop_check", lambda _: lambda: False)
    clock = [100.0]
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: clock[0])
    seen: list[Status] = []
    remote = replace(sweep, remote=ObjectFolder("s3://bucket/prefix"))
    meter = meter_module.Meter(remote, trial, trial.scorings[0], seen.append, 20, 8)
    folder = ShardFolder(tmp_path / "way", cast(Any, None))
    meter.begin(folder, [0, 1, 2])
    known = dict(listed)  # a damaged one
    assert not meter.is_elsewhere(0, known)
    listed |= {"shard-000001.npz": new}
    assert not meter.is_elsewhere(1, known)  # not asked again so soon
    clock[0] += 6
    assert meter.is_elsewhere(1, known)
    assert not meter.is_elsewhere(0, known)
    listed["shard-000000.npz"] = new  # drawn again, by somebody else
    clock[0] += 6
    assert meter.is_elsewhere(0, known)
    clock[0] += 2
    meter.call()
    assert (seen[-1].done, seen[-1].total) == (18, 20)  # two shards, and a call of four of a third
    assert seen[-1].speed == pytest.approx(18 / 14)


def test_time_left_knows_that_ways_differ_in_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        f"{__name__}.SPACE",
        SPACE.replace("network_evaluations: [4]", "network_evaluations: [1, 4]"),
    )
    sweep = plan(tmp_path)
    (trial,) = sweep.trials
    clock = [100.0]
    monkeypatch.setattr("kod_bench.sweeps.trial.progress.time.monotonic", lambda: clock[0])
    progress = DrawingProgress(sweep, trial)
    first, second = (
        sweep.trial_folder(trial) / "samples" / f"matched-ancestral-{n}" for n in (1, 4)
    )
    assert [way.network_evaluations for way in trial.scorings[:2]] == [1, 4]
    for way, numbers in ((first, (0, 1, 2)), (second, (0,))):
        way.mkdir(parents=True)
        for number in numbers:
            (way / f"shard-{number:06d}.npz").touch()
    clock[0] += 7  # 24 images of one call and 8 of four: 56 calls
    assert progress.status() == Status("sampling", 8, 20, None, 2.0, 6.0)
