from dataclasses import astuple
from pathlib import Path

import pytest
import torch

from kod_bench.diffusion import PROCESSES
from kod_bench.errors import UsageError
from kod_bench.networks import make_network, parameter_count
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.space import SearchSpace, find_space, known_spaces, load_space

BASE = """
name: study
dataset: {name: fingerprints, image_size: 16}
training: {iterations: 10}
models:
  ddpm: {process: ddpm, steps: {grid: [5, 10]}}
profiles:
  laptop: {seeds: [0, 1]}
  cluster: {training: {iterations: 1000}}
"""


def load(tmp_path: Path, text: str, profile: str = "laptop") -> SearchSpace:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_space(path, profile)


def test_profiles_lie_over_the_common_part(tmp_path: Path) -> None:
    laptop, cluster = (load(tmp_path, BASE, p).options for p in ("laptop", "cluster"))
    assert (laptop.training.iterations, laptop.seeds) == (10, (0, 1))
    assert (cluster.training.iterations, cluster.seeds) == (1000, (0,))


def test_grids_multiply_and_name_what_they_vary(tmp_path: Path) -> None:
    text = BASE.replace(
        "{process: ddpm, steps: {grid: [5, 10]}}",
        "{process: kuramoto, steps: {grid: [5, 10]}, coupling_strength: {grid: [0.01, 2e-2]}}",
    )
    variants = load(tmp_path, text).variants
    assert [(v.label, v.steps) for v in variants] == [
        ("ddpm coupling_strength=0.01", 5),
        ("ddpm coupling_strength=0.02", 5),
        ("ddpm coupling_strength=0.01", 10),
        ("ddpm coupling_strength=0.02", 10),
    ]
    assert variants[1].parameters["coupling_strength"] == 0.02
    assert variants[1].parameters["coupling"] == "global"  # defaults are resolved


def test_a_model_is_scored_in_several_ways(tmp_path: Path) -> None:
    text = BASE.replace(
        "steps: {",
        "priors: [standard-normal, forward], samplers: [ancestral, ddim], "
        "network_evaluations: [5, 3], steps: {",
    )
    space = load(tmp_path, text)
    (five, ten) = make_trials(space, "hash")[:2]
    assert (five.steps, ten.steps) == (5, 10)
    assert [astuple(scoring) for scoring in five.scorings] == [
        (prior, sampler, evaluations)
        for prior in ("standard-normal", "forward")
        for sampler in ("ancestral", "ddim")
        for evaluations in (5, 3)
    ]
    (plain,) = make_trials(load(tmp_path, BASE), "hash")[0].scorings
    assert astuple(plain) == ("standard-normal", "ancestral", 5)


MISTAKES = [
    ("iterations: 10}", "iteratons: 10}", r"training.iteratons: unknown key; did you mean 'iter"),
    ("iterations: 10}", "iterations: ten}", r"training.iterations: 'ten' is not allowed"),
    ("iterations: 10}", "iterations: true}", r"training.iterations: True is not allowed"),
    ("iterations: 10}", "iterations: 0}", r"training.iterations: 0 is not allowed"),
    ("iterations: 10}", "iterations: 10, learning_rate: .nan}", r"training.learning_rate: "),
    ("iterations: 10}", "}", r"training.iterations: this key is required"),
    ("seeds: [0, 1]", "seeds: [0, -1]", r"profiles.laptop.seeds.1: -1 is not allowed"),
    (
        "seeds: [0, 1]",
        "seeds: [3, 03]",
        r"profiles.laptop.seeds: \[3, 3\] .*: a seed is given twice",
    ),
    (
        "seeds: [0, 1]",
        "seeds: [9223372036854775808]",
        r"laptop.seeds.0: 9223372036854775808 is not",
    ),
    ("iterations: 10}", "iterations: 1:30}", r"'1:30' is not allowed: .* have neither _ nor :"),
    ("iterations: 10}", "iterations: 10, fast: yes}", r"fast: 'yes' is not .* says true or false"),
    ("seeds: [0, 1]", "seeds: []", r"profiles.laptop.seeds: \[\] is not allowed"),
    ("seeds: [0, 1]", "sedes: [0]", r"profiles.laptop.sedes: unknown key; did you mean 'seeds'"),
    ("{iterations: 1000}", "{iterations: -1}", r"profiles.cluster.training.iterations: -1"),
    ("steps: {grid: [5, 10]}", "steps: 0", r"models.ddpm: steps must be .*got 0"),
    ("steps: {grid: [5, 10]}", "steps: {grid: [5, 0]}", r"models.ddpm: steps must be .*got 0"),
    ("steps: {grid: [5, 10]}", "steps: fifty", r"models.ddpm.steps: 'fifty' is not allowed"),
    ("steps: {grid: [5, 10]}", "steps: 5.5", r"models.ddpm.steps: 5.5 is not allowed"),
    ("steps: {grid: [5, 10]}", "steps: {grid: []}", r"models.ddpm.steps: must be a value or"),
    ("steps: {grid: [5, 10]}", "steps: {gird: [5]}", r"models.ddpm.steps: must be a value or"),
    ("steps: {grid: [5, 10]}", "steps: {grid: [5, 5]}", r"steps.grid: a value is given twice"),
    (", steps: {grid: [5, 10]}", "", r"models.ddpm.steps: this key is required"),
    ("steps: {grid", "stepz: 3, steps: {grid", r"models.ddpm.stepz: unknown key; did you mean"),
    ("{process: ddpm", "{samplers: [dim], process: ddpm", r"ddpm: no sampler 'dim'; choose from"),
    (
        "{process: ddpm",
        "{priors: [matched], process: ddpm",
        r"ddpm: no prior 'matched'; choose from standard-normal, forward",
    ),
    ("{process: ddpm", "{samplers: [], process: ddpm", r"models.ddpm.samplers: \[\] is not"),
    (
        "{process: ddpm",
        "{network_evaluations: [9], process: ddpm",
        r"ddpm: eval.* most T = 5, got 9",
    ),
    ("process: ddpm", "process: dppm", r"models.ddpm.process: 'dppm' is not a process; known: "),
    ("name: study", "name: ../study", r"name: '../study' is not allowed"),
    ("name: fingerprints", "name: faces", r"dataset.name: 'faces' is not allowed"),
    ("image_size: 16", "image_size: 4", r"dataset.image_size: 4 is not allowed"),
    ("name: study", "name: study\nname: again", r"study.yaml:3:1: .*'name' is given twice"),
    ("name: study", "name: [study", r"study.yaml:\d+:\d+: is not valid YAML"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_mistakes_are_named_with_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in BASE
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, BASE.replace(old, new))
    assert str(tmp_path / "study.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


NETWORKS = """
name: study
dataset: {name: fingerprints, image_size: 16}
training: {iterations: 10}
network: {width: 16, variant: periodic-in}
models:
  kuramoto: {process: kuramoto, steps: 5}
  ddpm: {process: ddpm, steps: 5}
profiles:
  laptop: {}
  cluster: {network: {width: 32, dropout: 0.1}}
"""


def networks(tmp_path: Path, own: str, profile: str = "laptop") -> dict[str, dict[str, object]]:
    """The plan's network of each model, where Kuramoto's has a section of its own."""
    text = NETWORKS.replace("kuramoto, steps: 5}", f"kuramoto, steps: 5, network: {own}}}")
    trials = make_trials(load(tmp_path, text, profile), "hash")
    assert all(trial.network_options.arguments() for trial in trials)
    return {trial.model: trial.network for trial in trials}


def test_models_share_a_network_and_may_change_it_key_by_key(tmp_path: Path) -> None:
    found = networks(tmp_path, "{attention: [8]}")
    assert found["kuramoto"] == {
        "architecture": "unet",
        "variant": "periodic-in",
        "width": 16,
        "multipliers": [1, 2, 2],
        "blocks": 2,
        "attention": [8],
        "dropout": 0.0,
        "padding": "zeros",
    }
    # A variant is nothing to a process without phases.
    assert found["ddpm"] == found["kuramoto"] | {"variant": None, "attention": []}
    large = networks(tmp_path, "{width: null}", "cluster")["kuramoto"]
    assert (large["width"], large["dropout"]) == (32, 0.1)


def test_networks_have_grids_that_label_their_models(tmp_path: Path) -> None:
    found = networks(
        tmp_path, "{variant: {grid: [periodic, raw-angle]}, attention: {grid: [[], [8]]}}"
    )
    assert list(found) == [
        "kuramoto network.variant=periodic network.attention=[]",
        "kuramoto network.variant=periodic network.attention=[8]",
        "kuramoto network.variant=raw-angle network.attention=[]",
        "kuramoto network.variant=raw-angle network.attention=[8]",
        "ddpm",
    ]
    assert [n["variant"] for n in found.values()] == [*["periodic"] * 2, *["raw-angle"] * 2, None]
    assert len({str(network) for network in found.values()}) == 5


def test_a_released_architecture_has_sizes_of_its_own(tmp_path: Path) -> None:
    found = networks(tmp_path, "{architecture: {grid: [unet, released-32]}}")
    sizes = {model: network["width"] for model, network in found.items()}
    assert sizes == {
        "kuramoto network.architecture=unet": 16,
        "kuramoto network.architecture=released-32": None,
        "ddpm": 16,
    }


NETWORK_MISTAKES = [
    ("{variant: polar}", r"kuramoto.network.variant: 'polar' is not allowed: .*'periodic-in' or"),
    ("{variant: {grid: [periodic, polar]}}", r"kuramoto.network.variant: 'polar' is not allowed"),
    ("{variant: {gird: [periodic]}}", r"kuramoto.network.variant: must be a value or {grid"),
    ("{wdth: 8}", r"kuramoto.network.wdth: unknown key; did you mean 'width'\?"),
    ("{width: 7}", r"kuramoto.network.width: 7 is not allowed"),
    ("{multipliers: [1, 0]}", r"kuramoto.network.multipliers.1: 0 is not allowed"),
    ("periodic", r"kuramoto.network: must be a mapping"),
    ("{architecture: vit}", r"kuramoto.network.architecture: 'vit' is not allowed"),
    (
        "{architecture: released-32, width: 8, blocks: 1}",
        r"kuramoto.network: architecture released-32 has fixed sizes; leave out width, blocks",
    ),
]


@pytest.mark.parametrize(("own", "message"), NETWORK_MISTAKES)
def test_mistakes_in_a_models_network_are_named(tmp_path: Path, own: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"study\.yaml: models\.{message}") as caught:
        networks(tmp_path, own)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{process: ddpm,",
            "{process: ddpm, network: {variant: raw-angle},",
            r"models.ddpm.network.variant: is for processes on phases; ddpm is none",
        ),
        ("periodic-in", "polar", r"yaml: network.variant: 'polar' is not allowed"),
        ("{width: 16", "{architecture: released-96, width: 16", r"yaml: network: .*out width$"),
        ("{width: 32,", "{variant: 3,", r"profiles.cluster.network.variant: 3 is not allowed"),
        ("iterations: 10", "iterations: 10, fast: maybe", r"training.fast: 'maybe' is not allowed"),
    ],
)
def test_mistakes_in_the_common_network_are_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in NETWORKS
    with pytest.raises(UsageError, match=message) as caught:
        load(tmp_path, NETWORKS.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("written", "meant"), [("auto", "auto"), ("true", True), ("False", False)])
def test_the_fast_path_is_a_switch(tmp_path: Path, written: str, meant: object) -> None:
    text = NETWORKS.replace("iterations: 10", f"iterations: 10, fast: {written}")
    assert load(tmp_path, text).options.training.fast == meant


def test_auto_takes_what_fits_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(BASE)
    assert load_space(path, "auto").profile == "laptop"
    # `cluster` is asked for by name; a file without a workstation's profile has its laptop's.
    assert load_space(path, "auto", has_gpus=True).profile == "laptop"
    path.write_text(BASE.replace("profiles:", "profiles:\n  workstation: {seeds: [5]}"))
    assert load_space(path, "auto", has_gpus=True).profile == "workstation"
    assert load_space(path, "auto").profile == "laptop"
    path.write_text(BASE.split("profiles:")[0])
    assert load_space(path, "auto", has_gpus=True).profile == "default"


def test_workers_must_share_the_batch(tmp_path: Path) -> None:
    text = BASE.replace("iterations: 10}", "iterations: 10, batch_size: 8}")
    text = text.replace("{seeds: [0, 1]}", "{resources: {workers_per_trial: 3}}")
    with pytest.raises(UsageError, match=r"profiles\.laptop: training\.batch_size 8 cannot"):
        load(tmp_path, text)


def test_unknown_profile_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile 'desktop'; the file has: laptop, cluster"):
        load(tmp_path, BASE, "desktop")


@pytest.mark.parametrize("content", ["", "[1, 2]", "just words", "models: {}"])
def test_other_documents_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError, match=r"study\.yaml: "):
        load(tmp_path, content)


def test_names_are_found_as_path_then_here_then_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_space("fingerprints").name == "fingerprints.yaml"
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "fingerprints.yaml").write_text(BASE)
    assert find_space("fingerprints") == Path("search_spaces/fingerprints.yaml")
    (tmp_path / "mine.yaml").write_text(BASE)
    assert find_space("mine.yaml") == Path("mine.yaml")
    known = "angles, cifar10, claims, fingerprints, kuramoto"
    with pytest.raises(UsageError, match=f"unknown search space 'finger'; known: {known}"):
        find_space("finger")
    with pytest.raises(UsageError, match=r"yours\.yaml: no such search space file"):
        find_space("yours.yaml")


def test_shipped_strengths_vary_three_things() -> None:
    space = load_space(find_space("kuramoto-strengths"), "laptop")
    assert len(space.variants) == len({(v.label, v.steps) for v in space.variants}) == 12
    assert len({v.steps for v in space.variants}) == 2


@pytest.mark.parametrize("profile", ["laptop", "workstation", "cluster"])
@pytest.mark.parametrize("name", ["fingerprints", "kuramoto"])
def test_shipped_comparisons_have_equal_networks(name: str, profile: str) -> None:
    space = load_space(find_space(name), profile)
    options = space.options
    assert {v.process for v in space.variants} == {"kuramoto", "ddpm"}
    if (name, profile) != ("fingerprints", "cluster"):  # the paper's own protocol
        assert {v.steps for v in space.variants} == {100}
        assert len({v.network_evaluations for v in space.variants}) == 1
    with torch.device("meta"):
        counts = [
            parameter_count(
                make_network(
                    periodic=PROCESSES[variant.process].periodic,
                    channels=1,
                    image_size=options.dataset.image_size,
                    steps=variant.steps,
                    **variant.network.arguments(),
                )
            )
            for variant in space.variants
        ]
    assert max(counts) <= 1.01 * min(counts)


def test_both_suffixes_of_yaml_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    (folder / "mine.yml").write_text(BASE)
    assert find_space("mine") == Path("search_spaces/mine.yml")
    (folder / "mine.yaml").write_text(BASE)
    assert known_spaces()["mine"] == [Path("search_spaces") / f"mine.{s}" for s in ("yaml", "yml")]
    # One's own hides what comes with the package, whatever its suffix.
    (folder / "textures.yml").write_text(BASE)
    assert find_space("textures") == Path("search_spaces/textures.yml")
