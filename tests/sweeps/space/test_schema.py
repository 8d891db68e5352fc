"""The JSON Schema of search spaces allows what is valid, and marks what ``validate`` names."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from jsonschema.protocols import Validator

from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.sweeps.plan.catalogue import summarise
from kod_bench.sweeps.space import load_space, merge
from kod_bench.sweeps.space.load import read_profiles
from kod_bench.sweeps.space.schema import schema_text, search_space_schema
from kod_bench.sweeps.space.yaml_file import load_yaml, parse_yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "search_spaces"
SHIPPED = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("*.yml")])

BASE = """
name: study
dataset: {name: fingerprints, image_size: 16}
training: {iterations: 10}
parameters: {variance: posterior}
models:
  ddpm: {process: ddpm, steps: {grid: [5, 10]}}
  waves: {process: kuramoto, steps: 5, coupling: {choice: [local, global]}}
search: {strategy: random, trials: 3}
profiles:
  laptop: {seeds: [0, 1]}
  cluster: {training: {iterations: 1000}, models: {ddpm: {schedule: cosine}}}
"""


@pytest.fixture(scope="module")
def validator() -> Validator:
    schema = search_space_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def marked(validator: Validator, document: Any) -> set[str]:
    """The keys that are wrong by the schema, by dotted path."""
    return {".".join(map(str, path)) for e in validator.iter_errors(document) for path in places(e)}


def places(error: jsonschema.ValidationError) -> Iterator[tuple[str | int, ...]]:
    """The key that an error is about: one that is missing, or too many, is named by its mapping."""
    path = tuple(error.absolute_path)
    if error.validator == "required":
        names = [name for name in error.validator_value if name not in error.instance]
    elif error.validator == "additionalProperties":
        names = [name for name in error.instance if name not in error.schema.get("properties", {})]
    else:
        yield path
        return
    yield from ((*path, name) for name in names)


def named(path: Path) -> str:
    """The key that `spaces validate` names."""
    with pytest.raises(UsageError) as caught:
        load_space(path, next(iter(read_profiles(path)[1])))
    message = str(caught.value).removeprefix(f"{path}: ")
    return message.partition(": ")[0]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_are_valid_by_the_schema_and_say_where_it_is(
    path: Path, validator: Validator
) -> None:
    assert marked(validator, load_yaml(path)) == set()
    line = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", line)
    assert found, f"{path.name} does not begin with the line by which editors find the schema"
    assert (path.parent / found[1]).resolve() == FOLDER / "schema.json"


def test_the_shipped_schema_is_what_the_command_writes() -> None:
    text = (FOLDER / "schema.json").read_text()
    assert text == schema_text(), "kod-bench spaces schema --output search_spaces/schema.json"
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.slow
def test_the_schema_is_in_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("kod_bench/search_spaces/schema.json").decode() == schema_text()


def test_examples_of_the_reference_are_valid_by_the_schema(validator: Validator) -> None:
    text = (ROOT / "docs" / "search-spaces.md").read_text()
    whole, *parts = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for part in ["{}", *parts]:
        document = merge(parse_yaml(whole, "whole"), parse_yaml(part, "part"))
        assert marked(validator, document) == set(), part


#: (what is replaced, by what, the key that both name). Where the schema is more exact than the
#: command, which then names the section or the list, a fourth entry has the schema's.
WRONG: list[tuple[str, ...]] = [
    # Keys that are misspelt, missing, or in the wrong place.
    ("seeds: [0, 1]", "sedes: [0]", "profiles.laptop.sedes"),
    ("search:", "serach:", "serach"),
    ("training: {iterations: 10}", "training: {iteratons: 10}", "training.iteratons"),
    ("training: {iterations: 10}", "training: {batch_size: 8}", "training.iterations"),
    ("training: {iterations: 10}", "", "training"),
    (", image_size: 16}", "}", "dataset.image_size"),
    ("{name: fingerprints, image", "{image", "dataset.name"),
    ("name: study", "", "name"),
    ("image_size: 16}", "image_size: 16, synthetic: {finger: 3}}", "dataset.synthetic.finger"),
    ("{process: ddpm, steps: {grid: [5, 10]}}", "{process: ddpm}", "models.ddpm.steps"),
    ("{process: ddpm, ", "{process: ddpm, stepz: 3, ", "models.ddpm.stepz"),
    ("{process: ddpm, ", "{process: ddpm, coupling: local, ", "models.ddpm.coupling"),
    ("{process: ddpm, ", "{process: ddpm, network: {wdth: 8}, ", "models.ddpm.network.wdth"),
    ("{process: ddpm, steps", "{steps", "models.ddpm.process"),
    ("variance: posterior", "varaince: posterior", "parameters.varaince"),
    ("trials: 3", "trials: 3, asha: {rungs: 3}", "search.asha.rungs"),
    # Values of the wrong kind or out of range.
    ("iterations: 10}", "iterations: ten}", "training.iterations"),
    ("iterations: 10}", "iterations: true}", "training.iterations"),
    ("iterations: 10}", "iterations: 0}", "training.iterations"),
    ("iterations: 10}", "iterations: 1.5}", "training.iterations"),
    ("iterations: 10}", 'iterations: "10"}', "training.iterations"),
    ("iterations: 10}", "iterations: 10, ema_decay: 1}", "training.ema_decay"),
    ("iterations: 10}", "iterations: 10, fast: maybe}", "training.fast"),
    ("training: {iterations: 10}", "training: 10", "training"),
    ("training: {iterations: 1000}", "training: {iterations: -1}",
     "profiles.cluster.training.iterations"),
    ("name: study", "name: ../study", "name"),
    ("image_size: 16", "image_size: 4", "dataset.image_size"),
    ("image_size: 16", "image_size: 16, view: halves", "dataset.view"),
    ("image_size: 16", "image_size: 16, augment: [rotate, rotate]", "dataset.augment"),
    ("image_size: 16", "image_size: 16, augment: [mirror]", "dataset.augment.0"),
    ("image_size: 16", "image_size: 16, scale: 2", "dataset.scale"),
    ("image_size: 16", "image_size: 16, synthetic: {fingers: 1}", "dataset.synthetic.fingers"),
    ("seeds: [0, 1]", "seeds: [0, -1]", "profiles.laptop.seeds.1"),
    ("seeds: [0, 1]", "seeds: []", "profiles.laptop.seeds"),
    ("seeds: [0, 1]", "seeds: 3", "profiles.laptop.seeds"),
    ("seeds: [0, 1]", "resources: {gpus_per_worker: -1}",
     "profiles.laptop.resources.gpus_per_worker"),
    ("seeds: [0, 1]", "evaluation: {samples: 1}", "profiles.laptop.evaluation.samples"),
    ("steps: 5, ", "steps: 5, phase_margin: wide, ", "models.waves.phase_margin"),
    ("steps: 5, ", "steps: 5, noise_range: [1], ", "models.waves.noise_range.1",
     "models.waves.noise_range"),
    ("steps: 5, ", "steps: 5, ramp: steep, ", "models.waves.ramp"),
    ("steps: 5, ", "steps: 5, final_noise: 1, ", "models.waves.final_noise"),
    ("steps: 5, ", "steps: 5, network: {multipliers: [1, 0]}, ",
     "models.waves.network.multipliers.1"),
    ("steps: 5, ", "steps: 5, samplers: [], ", "models.waves.samplers"),
    ("steps: {grid: [5, 10]}", "steps: [5, 10]", "models.ddpm.steps"),
    ("{process: ddpm, ", "{process: ddpm, network: {variant: raw-angle}, ",
     "models.ddpm.network.variant"),
    ("trials: 3", "trials: 0", "search.trials"),
    ("strategy: random", "strategy: bayes", "search.strategy"),
    # Names of things there are.
    ("process: ddpm", "process: dppm", "models.ddpm.process"),
    ("process: ddpm", "process: DDPM", "models.ddpm.process"),
    ("process: kuramoto", "process: kuramot", "models.waves.process"),
    ("name: fingerprints", "name: fingerprint", "dataset.name"),
    ("name: fingerprints", "name: 'folder:'", "dataset.name"),
    ("seeds: [0, 1]", "evaluation: {features: inceptoin}", "profiles.laptop.evaluation.features"),
    ("strategy: random", "strategy: optuna, metric: kld", "search", "search.metric"),
    ("strategy: random", "strategy: optuna, sampler: gp, sampler_options: {popsize: 4}",
     "search", "search.sampler_options.popsize"),
    ("{process: ddpm, ", "{process: ddpm, samplers: [dim], ", "models.ddpm",
     "models.ddpm.samplers.0"),
    ("{process: ddpm, ", "{process: ddpm, priors: [matched], ", "models.ddpm",
     "models.ddpm.priors.0"),
    # Axes.
    ("{grid: [5, 10]}", "{gird: [5, 10]}", "models.ddpm.steps"),
    ("{grid: [5, 10]}", "{grid: []}", "models.ddpm.steps", "models.ddpm.steps.grid"),
    ("{grid: [5, 10]}", "{grid: [5, 5]}", "models.ddpm.steps.grid"),
    ("{grid: [5, 10]}", "{grid: [5, many]}", "models.ddpm.steps", "models.ddpm.steps.grid.1"),
    ("{grid: [5, 10]}", "{grid: [5], choice: [5]}", "models.ddpm.steps"),
    ("{grid: [5, 10]}", "{grid: [5], step: 2}", "models.ddpm.steps.step"),
    ("{grid: [5, 10]}", "{int: [5, 10], stepp: 2}", "models.ddpm.steps.stepp"),
    ("{grid: [5, 10]}", "{int: [5, 10], step: 0}", "models.ddpm.steps.step"),
    ("{grid: [5, 10]}", "{int: [5, 10], log: 3}", "models.ddpm.steps.log"),
    ("{grid: [5, 10]}", "{int: [5, 9.5]}", "models.ddpm.steps.int", "models.ddpm.steps.int.1"),
    ("{grid: [5, 10]}", "{int: [5]}", "models.ddpm.steps.int"),
    ("{grid: [5, 10]}", "{uniform: [5, 10]}", "models.ddpm.steps", "models.ddpm.steps.uniform"),
    ("iterations: 10}", "iterations: 10, learning_rate: {loguniform: [0, 1]}}",
     "training.learning_rate.loguniform", "training.learning_rate.loguniform.0"),
    ("iterations: 10}", "iterations: 10, learning_rate: {uniform: [low, 1]}}",
     "training.learning_rate.uniform", "training.learning_rate.uniform.0"),
    ("trials: 3", "trials: {grid: [3]}", "search.trials"),
    ("seeds: [0, 1]", "seeds: {grid: [0, 1]}", "profiles.laptop.seeds"),
    # Conditions.
    ("{choice: [local, global]}", "{choice: [local, global], when: ddpm}",
     "models.waves.coupling.when"),
    ("{choice: [local, global]}", "{choice: [local, global], when: {stepz: 5}}",
     "models.waves.coupling.when.stepz"),
    ("{choice: [local, global]}", "{choice: [local, global], when: {ramp: steep}}",
     "models.waves.coupling.when.ramp"),
    ("{choice: [local, global]}", "{choice: [local, global], when: {ramp: []}}",
     "models.waves.coupling.when.ramp"),
    ("iterations: 10}", "iterations: 10, warmup: {value: 5, when: {process: dpm}}}",
     "training.warmup.when.process"),
    ("steps: 5, ", "steps: 5, network: {width: {value: 8, when: {beta_range: 5}}}, ",
     "models.waves.network.width.when.beta_range"),
    # The whole.
    ("profiles:", "profiles: 3\nname_of_none:", "profiles"),
    ("laptop: {seeds: [0, 1]}", "laptop:", "profiles", "profiles.laptop"),
    ("  ddpm: {process: ddpm", "  grid: {process: ddpm", "models.grid"),
    ("  ddpm: {process: ddpm, steps: {grid: [5, 10]}}", "  ddpm: ddpm", "models.ddpm"),
]  # fmt: skip


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row[1][:60])
def test_what_is_wrong_is_marked_where_validate_names_it(
    row: tuple[str, ...], tmp_path: Path, validator: Validator
) -> None:
    old, new, key, *exact = row
    assert old in BASE
    path = tmp_path / "study.yaml"
    path.write_text(BASE.replace(old, new, 1))
    assert named(path) == key
    found = marked(validator, load_yaml(path))
    place = exact[0] if exact else key
    assert place in found
    # A slip may leave a key missing besides, or have two things wrong; nothing far from it is.
    parent = place.rpartition(".")[0]
    assert all(each.startswith(parent) for each in found), found


def test_the_wrong_spaces_are_many_and_the_base_is_right(
    tmp_path: Path, validator: Validator
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(BASE)
    assert summarise(path).problems == ()
    assert marked(validator, load_yaml(path)) == set()
    assert len(WRONG) >= 80


@pytest.mark.parametrize(
    "change",
    [
        "dataset={name: 'folder:/prints', image_size: 16, color: rgb}",
        "dataset.synthetic={grid: [{fingers: 6}, {fingers: 8}]}",
        "dataset.scale=[1, 0.5]",
        "dataset.max_patches_per_image={choice: [1, null]}",
        "training.learning_rate={loguniform: [1e-4, 1e-2]}",
        "training.weight_decay={value: 0.1, when: {process: ddpm, network.width: [8, 16]}}",
        "training.fast={grid: [auto, true]}",
        "network.multipliers={grid: [[1, 2], [1, 2, 2]]}",
        "network.attention={grid: [[], [8]], when: {network.multipliers: [[1, 2, 2]]}}",
        "parameters.network_evaluations=null",
        "models.waves.neighbourhood_radius={int: [1, 3], when: {coupling: local}}",
        "models.waves.coupling_strength={uniform: [0, 1]}",
        "models.waves.priors={grid: [[matched], [von-mises, forward]]}",
        "models.waves.network={variant: raw-angle, width: null}",
        "models.ddpm=null",
        "evaluation.features='my_module:MyExtractor'",
        "search={strategy: optuna, trials: 3, metric: [kid, seconds_per_sample]}",
        "search={strategy: optuna, trials: 3, sampler: cmaes, sampler_options: {popsize: 4}}",
    ],
)
def test_what_is_valid_is_not_marked(change: str, tmp_path: Path, validator: Validator) -> None:
    """As a profile of its own, and in the file."""
    path = tmp_path / "study.yaml"
    keys, _, value = change.partition("=")
    node = parse_yaml(value, "value")
    for key in reversed(keys.split(".")):
        node = {key: node}
    documents = [merge(parse_yaml(BASE, "base"), {"profiles": {"other": node}})]
    if node != {"models": {"ddpm": None}}:
        documents.append(merge(parse_yaml(BASE, "base"), node))
    for document in documents:
        path.write_text(yaml.safe_dump(document))
        for profile in document["profiles"]:
            load_space(path, profile)
        assert marked(validator, load_yaml(path)) == set()


@pytest.mark.parametrize(
    "layers",
    [
        ("dataset: {name: sphere}", "dataset: {image_size: 16}", "training: {iterations: 3}"),
        ("dataset: {image_size: 16}", "dataset: {name: sphere}, training: {iterations: 3}", ""),
        ("training: {iterations: 3}", "dataset: {name: sphere, image_size: 16}", ""),
    ],
)
def test_what_every_profile_says_the_file_need_not(
    layers: tuple[str, ...], tmp_path: Path, validator: Validator
) -> None:
    base, *rest = layers
    over = ", ".join(filter(None, rest))
    path = tmp_path / "study.yaml"
    text = f"name: s\n{base}\nmodels: {{m: {{process: ddpm}}}}\nprofiles:\n"
    path.write_text(f"{text}  a: {{{over}, parameters: {{steps: 5}}}}\n")
    assert summarise(path).problems == ()
    assert marked(validator, load_yaml(path)) == set()
    # Another profile does not say it.
    path.write_text(path.read_text() + "  b: {parameters: {steps: 5}}\n")
    key = named(path)
    assert key in marked(validator, load_yaml(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("process: ddpm", f"process: {name}") for name in ("tilted", "vp", "edm2", "kuramoto-2")),
        ("process: ddpm, steps", "process: tilted, angle: 3, of: {grid: [a]}, steps"),
        ("variance: posterior", "variance: posterior, angle: 3}\nmodels: {m: {process: tilted}"),
        ("name: fingerprints", "name: moons"),
        ("seeds: [0, 1]", "evaluation: {features: my-extractor}"),
    ],
)
def test_names_that_a_plug_in_may_have_brought_are_not_marked(
    old: str, new: str, validator: Validator
) -> None:
    """The shipped schema cannot know which plug-ins its reader has."""
    text = BASE.replace(old, new, 1)
    if "models: {m:" in new:
        text = re.sub(r"models:\n(  .*\n)+", "", text)
        text = text.replace(", models: {ddpm: {schedule: cosine}}", "")
    assert marked(validator, parse_yaml(text, "space")) == set()


def test_sections_of_a_plug_ins_model_are_checked_still(validator: Validator) -> None:
    text = BASE.replace("process: ddpm,", "process: tilted, network: {width: 7},")
    assert marked(validator, parse_yaml(text, "space")) == {"models.ddpm.network.width"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("iterations: 10}", "iterations: 10, learning_rate: .inf}"),
        ("iterations: 10}", "iterations: 10, learning_rate: .nan}"),
        ("iterations: 10}", "iterations: 10, weight_decay: .inf}"),
        ("iterations: 10}", "iterations: 10.0}"),
        ("{grid: [5, 10]}", "{int: [10, 5]}"),
        ("steps: 5", "steps: 0"),
        ("strategy: random, ", ""),
        ("variance: posterior", "sigma_min: 1"),
        ("steps: {grid: [5, 10]}", "steps: {grid: [5], when: {network.width: 8, steps: 5}}"),
    ],
)
def test_what_only_validate_sees(old: str, new: str, tmp_path: Path, validator: Validator) -> None:
    """The schema is no judge of numbers that are none, nor of what depends on several keys."""
    assert old in BASE
    path = tmp_path / "study.yaml"
    path.write_text(BASE.replace(old, new, 1))
    assert named(path)
    assert marked(validator, load_yaml(path)) == set()


def test_a_process_that_is_installed_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tilted(PROCESSES["ddpm"]):  # type: ignore[misc]
        """Images, tilted.

        Args:
            angle: in degrees.
        """

        def __init__(self, *, shape: tuple[int, int, int], steps: int, angle: float = 3.0) -> None:
            super().__init__(shape=shape, steps=steps)

    class Odd(PROCESSES["ddpm"]):  # type: ignore[misc]
        """Has a parameter that no JSON can say."""

        def __init__(
            self,
            *,
            shape: tuple[int, int, int],
            steps: int,
            turn: Callable[[float], float] | None = None,
        ) -> None:
            super().__init__(shape=shape, steps=steps)

    monkeypatch.setitem(PROCESSES, "tilted", Tilted)
    monkeypatch.setitem(PROCESSES, "odd", Odd)
    schema = search_space_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for said, wrong in (
        ("tilted, angle: 3", set()),
        ("tilted, angle: steep", {"models.ddpm.angle"}),
        ("odd, turn: null", set()),
        ("odd, trun: null", {"models.ddpm.trun"}),
        ("titled", {"models.ddpm.process"}),
    ):
        text = BASE.replace("process: ddpm,", f"process: {said},")
        assert marked(validator, parse_yaml(text, "space")) == wrong


def test_keys_are_described(validator: Validator) -> None:
    """What an editor shows: of every parameter of every process, and of every key of a section."""
    definitions = validator.schema["$defs"]

    def properties(name: str) -> Iterable[tuple[str, Any]]:
        for key, value in definitions[name]["properties"].items():
            while isinstance(value, dict) and "$ref" in value and "description" not in value:
                value = definitions[value["$ref"].rpartition("/")[2]]
            yield key, value

    for process in PROCESSES:
        for key, value in properties(f"process.{process}"):
            assert key == "process" or value["description"], (process, key)
    # What an editor proposes at once: YAML's language server does not look into `else`.
    assert dict(properties("process.kuramoto"))["coupling"]["examples"] == [
        "global",
        "local",
        "none",
    ]
    for section in ("dataset", "network", "training", "evaluation", "search", "resources"):
        for key, value in properties(section):
            assert value.get("description"), (section, key)
