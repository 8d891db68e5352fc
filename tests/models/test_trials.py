"""A finished trial's model: samples that were kept are read, others drawn, nothing is written."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import kod_bench
from kod_bench.errors import UsageError
from kod_bench.models import Model, ModelError
from kod_bench.models import model as model_module
from kod_bench.models.opening import find_models, planned_trial
from kod_bench.models.trials import Permissions, open_trial
from kod_bench.results import read_trial, write_rows
from kod_bench.storage import ObjectFolder
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.store.find import find_sweep
from kod_bench.sweeps.trial import scoring as scoring_module
from tests.conftest import PATIENCE
from tests.object_store import BUCKET, bucket_in_environment, serve_bucket
from tests.plugins import BLUR, PROCESSES, Announce
from tests.trained import Blocks, folder_of, plan, train_all, trial_of

CPU = torch.device("cpu")


def load(folder: Path) -> Model:
    found = kod_bench.load(folder, device="cpu")
    assert isinstance(found, Model)
    return found


def shard_files(folder: Path, way: str) -> list[Path]:
    return sorted((folder / "samples" / way).glob("shard-*.npz"))


def kept_images(folder: Path, way: str) -> torch.Tensor:
    parts = [np.load(path)["images"] for path in shard_files(folder, way)]
    return torch.from_numpy(np.concatenate(parts))


@pytest.mark.parametrize(
    ("model", "way"),
    [("kuramoto", "matched-ancestral-4"), ("ddpm", "standard-normal-ancestral-4")],
)
def test_samples_are_those_that_the_trial_was_scored_by(
    trained: Sweep, model: str, way: str
) -> None:
    folder = folder_of(trained, model)
    kept = kept_images(folder, way)
    opened = load(folder)
    drawing = opened.drawing(20)
    found = drawing.all()
    assert torch.equal(found, kept[:20])
    assert (found.dtype, found.shape) == (torch.uint8, (20, 1, 16, 16))
    assert (drawing.kept, drawing.drawn) == (20, 0)
    further = opened.drawing(30)  # more than were kept: three shards of eight are, the last whole
    assert torch.equal(further.all()[:24], kept)
    assert (further.kept, further.drawn) == (24, 6)
    for path in shard_files(folder, way):
        path.unlink()
    again = opened.drawing(20)
    assert torch.equal(again.all(), found)
    assert (again.kept, again.drawn) == (0, 20)


def test_samples_of_every_way_that_was_scored_are_found(trained: Sweep) -> None:
    folder = folder_of(trained, "kuramoto")
    opened = load(folder)
    drawing = opened.drawing(20, prior="forward", network_evaluations=2)
    assert torch.equal(drawing.all(), kept_images(folder, "forward-ancestral-2")[:20])
    assert drawing.drawn == 0


def test_other_seeds_batches_and_ways_are_drawn(trained: Sweep) -> None:
    opened = load(folder_of(trained, "kuramoto"))
    usual = opened.sample(16)
    for other in (
        {"seed": 5},
        {"batch_size": 4},
        {"network_evaluations": 3},
        {"sampler": "probability-flow"},
        {"prior": "von-mises"},
    ):
        drawing = opened.drawing(16, **other)  # type: ignore[arg-type]
        found = drawing.all()
        assert drawing.kept == 0
        assert not torch.equal(found, usual), other
        assert torch.equal(found, opened.sample(16, **other))  # type: ignore[arg-type]
    assert torch.equal(opened.sample(5, seed=5), opened.sample(16, seed=5)[:5])


def test_a_damaged_shard_is_drawn_again(trained: Sweep, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(trained, "ddpm")
    before = load(folder).sample(20)
    path = shard_files(folder, "standard-normal-ancestral-4")[1]
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    drawing = load(folder).drawing(20)
    assert torch.equal(drawing.all(), before)
    assert (drawing.kept, drawing.drawn) == (12, 8)
    assert path.name in caplog.text
    assert "drawn again" in caplog.text
    assert path.read_bytes() == whole  # the trial's folder is only read


def test_samples_of_another_version_of_the_code_are_drawn_again(
    trained: Sweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(trained, "ddpm")
    monkeypatch.setattr(model_module, "current_code", lambda: "0.2.0+other")
    drawing = load(folder).drawing(20)
    assert torch.equal(drawing.all(), kept_images(folder, "standard-normal-ancestral-4")[:20])
    assert drawing.drawn == 20
    assert "another version of the code" in caplog.text


def test_the_scores_are_those_of_the_row(trained: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "make_extractor", lambda *_: Blocks())
    folder = folder_of(trained, "kuramoto")
    rows = read_trial(folder)
    assert rows is not None
    opened = load(folder)
    found = opened.score()
    assert {name: getattr(rows[0], name) for name in found} == found
    assert opened.score(opened.sample(20)) == found
    other = opened.score(network_evaluations=2)
    assert other["kid"] == rows[1].kid != found["kid"]
    assert opened.score(count=12)["kid"] != found["kid"]
    with pytest.raises(ModelError, match="leave out how others would be drawn"):
        opened.score(opened.sample(20), seed=1)
    with pytest.raises(ModelError, match=r"got \(20, 16, 16\) uint8"):
        opened.score(opened.sample(20)[:, 0])


def test_a_users_extractor_of_a_plan_is_imported_only_if_it_is_named(trained: Sweep) -> None:
    trial = trial_of(trained, "ddpm")
    named = replace(trial, evaluation={**trial.evaluation, "features": "evil:Features"})
    opened = open_trial(trained, trial, CPU, Permissions())
    opened.trial = named
    with pytest.raises(ModelError, match="if you know that code and trust it"):
        opened.score()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "count must be a whole number from 1 on, got 0"),
        ({"count": True}, "count must be a whole number from 1 on, got True"),
        ({"sampler": "dpm"}, "no sampler 'dpm'; choose from ancestral, "),
        ({"prior": "blurred"}, "no prior 'blurred'; choose from matched, .*, or forward"),
        ({"network_evaluations": 5}, "evaluations must be at most T = 4, got 5"),
        ({"network_evaluations": 0}, "network_evaluations must be a whole number from 1 on"),
        ({"seed": -1}, "seed must be a whole number from 0 on, got -1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number from 1 on, got 2.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_it_is(
    trained: Sweep, options: dict[str, object], said: str
) -> None:
    opened = load(folder_of(trained, "kuramoto"))
    with pytest.raises(ModelError, match=said) as refused:
        opened.drawing(**{"count": 4, **options})  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_sampling_starts_at_the_images_that_are_given(trained: Sweep) -> None:
    opened = load(folder_of(trained, "kuramoto"))
    images = opened.open_images().test[:8].clone()
    found = opened.sample(8, start=images)
    other = images.clone()
    other[3] = 255 - other[3]
    changed = (opened.sample(8, start=other) != found).flatten(1).any(1)
    assert changed.tolist() == [index == 3 for index in range(8)]
    # Fewer images than are wanted: again from the first.
    again = opened.sample(8, start=images[:4])
    assert torch.equal(again[:4], found[:4])
    with pytest.raises(ModelError, match="nothing is resized"):
        opened.sample(8, start=images[..., :8])
    with pytest.raises(ModelError, match="leave one of them out"):
        opened.sample(8, start=images, prior="matched")


def test_nothing_is_written_in_a_trial(trained: Sweep) -> None:
    def state() -> dict[str, tuple[int, int]]:
        paths = trained.folder.rglob("*")
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}

    before = state()
    opened = load(folder_of(trained, "ddpm"))
    opened.sample(20)
    opened.sample(20, seed=1)
    assert state() == before


def test_a_trial_that_has_not_finished_is_refused(trained: Sweep) -> None:
    folder = folder_of(trained, "kuramoto", 1)
    with pytest.raises(ModelError, match=r"has not finished; kod-bench resume .* goes on"):
        load(folder)


def test_a_checkpoint_that_is_gone_or_damaged_is_named(trained: Sweep) -> None:
    folder = folder_of(trained, "ddpm")
    (checkpoint,) = (folder / "checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    with pytest.raises(ModelError, match="its checkpoint of iteration 4 is gone, damaged or of"):
        load(folder)
    checkpoint.unlink()
    with pytest.raises(ModelError, match="its checkpoint of iteration 4 is gone, damaged or of"):
        load(folder)


def test_what_is_no_model_is_refused(trained: Sweep, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        kod_bench.load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"is neither a trial's folder .* nor an exported model's"):
        kod_bench.load(trained.folder)
    with pytest.raises(UsageError, match="has no trial nobody"):
        kod_bench.load(trained.folder / "trials" / "nobody")


def test_a_link_in_a_sweep_is_not_followed(trained: Sweep) -> None:
    folder = folder_of(trained, "ddpm")
    (checkpoint,) = (folder / "checkpoints").iterdir()
    checkpoint.rename(folder.parent.parent / "elsewhere.pt")
    checkpoint.symlink_to(folder.parent.parent / "elsewhere.pt")
    with pytest.raises(UsageError, match="is a link"):
        load(folder)


def test_a_pruned_trial_is_read_by_its_folder_and_left_out_of_its_sweep(trained: Sweep) -> None:
    folder = folder_of(trained, "ddpm", 2)
    rows = read_trial(folder)
    assert rows is not None
    write_rows(folder, [replace(row, pruned_at=4, sample_count=8) for row in rows])
    opened = load(folder)
    assert opened.about()["pruned"] is True
    assert opened.sample_count == 8
    found, left_out = find_models(str(trained.folder), "ddpm", trained.folder, CPU, Permissions())
    assert [each.name for each in found] == [trial_of(trained, "ddpm", s).id for s in (0, 1)]
    assert left_out == {"pruned": 1}
    everything, left_out = find_models(
        str(trained.folder), None, trained.folder, CPU, Permissions()
    )
    assert (len(everything), left_out) == (5, {"not finished": 6, "pruned": 1})


def test_images_of_a_strangers_plan_are_read_only_if_they_are_named(
    trained: Sweep, tmp_path: Path
) -> None:
    signature = trained.folder / "signature.json"
    signature.unlink()
    private = tmp_path / "private"
    private.mkdir()
    theirs = replace(trained, data_dir=private)
    with pytest.raises(UsageError, match=r"--data-dir .*private"):
        open_trial(theirs, trial_of(trained, "kuramoto"), CPU, Permissions())
    # A process that measures no images is sampled without any; what needs them is refused.
    opened = open_trial(theirs, trial_of(trained, "ddpm"), CPU, Permissions())
    assert len(opened.sample(4)) == 4
    with pytest.raises(UsageError, match=r"--data-dir .*private"):
        opened.sample(4, prior="forward")


def test_a_plug_in_of_a_plan_is_imported_only_if_it_is_named(
    trained: Sweep, announce: Announce, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BLUR.format(before="import os; os.environ['BLUR_WAS_IMPORTED'] = 'yes'")
    announce("bench-blur", {PROCESSES: {"blur": "bench_blur:Blur"}}, {"bench_blur.py": source})
    monkeypatch.delenv("BLUR_WAS_IMPORTED", raising=False)
    trial = trial_of(trained, "ddpm")
    theirs = replace(trial, process="blur", parameters={})
    trained.trial_folder(trial).rename(trained.trial_folder(theirs))
    with pytest.raises(UsageError, match="add --plugin bench-blur"):
        open_trial(trained, theirs, CPU, Permissions())
    assert "BLUR_WAS_IMPORTED" not in os.environ
    opened = open_trial(trained, theirs, CPU, Permissions(plugins=["bench-blur"]))
    assert type(opened.process).__name__ == "Blur"


def test_trials_are_found_from_anywhere(trained: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(trained, "ddpm")
    for here, named in (
        (folder, "."),
        (folder.parent, folder.name),
        (trained.folder, f"trials/{folder.name}/"),
    ):
        monkeypatch.chdir(here)
        found = planned_trial(Path(named))
        assert found is not None
        assert found[1].id == folder.name


def test_a_model_is_drawn_from_where_ray_cannot_be_imported(trained: Sweep) -> None:
    script = """
import sys
sys.modules["ray"] = None
import kod_bench
assert not {"torch", "numpy", "pydantic"} & sys.modules.keys()
assert "load" in dir(kod_bench)
model = kod_bench.load(sys.argv[1])
images = model.sample(4)
model.sample(2, seed=3)
print(tuple(images.shape), type(model) is kod_bench.Model)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder_of(trained, "kuramoto"))],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(4, 1, 16, 16) True\n"


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'loads'"):
        kod_bench.loads  # noqa: B018


def test_a_trial_on_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring_module, "make_extractor", lambda *_: Blocks())
    with serve_bucket() as url, bucket_in_environment(url):
        there = ObjectFolder(f"s3://{BUCKET}/results")
        train_all(plan(tmp_path, there), {"ddpm": (0,)})
        sweep = find_sweep(None, there)
        trial = trial_of(sweep, "ddpm")
        assert sweep.remote is not None
        opened = kod_bench.load(f"{sweep.remote}/trials/{trial.id}", device="cpu")
        drawing = opened.drawing(30)
        found = drawing.all()
        assert (drawing.kept, drawing.drawn) == (24, 6)
        assert torch.equal(opened.sample(30), found)
        with pytest.raises(ModelError, match="has not finished"):
            kod_bench.load(f"{sweep.remote}/trials/{trial_of(sweep, 'edm').id}")
