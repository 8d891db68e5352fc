"""What varies in a search space: axes, conditions, draws, layers."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kod_bench.errors import UsageError
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.space import ModelVariant, SearchSpace, load_space

BASE = """
name: study
dataset: {name: fingerprints, image_size: 16}
training: {iterations: 10}
parameters: {steps: 5}
models:
  kuramoto: {process: kuramoto}
  ddpm: {process: ddpm}
search: {strategy: random, trials: 40}
"""


def load(tmp_path: Path, *changes: str, text: str = BASE, profile: str = "auto") -> SearchSpace:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_space(path, profile, changes=changes)


def of_model(space: SearchSpace, name: str) -> list[ModelVariant]:
    return [variant for variant in space.variants if variant.model == name]


def drawn(space: SearchSpace, path: str, model: str = "kuramoto") -> list[Any]:
    return [v.point[path] for v in of_model(space, model) if path in v.point]


@pytest.mark.parametrize(
    ("axis", "low", "high"),
    [("{uniform: [0.2, 0.4]}", 0.2, 0.4), ("{loguniform: [1e-3, 0.5]}", 1e-3, 0.5)],
)
def test_ranges_are_drawn_from_evenly_and_readably(
    tmp_path: Path, axis: str, low: float, high: float
) -> None:
    space = load(tmp_path, f"models.kuramoto.strength={axis}", "search.trials=400")
    values = drawn(space, "strength")
    assert len(set(values)) == 400
    assert all(low <= value <= high for value in values)
    assert all(len(str(value)) <= 9 for value in values)
    middle = (low * high) ** 0.5 if "log" in axis else (low + high) / 2
    assert 150 < sum(value < middle for value in values) < 250
    assert [v.parameters["strength"] for v in of_model(space, "kuramoto")] == values


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("{int: [1, 4]}", {1, 2, 3, 4}),
        ("{int: [8, 20], step: 4}", {8, 12, 16, 20}),
        ("{int: [1, 3], log: true}", {1, 2, 3}),
        ("{int: [8, 24], step: 8, log: true}", {8, 16, 24}),
        ("{choice: [2, 7]}", {2, 7}),
    ],
)
def test_every_whole_number_and_choice_is_drawn_once(
    tmp_path: Path, axis: str, expected: set[int]
) -> None:
    """There are fewer values than trials: each configuration is taken once."""
    space = load(tmp_path, f"models.kuramoto.neighbourhood_radius={axis}")
    values = drawn(space, "neighbourhood_radius")
    assert set(values) == expected
    assert len(values) == len(expected)


def test_logarithmic_whole_numbers_favour_small_ones(tmp_path: Path) -> None:
    changes = ["models.kuramoto.pool_size={int: [1, 1000], log: true}", "search.trials=100"]
    values = drawn(load(tmp_path, *changes), "pool_size")
    assert 1 <= min(values) <= max(values) <= 1000
    assert sum(value <= 30 for value in values) > 15  # three, were they even


def test_every_grid_point_has_its_own_draws_which_seeds_share(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        "parameters.steps={grid: [5, 6]}",
        "models.kuramoto.strength={uniform: [0, 1]}",
        "search.trials=3",
        "seeds=[0, 1]",
    )
    by_steps = {
        t: [v.point["strength"] for v in of_model(space, "kuramoto") if v.steps == t]
        for t in (5, 6)
    }
    assert [len(values) for values in by_steps.values()] == [3, 3]
    assert not set(by_steps[5]) & set(by_steps[6])
    assert len(of_model(space, "ddpm")) == 2  # it draws nothing
    trials = make_trials(space, "hash")
    assert len(trials) == len({trial.id for trial in trials}) == (6 + 2) * 2
    for seed in (0, 1):
        own = [t for t in trials if t.seed == seed and t.process == "kuramoto"]
        assert [t.parameters["strength"] for t in own] == by_steps[5] + by_steps[6]


AXES = [
    "models.kuramoto.strength={uniform: [0, 1]}",
    "training.learning_rate={loguniform: [1e-4, 1e-2]}",
    "models.kuramoto.coupling={grid: [local, global]}",
    "models.kuramoto.network.variant={choice: [periodic, raw-angle]}",
]


def points(space: SearchSpace) -> list[dict[str, Any]]:
    return [variant.point for variant in space.variants]


def test_draws_depend_on_nothing_but_what_they_are_of(tmp_path: Path) -> None:
    space = load(tmp_path, *AXES)
    assert points(load(tmp_path, *AXES)) == points(space)
    assert points(load(tmp_path, *AXES, "search.seed=1")) != points(space)
    # The order of keys.
    shuffled = random.Random(0).sample(AXES, len(AXES))
    model = of_model(load(tmp_path, *shuffled), "kuramoto")
    key = lambda point: sorted(map(str, point.items()))  # noqa: E731
    assert sorted(map(key, points(space))) == sorted(map(key, points(load(tmp_path, *shuffled))))
    assert len(model) == 80
    # More trials, a further model, a further axis.
    more = load(tmp_path, *AXES, "search.trials=41", "models.other={process: ddpm}")
    assert drawn(more, "strength")[:40] == drawn(space, "strength")[:40]
    further = load(tmp_path, *AXES, "models.kuramoto.phase_margin={uniform: [0.1, 1]}")
    assert drawn(further, "strength") == drawn(space, "strength")


def test_axes_reach_every_section_of_a_trial(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        "dataset.image_size={grid: [16, 32]}",
        "dataset.synthetic.fingers={choice: [4]}",
        "models.ddpm.training={batch_size: {grid: [8, 16]}, ema_decay: 0.5}",
        "models.ddpm.network.width={int: [16, 32], step: 16}",
        "search.trials=9",
    )
    ddpm = of_model(space, "ddpm")
    assert {v.dataset.image_size for v in ddpm} == {16, 32}
    assert {v.training.batch_size for v in ddpm} == {8, 16}
    assert {v.network.width for v in ddpm} == {16, 32}
    assert {(v.training.ema_decay, v.training.iterations) for v in ddpm} == {(0.5, 10)}
    assert {v.dataset.synthetic.fingers for v in space.variants} == {4}
    labels = [variant.label for variant in space.variants]
    assert len(set(labels)) == len(labels)
    assert ddpm[0].label.startswith(
        "ddpm dataset.image_size=16 dataset.synthetic.fingers=4 network"
    )
    hashes = {v.dataset: f"hash of {v.dataset.image_size}" for v in space.variants}
    for trial in make_trials(space, hashes):
        assert trial.data_hash == f"hash of {trial.dataset['image_size']}"
        assert trial.dataset_options.synthetic.fingers == 4


def test_a_key_exists_only_under_its_conditions(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        "models.kuramoto.coupling={choice: [local, global, none]}",
        "models.kuramoto.neighbourhood_radius={int: [7, 9], when: {coupling: local}}",
        "models.kuramoto.neighbourhood="
        "{choice: [gaussian, box], when: {neighbourhood_radius: [7, 8]}}",
        "models.kuramoto.phase_margin={value: 0.5, when: {coupling: [global, none]}}",
        "training.learning_rate={value: 0.125, when: {process: ddpm}}",
    )
    kuramoto = of_model(space, "kuramoto")
    assert len(kuramoto) == 2 + 2 * 2 + 1  # global, none; radius 7 or 8 in two ways; 9
    for variant in kuramoto:
        p, point = variant.parameters, variant.point
        local = p["coupling"] == "local"
        assert ("neighbourhood_radius" in point) == local
        assert p["neighbourhood_radius"] in ((7, 8, 9) if local else (5,))
        assert ("neighbourhood" in point) == (p["neighbourhood_radius"] in (7, 8))
        assert p["phase_margin"] == (0.9 if local else 0.5)
        assert "phase_margin" not in variant.label
    rates = {v.model: v.training.learning_rate for v in space.variants}
    assert rates == {"kuramoto": 2e-4, "ddpm": 0.125}


def test_grids_have_conditions_too(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        "search={strategy: grid, trials: null}",
        "models.kuramoto.neighbourhood_radius={grid: [1, 2], when: {coupling: local}}",
        "models.kuramoto.coupling={grid: [local, global]}",
        "models.kuramoto.strength={grid: [1, 2], when: {network.variant: raw-angle}}",
    )
    assert [v.label for v in of_model(space, "kuramoto")] == [
        "kuramoto neighbourhood_radius=1 coupling=local",
        "kuramoto neighbourhood_radius=2 coupling=local",
        "kuramoto coupling=global",
    ]


def test_a_models_own_key_prevails_over_the_common_one(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        "parameters={steps: {grid: [5, 6]}, coupling: none}",
        "models.ddpm.steps=7",
        "training.learning_rate={choice: [0.1, 0.2]}",
        "models.kuramoto.training.learning_rate=0.3",
    )
    assert [v.steps for v in of_model(space, "kuramoto")] == [5, 6]
    assert {v.parameters["coupling"] for v in of_model(space, "kuramoto")} == {"none"}
    assert {v.training.learning_rate for v in of_model(space, "kuramoto")} == {0.3}
    assert {v.steps for v in of_model(space, "ddpm")} == {7}
    assert {v.training.learning_rate for v in of_model(space, "ddpm")} == {0.1, 0.2}


PROFILES = """
profiles:
  laptop:
    training: {learning_rate: {choice: [0.1, 0.2]}}
    models: {ddpm: null, kuramoto: {strength: 2.0}, new: {process: ddpm, steps: 3}}
  cluster: {training: {learning_rate: 0.5}}
"""


def test_profiles_lie_over_models_and_replace_axes(tmp_path: Path) -> None:
    text = BASE.replace(
        "{iterations: 10}", "{iterations: 10, learning_rate: {uniform: [0.3, 0.4]}}"
    )
    laptop, cluster = (
        load(tmp_path, text=text + PROFILES, profile=p) for p in ("laptop", "cluster")
    )
    assert list(dict.fromkeys(v.model for v in laptop.variants)) == ["kuramoto", "new"]
    assert {v.training.learning_rate for v in laptop.variants} == {0.1, 0.2}
    assert {v.parameters["strength"] for v in of_model(laptop, "kuramoto")} == {2.0}
    assert [(v.model, v.training.learning_rate) for v in cluster.variants] == [
        ("kuramoto", 0.5),
        ("ddpm", 0.5),
    ]


def test_set_lies_over_the_profile_and_is_recorded(tmp_path: Path) -> None:
    changes = ["training={learning_rate: 0.25}", "models.ddpm=null", "seeds=[3]"]
    space = load(tmp_path, *changes, text=BASE + PROFILES, profile="cluster")
    assert [(v.model, v.training.learning_rate) for v in space.variants] == [("kuramoto", 0.25)]
    assert space.options.seeds == (3,)
    expected = {"training": {"learning_rate": 0.25}, "models": {"ddpm": None}, "seeds": [3]}
    assert space.changes == expected
    # What was resolved is a space that says the same.
    again = load(tmp_path, text=yaml.safe_dump(space.document))
    assert again.variants == space.variants


def test_only_models_that_are_there_can_be_dropped(tmp_path: Path) -> None:
    text = BASE + PROFILES
    space = load(tmp_path, "models.new=null", text=text, profile="laptop")
    assert {v.model for v in space.variants} == {"kuramoto"}
    with pytest.raises(UsageError, match=r"--set models\.nwe: must be a mapping with the key"):
        load(tmp_path, "models.nwe=null", text=text, profile="laptop")


def test_set_finds_keys_with_dots(tmp_path: Path) -> None:
    text = BASE.replace("ddpm: {", "ddpm.v1: {")
    space = load(tmp_path, "models.ddpm.v1.steps=9", text=text)
    assert of_model(space, "ddpm.v1")[0].steps == 9


K = "models.kuramoto."
MISTAKES: list[tuple[Sequence[str], str]] = [
    ([K + "strength={uniform: [1, 1]}"], r"strength.uniform: must begin below its end, got \[1, 1"),
    ([K + "strength={uniform: [2, 1]}"], r"strength.uniform: must begin below its end"),
    ([K + "strength={uniform: [1]}"], r"strength.uniform: must be \[low, high\], got \[1\]"),
    ([K + "strength={uniform: [0, .inf]}"], r"strength.uniform: must be two finite numbers"),
    ([K + "strength={uniform: [0, a]}"], r"strength.uniform: must be two finite numbers, got 'a'"),
    ([K + "strength={loguniform: [0, 1]}"], r"strength.loguniform: must begin above 0 .*got 0"),
    ([K + "strength={loguniform: [-1, 1]}"], r"strength.loguniform: must begin above 0"),
    ([K + "memory={int: [1, 2.5]}"], r"memory.int: must be two whole numbers, got 2.5"),
    ([K + "memory={int: [true, 2]}"], r"memory.int: must be two whole numbers, got True"),
    ([K + "memory={int: [1, 9], step: 0}"], r"memory.step: must be a whole number of at least 1"),
    ([K + "memory={int: [0, 9], log: true}"], r"memory.int: must begin at 1 or above .*log: true"),
    ([K + "memory={int: [1, 9], log: 1}"], r"memory.log: must be true or false, got 1"),
    ([K + "strength={uniform: [0, 1], step: 1}"], r"strength.step: unknown key; beside uniform"),
    ([K + "strength={choice: []}"], r"strength: must be a value or .*a choice has at least one"),
    ([K + "strength={choice: [1, 1]}"], r"strength.choice: a value is given twice"),
    ([K + "strength={choice: [1], grid: [2]}"], r"strength: grid and choice exclude each other"),
    ([K + "strength={chioce: [1]}"], r"strength: must be a value or \{grid: \[value"),
    # Values that are not allowed, whether or not they are drawn.
    ([K + "phase_margin={uniform: [0.5, 1.5]}", "search.trials=1"], r"phase_margin must lie .*1.5"),
    ([K + "phase_margin={choice: [0.5, 1.5]}", "search.trials=1"], r"phase_margin must lie .*1.5"),
    (["training.learning_rate={uniform: [-1, 1]}"], r"set training.learning_rate: -1 is not all"),
    (["training.batch_size={grid: [8, 0]}"], r"--set training.batch_size: 0 is not allowed"),
    (
        ["training.batch_size={choice: [8, 9]}", "resources.workers_per_trial=2"],
        r"training.batch_size 9 cannot be shared",
    ),
    ([K + "training={batch_size: {int: [0, 9]}}"], r"kuramoto.training.batch_size: 0 is not"),
    ([K + "network={width: {choice: [16, 7]}}"], r"kuramoto.network.width: 7 is not allowed"),
    # Conditions.
    ([K + "memory={int: [1, 9], when: local}"], r"memory.when: must map keys to the values"),
    ([K + "memory={value: 2, when: {couplin: local}}"], r"memory.when.couplin: unk.*'coupling'"),
    ([K + "memory={value: 2, when: {coupling: lcal}}"], r"when.coupling: 'lcal' is not allowed: "),
    ([K + "memory={value: 2, when: {process: soup}}"], r"when.process: 'soup' is not a process"),
    ([K + "memory={value: 2, when: {coupling: []}}"], r"when.coupling: must be a value, or a list"),
    (
        [K + "coupling={choice: [local]}", K + "memory={value: 2, when: {coupling: none}}"],
        r"memory.when.coupling: 'none' is none of the values that the axis has",
    ),
    (
        [K + "strength={uniform: [0, 1]}", K + "memory={value: 2, when: {strength: 1}}"],
        r"memory.when.strength: a condition cannot be on uniform",
    ),
    (
        [K + "coupling={choice: [local]}", K + "memory={grid: [2], when: {coupling: local}}"],
        r"memory: a grid cannot depend on coupling, which is drawn",
    ),
    (
        [K + "memory={value: 1, when: {chain_steps: 1}}",
         K + "chain_steps={value: 1, when: {memory: 1}}"],
        r"when: conditions go round in a circle",
    ),
    # Where axes cannot be, and what they need.
    (["evaluation.samples={grid: [2, 3]}"], r"--set evaluation.samples: cannot vary; only dataset"),
    (["seeds={grid: [2, 3]}"], r"--set seeds: cannot vary"),
    ([K + "learning_rate=1"], r"kuramoto.learning_rate: unknown.*mean 'training.learning_rate'"),
    (["parameters.step=5"], r"--set parameters.step: unknown key; did you mean 'steps'"),
    (["parameters=5"], r"--set parameters: 5 is not allowed"),
    ([K + "strength={choice: [1]}", "search={strategy: grid, trials: null}"],
     r"strength: choice is drawn, which search.strategy grid does not do"),
    (["search={trials: null}"], r"--set search: strategy random needs trials"),
    (["search.strategy=grid"], r"--set search: trials is for strategies random and"),
    (["search.strategy=optun"], r"--set search.strategy: 'optun' is not allowed: .*'grid', "),
    (["search.trials=0"], r"--set search.trials: 0 is not allowed"),
    # --set itself.
    (["iterations"], r"^--set 'iterations': must be path=value, such as"),
    (["training..iterations=1"], r"^--set 'training..iterations=1': must be path=value"),
    (["training.iterations=[1"], r"^--set training.iterations:\d+:\d+: is not valid YAML"),
    (["training.iterations=ten"], r"--set training.iterations: 'ten' is not allowed"),
    (["training.iteratons=1"], r"--set training.iteratons: unknown key; did you mean 'iteration"),
    (["seeds=[1]", "seeds=[2]"], r"^--set seeds: is set twice"),
    (["training=1"], r"--set training: 1 is not allowed"),
    (["profiles.default.seeds=[1]"], r"^--set profiles.default.seeds: changes the profile taken"),
    (["models=null"], r"--set models: must name at least one model"),
    (["models.grid={process: ddpm}"], r"--set models.grid: a model's name must be text, and none"),
    (["models={1: {process: ddpm}}"], r"models.1: a model's name must be text"),
    (["models.new={process: {grid: [ddpm]}}"], r"--set models.new.process: .* is not a process"),
    (["models.new={process: soup}"], r"--set models.new.process: 'soup' is not a process; known"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes_are_one_line_with_their_path(
    tmp_path: Path, changes: Sequence[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, *changes)
    assert "\n" not in str(caught.value)


def test_labels_tell_models_apart(tmp_path: Path) -> None:
    text = BASE.replace("  ddpm:", '  "kuramoto strength=1": {process: ddpm}\n  ddpm:')
    with pytest.raises(UsageError, match="another model is also called 'kuramoto strength=1'"):
        load(tmp_path, "models.kuramoto.strength={grid: [1, 2]}", text=text)


def test_a_large_space_is_expanded_whole(tmp_path: Path) -> None:
    changes = [*AXES, "search.trials=1000", "seeds=[0, 1, 2]"]
    space = load(tmp_path, *changes)
    trials = make_trials(space, "hash")
    assert len(trials) == len({trial.id for trial in trials}) == 3 * (2 * 1000 + 1000)
