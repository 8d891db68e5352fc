"""An exported model: the same bits, no pickle, a card that says what it is; wrong ones refused."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

import kod_bench
from kod_bench.errors import UsageError
from kod_bench.models import ModelError, Permissions
from kod_bench.models import model as model_module
from kod_bench.models.export import check_folder, export_trial
from kod_bench.results import read_trial, write_rows
from kod_bench.sweeps.plan.sweep import Sweep
from tests.plugins import BLUR, PROCESSES, Announce
from tests.trained import Blocks, folder_of, trial_of

CPU = torch.device("cpu")


def export(
    sweep: Sweep,
    model: str,
    folder: Path,
    seed: int = 0,
    *,
    plugins: tuple[str, ...] = (),
    licence: str | None = None,
) -> Path:
    permissions = Permissions(plugins)
    trial = trial_of(sweep, model, seed)
    export_trial(sweep, trial, folder, device=CPU, permissions=permissions, licence=licence)
    return folder


@pytest.mark.parametrize("model", ["kuramoto", "ddpm", "edm", "heat"])
def test_an_exported_model_draws_the_same_bits_without_a_pickle_or_an_image(
    trained: Sweep, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = kod_bench.load(folder_of(trained, model), device="cpu")
    expected = original.sample(20), original.sample(6, seed=3)
    folder = export(trained, model, tmp_path / "exported")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("neither a pickle nor the data set may be opened")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("kod_bench.models.exported.load_dataset", refuse)
    monkeypatch.setattr("kod_bench.sweeps.trial.subject.load_dataset", refuse)
    again = kod_bench.load(folder, device="cpu")
    assert torch.equal(again.sample(20), expected[0])
    assert torch.equal(again.sample(6, seed=3), expected[1])
    assert again.weights == original.weights
    assert again.about() == original.about()
    for path in folder.iterdir():
        assert path.suffix in (".json", ".md", ".png", ".safetensors")
    with Image.open(folder / "samples.png") as grid:
        assert min(grid.size) >= 512


def test_an_exported_model_is_scored_like_its_trial(
    trained: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "make_extractor", lambda *_: Blocks())
    folder = export(trained, "ddpm", tmp_path / "exported")
    rows = read_trial(folder_of(trained, "ddpm"))
    assert rows is not None
    assert kod_bench.load(folder, device="cpu").score()["kid"] == rows[0].kid


def test_the_card_says_what_the_model_is(trained: Sweep, tmp_path: Path) -> None:
    text = (export(trained, "ddpm", tmp_path / "a", licence="cc-by-4.0") / "README.md").read_text()
    assert text.startswith("---\nlicense: cc-by-4.0\n")
    assert "4 iterations of batches of 8, seed 0" in text
    assert "20 samples against 16 held-out images, features `blocks`" in text
    assert re.search(r"\| KID .*\[.*\], 3 seeds \|", text)
    assert "kod_bench.load(" in text
    assert "SOCOFing" in text  # whose data
    alone = (export(trained, "heat", tmp_path / "b") / "README.md").read_text()
    assert alone.startswith("---\nlicense: unknown\n")
    assert "not said by who exported them" in alone
    assert "1 seed, no interval" in alone
    assert "`blurred` are 32 training images, blurred as at t = T" in alone


def test_a_card_has_the_numbers_that_its_data_are_judged_by(trained: Sweep, tmp_path: Path) -> None:
    folder = folder_of(trained, "ddpm")
    rows = read_trial(folder)
    assert rows is not None
    assert "| KID " in (export(trained, "ddpm", tmp_path / "a") / "README.md").read_text()
    of_angles = {"correlation_distance": 0.0125, "correlation_distance_real": 0.001}
    write_rows(folder, [replace(row, **of_angles) for row in rows])
    text = (export(trained, "ddpm", tmp_path / "b") / "README.md").read_text()
    assert re.search(r"\| Correlation +\| +0\.0125 \| +0\.0125, 1 seed, .* \| +0\.001 \|", text)
    assert "| KID " not in text
    assert "| FID " not in text


def test_a_pruned_model_says_so(trained: Sweep, tmp_path: Path) -> None:
    folder = folder_of(trained, "ddpm")
    rows = read_trial(folder)
    assert rows is not None
    said = "pruned at iteration 4 of 40"
    write_rows(folder, [replace(row, pruned_at=4, marks=said) for row in rows])
    exported = export(trained, "ddpm", tmp_path / "a")
    assert said in (exported / "README.md").read_text()
    assert kod_bench.load(exported, device="cpu").pruned


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"shape": [1, 16]}, "config.json: is damaged"),
        ({"ways": []}, "config.json: is damaged"),
        ({"batch_size": 0}, "config.json: is damaged"),
        ({"trial": {"model": "x"}}, "config.json: is damaged"),
        ({"trial": 3}, "config.json: is damaged"),
        ({"weights": "0"}, "is not the one that config.json was made for"),
    ],
)
def test_a_damaged_config_is_one_line(
    trained: Sweep, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    folder = export(trained, "kuramoto", tmp_path / "exported")
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match=said) as refused:
        kod_bench.load(folder, device="cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "process.safetensors"])
def test_damaged_tensors_are_one_line(trained: Sweep, tmp_path: Path, name: str) -> None:
    folder = export(trained, "kuramoto", tmp_path / "exported")
    path = folder / name
    whole = path.read_bytes()
    other = {key: value.flatten() for key, value in load(whole).items()} | {"x": torch.ones(1)}
    fewer = dict(list(load(whole).items())[1:])
    for content in (whole[: len(whole) // 2], b"", b"no tensors", save(other), save(fewer)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=name) as refused:
            kod_bench.load(folder, device="cpu")
        assert "\n" not in str(refused.value)
    path.unlink()
    with pytest.raises(UsageError):
        kod_bench.load(folder, device="cpu")
    path.symlink_to("/dev/zero")
    with pytest.raises((UsageError, OSError)):
        kod_bench.load(folder, device="cpu")


def test_a_plug_in_of_an_exported_model_is_imported_only_if_it_is_named(
    trained: Sweep, tmp_path: Path, announce: Announce, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BLUR.format(before="import os; os.environ['BLUR_WAS_IMPORTED'] = 'yes'")
    announce("bench-blur", {PROCESSES: {"blur": "bench_blur:Blur"}}, {"bench_blur.py": source})
    monkeypatch.delenv("BLUR_WAS_IMPORTED", raising=False)
    folder = export(trained, "ddpm", tmp_path / "exported")
    trial = json.loads((folder / "config.json").read_text())["trial"]
    edit_config(folder, trial=trial | {"process": "blur", "parameters": {}})
    with pytest.raises(UsageError, match="add --plugin bench-blur"):
        kod_bench.load(folder, device="cpu")
    assert not __import__("os").environ.get("BLUR_WAS_IMPORTED")
    assert len(kod_bench.load(folder, device="cpu", plugins=["bench-blur"]).sample(2)) == 2


def test_other_images_than_it_was_trained_on_are_refused(
    trained: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(trained, "ddpm", tmp_path / "exported")
    trial = json.loads((folder / "config.json").read_text())["trial"]
    edit_config(folder, trial=trial | {"data_hash": "0" * 32})
    opened = kod_bench.load(folder, device="cpu")
    with pytest.raises(ModelError, match="are not those that it was trained on"):
        opened.sample(2, prior="forward")


def test_only_an_earlier_model_is_replaced(trained: Sweep, tmp_path: Path) -> None:
    folder = export(trained, "kuramoto", tmp_path / "exported")
    with pytest.raises(UsageError, match=r"is not empty .* --overwrite"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)
    export(trained, "ddpm", folder)
    # Nothing of the other one stays.
    assert not (folder / "process.safetensors").exists()
    assert kod_bench.load(folder, device="cpu").trial.model == "ddpm"
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.tex, which is of no exported model"):
        check_folder(folder, overwrite=True)
    with pytest.raises(UsageError, match="is a file; name a folder"):
        check_folder(folder / "thesis.tex", overwrite=True)


def test_a_licence_is_an_identifier(trained: Sweep, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be an identifier"):
        export(trained, "ddpm", tmp_path / "a", licence="mit\nbase_model: other")
    assert not (tmp_path / "a").exists()
