"""A trial's samples as shards: what a kill costs, what stays, and that no row shows it."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F
from torch import Tensor

from kod_bench.data import load_dataset
from kod_bench.evaluation import FeatureExtractor
from kod_bench.evaluation.features import Features
from kod_bench.results import Row, provenance
from kod_bench.sampling import ShardFolder
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.progress import Status
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.open import open_planned
from kod_bench.sweeps.trial import scoring as scoring_module
from kod_bench.sweeps.trial.progress import DrawingProgress
from kod_bench.sweeps.trial.run import draw_trained, run_trial, train_and_score
from tests.object_store import BUCKET, bucket_in_environment, serve_bucket

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
    path = folder / "shards.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(SPACE.replace("KEEP", keep))
    space = load_space(path, "laptop")
    dataset = load_dataset(space.options.dataset, None)
    return create_sweep(
        space,
        make_trials(space, dataset.content_hash),
        results_dir=folder / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )


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
        draw_trained(sweep, trial, worker, workers=3)  # of whom one never comes
    assert [numbers(path) for path in shards(sweep)] == [
        numbers(path) for path in shards(undisturbed[0])
    ]
    assert run(sweep) == undisturbed[1]


def test_progress_counts_the_images_of_a_way(
    undisturbed: tuple[Sweep, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweep = plan(tmp_path)
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr("kod_bench.sweeps.trial.drawing.time.monotonic", lambda: float(next(clock)))
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
    draw_trained(sweep, trial, 0, 1)
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
        assert run(there) == undisturbed[1]
        assert drawn == [0, 1, 2]  # of the second way
        left = sorted(name for name in store.list() if name.startswith("samples/"))
        kept = ("manifest.json", "shard-000000.npz", "shard-000001.npz")  # nine images
        assert left == [
            f"samples/{prior}-ancestral-4/{name}"
            for prior in ("forward", "matched")
            for name in kept
        ]
        assert not shards(there)  # the store has them
