"""The feature extractor of a sweep: named in its space, frozen in its plan."""

from pathlib import Path

import pytest

from kod_bench.errors import UsageError
from kod_bench.evaluation import extractors
from kod_bench.evaluation.features import ExtractorError
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.open import open_sweep


def with_features(space: Path, name: str) -> Path:
    text = space.read_text()
    assert "evaluation: {" in text
    space.write_text(text.replace("evaluation: {", f"evaluation: {{features: {name!r}, "))
    return space


@pytest.mark.parametrize(
    "name", ["auto", "inception", "efficientnet-lite0", "my_module:MyExtractor"]
)
def test_names_that_a_space_may_use(tiny_space: Path, name: str) -> None:
    options = load_space(with_features(tiny_space, name), "laptop").options
    assert options.evaluation.features == name


def test_an_unknown_extractor_is_refused_with_its_key(tiny_space: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_space(with_features(tiny_space, "incepton"), "laptop")
    message = str(raised.value)
    assert "evaluation.features: 'incepton' is not allowed: unknown feature extractor" in message
    assert "did you mean 'inception'" in message


@pytest.mark.parametrize("there", [True, False])
def test_the_plan_freezes_what_auto_takes(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    def weights() -> Path:
        if there:
            return tmp_path
        raise ExtractorError("the Inception weights are not there")

    monkeypatch.setattr(extractors, "find_weights", weights)
    said: list[str] = []
    sweep = prepare_sweep(
        str(with_features(tiny_space, "auto")),
        profile="laptop",
        data_dir=None,
        results_dir=tmp_path / "results",
        seeds=None,
        address=None,
        say=said.append,
    )
    taken = "inception" if there else "efficientnet-lite0"
    planned = open_sweep(sweep.folder)
    assert {trial.evaluation_options.features for trial in planned.trials} == {taken}
    assert [line for line in said if line.startswith(f"features: {taken}")]


def test_an_extractor_that_cannot_work_is_refused_before_the_data_are_read(
    tiny_space: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="No module named 'not_there'"):
        prepare_sweep(
            str(with_features(tiny_space, "not_there:Extractor")),
            profile="laptop",
            data_dir=tmp_path / "no data",
            results_dir=tmp_path / "results",
            seeds=None,
            address=None,
            say=lambda _: None,
        )
    assert not (tmp_path / "results").exists()
