"""A results folder from a stranger runs no code, whatever is in it."""

import ast
import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import kod_bench as package
from kod_bench.errors import UsageError
from kod_bench.evaluation.reference import _read as read_reference
from kod_bench.results import provenance, read_trial, write_rows
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.store.plugged import check_trusted
from kod_bench.sweeps.trial.run import run_trial
from kod_bench.training import CheckpointStore
from kod_bench.training.history import read_history
from tests.conftest import Command
from tests.rows import make_row


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "this-code-was-run"


@pytest.fixture
def sweep(tiny_space: Path, tmp_path: Path) -> Sweep:
    space = load_space(tiny_space, "laptop")
    return create_sweep(
        space,
        make_trials(space, "hash"),
        results_dir=tmp_path / "results",
        data_dir=None,
        provenance=provenance.collect(),
    )


def test_pickles_in_every_file_are_data_at_most(
    kod_bench: Command, sweep: Sweep, mark: Path
) -> None:
    content = pickle.dumps(Payload(mark))
    pickle.loads(content)
    assert mark.exists()  # the payload works
    mark.unlink()
    torch_file = io.BytesIO()
    torch.save({"iteration": 3, "network": Payload(mark)}, torch_file)
    array = io.BytesIO()
    np.savez(array, features=np.array([Payload(mark)], dtype=object), allow_pickle=True)

    done, *others = sweep.trials
    write_rows_of(sweep, done.id)
    for trial in others:
        folder = sweep.trial_folder(trial)
        (folder / "checkpoints").mkdir(parents=True)
        for name in ("row.parquet", "error.json", "history.jsonl", "log.txt"):
            (folder / name).write_bytes(content)
        (folder / "checkpoints" / "iteration-00000003.pt").write_bytes(torch_file.getvalue())
        (folder / "checkpoints" / "iteration-00000002.pt").write_bytes(content)
        assert CheckpointStore(folder / "checkpoints").load_latest() is None
        assert read_trial(folder) is None
        assert read_history(folder / "history.jsonl") == []
    (sweep.folder / "cache").mkdir()
    reference = sweep.folder / "cache" / "reference-0.npz"
    reference.write_bytes(array.getvalue())
    assert read_reference(reference) is None

    status = kod_bench("status", sweep.folder)
    assert status.returncode == 0, status.stderr
    report = kod_bench("report", sweep.folder)
    assert report.returncode == 0, report.stderr
    assert "cannot be read; resume computes it again" in report.stderr
    assert not mark.exists()


def write_rows_of(sweep: Sweep, trial: str) -> None:
    (sweep.trials_folder / trial).mkdir(parents=True)
    write_rows(sweep.trials_folder / trial, [make_row(trial=trial)])


@pytest.mark.parametrize("verb", ["status", "report", "resume"])
@pytest.mark.parametrize("file", ["sweep.yaml", "trials.jsonl"])
def test_a_plan_that_is_code_is_refused(
    kod_bench: Command, sweep: Sweep, mark: Path, verb: str, file: str
) -> None:
    tag = f'!!python/object/apply:os.system ["touch {mark}"]\n'
    (sweep.folder / file).write_text(tag if file == "sweep.yaml" else json.dumps(tag))
    refused = kod_bench(verb, sweep.folder)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert not mark.exists()


def edit_trials(sweep: Sweep, **changes: Any) -> None:
    """As a stranger would: with the hash to match."""
    import hashlib

    from kod_bench.sweeps.plan.trials_file import encode_trials

    trials = [(trial.id, {**trial.values, **changes}) for trial in sweep.trials]
    encoded = encode_trials(trials)
    (sweep.folder / "trials.jsonl").write_bytes(encoded)
    document = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())
    document["trials"]["sha256"] = hashlib.sha256(encoded).hexdigest()
    (sweep.folder / "sweep.yaml").write_text(yaml.safe_dump(document))


def test_resume_imports_no_extractor_that_its_user_did_not_name(
    kod_bench: Command, sweep: Sweep, mark: Path
) -> None:
    evaluation = {**sweep.trials[0].evaluation, "features": "stranger:Extractor"}
    edit_trials(sweep, evaluation=evaluation)
    (sweep.folder / "stranger.py").write_text(f"open({str(mark)!r}, 'w')\nclass Extractor: ...\n")
    refused = kod_bench("resume", sweep.folder)
    assert refused.returncode == 2
    assert "--extractor stranger:Extractor" in refused.stderr
    assert not mark.exists()
    check_trusted(open_sweep(sweep.folder), "stranger:Extractor")


@pytest.mark.parametrize("changes", [{"steps": "/../../outside"}, {"seed": "../x"}, {"model": 3}])
def test_a_plan_cannot_name_folders_outside(sweep: Sweep, changes: dict[str, Any]) -> None:
    edit_trials(sweep, **changes)
    with pytest.raises(UsageError, match="is damaged"):
        open_sweep(sweep.folder)


def test_a_log_is_not_written_to_where_a_link_leads(sweep: Sweep, tmp_path: Path) -> None:
    startup = tmp_path / "bashrc"
    startup.write_text("")
    folder = sweep.trial_folder(sweep.trials[0])
    folder.mkdir()
    (folder / "log.txt").symlink_to(startup)
    with pytest.raises(OSError, match=r"log\.txt"):
        run_trial(sweep, sweep.trials[0], lambda _: None, lambda *_: [])
    assert startup.read_text() == ""


def test_nothing_in_the_package_unpickles_or_asks_a_shell() -> None:
    root = Path(package.__file__).parent
    # Speaks pickles with processes that it starts itself; no file is involved.
    allowed = {Path("data/workers.py")}
    for path in root.rglob("*.py"):
        source = path.read_text()
        if path.relative_to(root) not in allowed:
            assert not re.search(r"^\s*(import|from) (pickle|cloudpickle|dill)\b", source, re.M), (
                path
            )
        for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
            if name == "torch.load":
                assert keywords.get("weights_only") == "True", path
            if name == "np.load":
                assert keywords.get("allow_pickle") == "False", path
            if name.startswith("yaml."):  # events alone, of which values are made here
                assert name in ("yaml.parse", "yaml.dump"), path
            assert name not in ("eval", "exec", "os.system", "os.popen"), path
            assert keywords.get("shell", "False") == "False", path
