"""Every space that is shipped, and every example in the language's reference, is valid."""

import re
from pathlib import Path

import pytest
import yaml

from kod_bench.sweeps.plan.catalogue import summarise
from kod_bench.sweeps.space import known_spaces, load_space, merge
from kod_bench.sweeps.space.yaml_file import parse_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "search_spaces").glob("*.yaml"))
REFERENCE = ROOT / "docs" / "search-spaces.md"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spaces_are_valid_under_all_profiles(path: Path) -> None:
    summary = summarise(path)
    assert summary.problems == ()
    assert list(summary.trials) == ["laptop", "workstation", "cluster"]
    assert summary.description


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_machine_with_a_gpu_begins_with_a_short_study(path: Path) -> None:
    space = load_space(path, "auto", has_gpus=True)
    assert space.profile == "workstation"
    # About ten minutes at two trials at once: a modern GPU takes some thousand images of 64 pixels
    # a second forward and back through a network of width 32.
    images = sum(v.training.iterations * v.training.batch_size for v in space.variants)
    assert images * len(space.options.seeds) <= 1_100_000
    assert all(v.network.width == 32 for v in space.variants)
    resources = space.options.resources
    assert resources.workers_per_trial * resources.gpus_per_worker == 0.5
    own = 32 if path.stem == "cifar10" else 64
    assert {v.dataset.image_size for v in space.variants} == {own}


def test_the_papers_studies_are_shipped() -> None:
    assert {"fingerprints", "textures", "terrain", "cifar10"} <= set(known_spaces())


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("fingerprints", {100, 1000}),
        ("textures", {100, 1000}),
        ("terrain", {100, 1000}),
        ("cifar10", {100, 300, 1000}),
    ],
)
def test_cluster_follows_the_published_protocol(name: str, steps: set[int]) -> None:
    space = load_space(ROOT / "search_spaces" / f"{name}.yaml", "cluster")
    assert {variant.steps for variant in space.variants} == steps
    assert space.options.evaluation.samples == 50_000
    assert space.options.evaluation.features == "inception"
    for variant in space.variants:
        assert variant.network_evaluations == (variant.steps,)
        assert (variant.training.learning_rate, variant.training.batch_size) == (1e-4, 128)
        assert variant.training.ema_decay == 0.995
        if variant.process == "kuramoto":
            published = {
                "target": "one-step",
                "loss_weight": "released",
                "variance": "forward",
                "final_noise": True,
            }
            assert variant.parameters | published == variant.parameters
            # A chain for every sample: as many images are drawn as the released code draws.
            assert variant.parameters["chain_steps"] >= variant.steps
            assert variant.priors[0] == "von-mises"


def examples() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(examples())))
def test_examples_of_the_reference_are_valid(number: int, tmp_path: Path) -> None:
    """The first is a space; the others are parts, laid over it."""
    whole, part = (parse_yaml(examples()[n], "example") for n in (0, number))
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(merge(whole, part)))
    assert summarise(path).problems == ()


def test_the_space_of_rivals_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "rivals.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "rivals.yaml"
    path.write_text(example)
    assert summarise(path).problems == ()


def test_the_reference_counts_right(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(examples()[0])
    assert summarise(path).trials == {"laptop": 16, "cluster": 16}
    path.write_text(yaml.safe_dump(merge(*(parse_yaml(examples()[n], "") for n in (0, 1)))))
    variants = load_space(path, "laptop").variants
    counts = [sum(v.model == name for v in variants) for name in ("local", "global", "ddpm")]
    assert counts == [2 * 2 * 20, 2 * 20, 2 * 20]
