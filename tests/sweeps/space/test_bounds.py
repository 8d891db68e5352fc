"""Honest mistakes: a zero too many, a grid too many, numbers that no key can be."""

import time
from pathlib import Path
from typing import get_args

import pytest

from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.sweeps.space import Document, load_space, resolve_models
from kod_bench.sweeps.space.limits import Section
from kod_bench.sweeps.space.load import MAX_TRIALS, read_profiles
from kod_bench.sweeps.space.search_options import MedianOptions
from kod_bench.sweeps.space.variants import MAX_WHOLE, parameters_model

BASE = """
name: study
dataset: {name: textures, image_size: 8}
training: {iterations: 10}
models:
  kuramoto: {process: kuramoto, steps: 5}
  ddpm: {process: ddpm, steps: 5}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(BASE)
    return path


def refusal(space: Path, *changes: str) -> str:
    began = time.process_time()
    with pytest.raises(UsageError) as caught:
        load_space(space, "auto", changes=changes)
    assert time.process_time() - began < 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def grid(count: int, first: int = 1) -> str:
    return f"{{grid: [{', '.join(str(first + i) for i in range(count))}]}}"


TOO_LARGE = [
    ("models.ddpm.steps=1000000000", "models.ddpm.steps", MAX_WHOLE),
    ("models.kuramoto.pool_size=1e9", "models.kuramoto.pool_size", MAX_WHOLE),
    ("models.kuramoto.chain_steps=1e9", "models.kuramoto.chain_steps", MAX_WHOLE),
    ("training.iterations=1e9", "training.iterations", 100_000_000),
    ("training.batch_size=1e6", "training.batch_size", 65_536),
    ("training.warmup=1e9", "training.warmup", 100_000_000),
    ("evaluation.samples=1e12", "evaluation.samples", 1_000_000),
    ("evaluation.references=1e12", "evaluation.references", 1_000_000),
    ("network.width=1e5", "network.width", 4096),
    ("network.blocks=1000", "network.blocks", 64),
    ("network.multipliers=[1, 1000]", "network.multipliers.1", 64),
    ("resources.workers_per_trial=1e6", "resources.workers_per_trial", 10_000),
    ("resources.gpus_per_worker=1e6", "resources.gpus_per_worker", 10_000),
    ("resources.time_limit_minutes=1e300", "resources.time_limit_minutes", 5_270_400),
    ("search.seed=9223372036854775808", "search.seed", 2**63 - 1),
]


@pytest.mark.parametrize(("change", "key", "bound"), TOO_LARGE)
def test_numbers_have_stated_bounds(space: Path, change: str, key: str, bound: int) -> None:
    message = refusal(space, change)
    assert f"study.yaml: --set {key}: " in message
    assert message.endswith(f"is not allowed: Input should be less than or equal to {bound}")


@pytest.mark.parametrize("process", PROCESSES)
def test_every_whole_number_of_a_process_is_bounded(process: str) -> None:
    for name, field in parameters_model(process).model_fields.items():
        if int in (field.annotation, *get_args(field.annotation)):
            bounds = [getattr(each, "le", None) for each in field.metadata]
            assert MAX_WHOLE in bounds, name


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize(
    "key",
    ["training.weight_decay", "training.learning_rate", "training.gradient_clip",
     "training.ema_decay", "resources.time_limit_minutes", "resources.gpus_per_worker",
     "models.kuramoto.strength", "models.kuramoto.phase_margin", "dataset.scale",
     "training.iterations", "models.ddpm.steps"],
)  # fmt: skip
def test_no_number_may_be_infinite(space: Path, key: str, value: str) -> None:
    assert f"--set {key}: " in refusal(space, f"{key}={value}")


def test_sections_refuse_infinity_wherever_they_stand() -> None:
    assert Section.model_config["allow_inf_nan"] is False
    assert all(parameters_model(each).model_config["allow_inf_nan"] is False for each in PROCESSES)


def test_whole_numbers_may_be_written_with_an_exponent(space: Path) -> None:
    changes = ["training.iterations=1e3", "models.ddpm.steps={grid: [1e1, 1e2]}", "seeds=[1e1]"]
    found = load_space(space, "auto", changes=changes)
    assert found.options.training.iterations == 1000
    assert found.options.seeds == (10,)
    assert [v.steps for v in found.variants if v.model == "ddpm"] == [10, 100]
    assert "Input should be a valid integer" in refusal(space, "training.iterations=1000.0")


@pytest.mark.parametrize(
    ("sampler", "option"),
    [("tpe", "n_startup_trials: '10'"), ("tpe", "n_startup_trials: 1.0"), ("tpe", "group: 1"),
     ("tpe", "n_ei_candidates: 1e9"), ("cmaes", "sigma0: .inf"), ("cmaes", "popsize: true")],
)  # fmt: skip
def test_options_of_samplers_are_as_strict(space: Path, sampler: str, option: str) -> None:
    search = f"search={{strategy: optuna, trials: 2, sampler: {sampler}"
    drawn = "training.learning_rate={uniform: [1e-5, 1e-1]}"
    message = refusal(space, f"{search}, sampler_options: {{{option}}}}}", drawn)
    assert f"sampler_options.{option.partition(':')[0]}: Input should be " in message
    load_space(space, "auto", changes=[f"{search}}}", drawn])


def test_equal_numbers_are_one_value(space: Path) -> None:
    for values in ("[1, 1.0]", "[0, -0.0]", "[10, 1e1, 3]"):
        message = refusal(space, f"training.gradient_clip={{grid: {values}}}")
        assert message.endswith("gradient_clip.grid: a value is given twice")


def test_ten_million_points_are_refused_without_being_made(space: Path) -> None:
    message = refusal(
        space,
        f"training.iterations={grid(1000)}",
        f"training.batch_size={grid(1000)}",
        f"training.warmup={grid(10)}",
    )
    assert message.endswith(
        "models.kuramoto: 10,000,000 points of grids make at least 10,000,000 trials; at most "
        "100,000 are planned"
    )


def test_seeds_draws_and_models_count(space: Path) -> None:
    seeds = f"seeds=[{', '.join(map(str, range(40)))}]"
    steps = f"training.iterations={grid(1300)}"
    assert "1,300 points of grids x 40 seeds with the models before" in refusal(space, seeds, steps)
    drawn = "training.learning_rate={loguniform: [1e-5, 1e-1]}"
    search = "search={strategy: random, trials: 2000}"
    message = refusal(space, search, drawn, f"training.iterations={grid(60)}")
    assert "60 points of grids x 2,000 draws make at least 120,000 trials" in message


CONDITIONS = """
  kuramoto:
    process: kuramoto
    steps: {grid: [5, 6, 7]}
    coupling: {grid: [local, global, none]}
    neighbourhood: {grid: [box, gaussian], when: {coupling: local}}
    neighbourhood_radius: {grid: [1, 2, 3], when: {coupling: local, neighbourhood: gaussian}}
    memory: {grid: [1, 2], when: {coupling: [local, global]}}
    strength: {grid: [0.5, 1.0, 1.5, 2.0]}
"""


def test_grids_with_conditions_are_counted_as_they_are_made(space: Path) -> None:
    space.write_text(BASE.partition("  kuramoto")[0] + CONDITIONS.strip("\n") + "\n")
    base, profiles = read_profiles(space)
    document = Document.of("study.yaml", base, "default", profiles["default"], {})
    (model,) = resolve_models(document)[1]
    # local: box 1, gaussian 3, both with 2 memories; global: 2 memories; none: 1.
    count = 3 * 4 * ((1 + 3) * 2 + 2 + 1)
    assert model.grid_size(MAX_TRIALS) == len(list(model.grid())) == count
    assert model.grid_size(10) > 10
    assert len(load_space(space, "auto").variants) == count


def test_a_trial_is_not_judged_a_hundred_million_times(space: Path) -> None:
    message = refusal(
        space,
        "search={strategy: random, trials: 2, early_stopping: median}",
        "search.median={min_iterations: 1, interval: 1}",
        "training={iterations: 1e8, learning_rate: {uniform: [1e-5, 1e-1]}}",
    )
    assert "median judges a trial of 100000000 iterations 99,999,999 times; at most" in message
    assert len(MedianOptions(interval=1, min_iterations=1).rungs(1001)) == 1000
