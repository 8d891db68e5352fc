"""A process says what it is by its parameters: of phases, whether any feels another one."""

import copy
import pickle
from typing import Any

import pytest
import torch

from kod_bench.diffusion import KuramotoDiffusion, SphereDiffusion, make_process

UNCOUPLED: list[dict[str, Any]] = [
    {"coupling": "none"},
    {"coupling": "none", "reference_strength": 0.0},
    {"coupling": "global", "coupling_strength": 0.0},
    {"coupling": "local", "coupling_strength": 0},
    {"coupling_ratio": 0.0, "reference_ratio": 0.4},
    {"strength": 0.0},
    {"coupling": "local", "neighbourhood_radius": 0},
    {"coupling": "local", "neighbourhood_radius": 0, "neighbourhood": "gaussian"},
]
COUPLED: list[dict[str, Any]] = [
    {},
    {"coupling": "local"},
    {"coupling": "local", "neighbourhood_radius": 1},
    {"coupling_strength": 0.01, "reference_strength": 0.0},
    {"coupling_ratio": 0.2},
    {"strength": 0.0, "coupling_strength": 0.02},
    {"neighbourhood_radius": 0},  # of local coupling alone
]


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [*((each, "control") for each in UNCOUPLED), *((each, "structured") for each in COUPLED)],
)
def test_kuramoto_is_a_control_where_no_phase_feels_another(
    parameters: dict[str, Any], kind: str
) -> None:
    process = make_process("kuramoto", shape=(1, 8, 8), steps=10, **parameters)
    assert process.kind == kind == KuramotoDiffusion.kind_of(parameters)
    assert isinstance(process, KuramotoDiffusion)
    state = torch.linspace(-3, 3, 64, dtype=torch.float64).view(1, 1, 8, 8)
    moved = state.clone()
    moved[0, 0, 4, 4] += 1.0
    change = (process.drift(moved, 10) - process.drift(state, 10)).abs()
    change[0, 0, 4, 4] = 0
    assert (float(change.max()) > 1e-9) is (kind == "structured")


def test_the_sphere_is_a_control_where_its_noise_is_isotropic() -> None:
    for covariance, kind in (("induced", "structured"), ("isotropic", "control")):
        process = make_process("sphere", shape=(1, 4, 8), steps=4, covariance=covariance)
        assert process.kind == kind == SphereDiffusion.kind_of({"covariance": covariance})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddpm", "euclidean"),
        ("ve", "euclidean"),
        ("edm", "euclidean"),
        ("sgm", "euclidean"),
        ("flow-matching", "euclidean"),
        ("heat", "structured"),
        ("blurring", "structured"),
    ],
)
def test_the_others_are_what_they_always_are(name: str, kind: str) -> None:
    assert make_process(name, shape=(1, 8, 8), steps=4).kind == kind


def test_blurring_is_a_control_where_nothing_blurs() -> None:
    process = make_process("blurring", shape=(1, 8, 8), steps=4, blur_max=0.0)
    assert process.kind == "control"


def test_copies_are_of_the_same_kind() -> None:
    process = make_process("kuramoto", shape=(1, 4, 4), steps=4, coupling="none")
    for same in (copy.copy(process), copy.deepcopy(process), process.shard(2)):
        assert same.kind == "control"
    sphere = make_process("sphere", shape=(1, 4, 8), steps=4, covariance="isotropic")
    assert pickle.loads(pickle.dumps(sphere)).kind == "control"
