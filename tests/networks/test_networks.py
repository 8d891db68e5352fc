import math

import pytest
import torch

from kod_bench.networks import (
    VARIANTS,
    PlainNetwork,
    UNet,
    make_network,
    parameter_count,
    project_to_tangent,
)

SIZE = {"image_size": 16, "steps": 10, "width": 8, "multipliers": (1, 2), "attention": (8,)}


def network(*, periodic: bool, channels: int = 1, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    made = make_network(periodic=periodic, channels=channels, **(SIZE | changes))
    for parameter in made.parameters():  # the output starts at zero: give it something to say
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_output_has_the_shape_of_the_state(variant: str, channels: int) -> None:
    state = torch.randn(2, channels, 16, 16)
    for periodic in (True, False):
        made = network(periodic=periodic, channels=channels, variant=variant)
        assert made(state, torch.tensor([1, 10])).shape == state.shape


def test_a_network_on_a_torus_has_no_edge() -> None:
    """Fields that are moved around the box, by what its levels halve it to, move the answer."""
    state, step = 2 * torch.randn(2, 1, 16, 16), torch.tensor([3, 7])
    moved = {}
    for padding in ("torus", "zeros"):
        made = network(periodic=True, padding=padding)
        there = made(state.roll((2, -6), (2, 3)), step).roll((-2, 6), (2, 3))
        moved[padding] = (there - made(state, step)).abs().max() / made(state, step).std()
    assert moved["torus"] < 1e-4
    assert moved["zeros"] > 0.1


@pytest.mark.parametrize("width", [8, 24, 40, 56, 104])
def test_attention_takes_every_width(width: int) -> None:
    made = network(periodic=False, width=width)
    state = torch.randn(1, 1, 16, 16)
    assert made(state, torch.tensor([1])).shape == state.shape


def moved_by_full_turns(variant: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A network's answers, in double precision, to phases and to the same points of the circle."""
    made = network(periodic=True, variant=variant).double()
    state = (torch.rand(2, 1, 16, 16, dtype=torch.float64) - 0.5) * 2 * math.pi
    turns = torch.randint(-2, 3, state.shape).double() * (2 * math.pi)
    step = torch.tensor([3, 7])
    # The embedding of the step is computed in single precision, which the network does not take.
    made.unet.embed.register_forward_pre_hook(lambda _, given: (given[0].double(),))
    return made(state, step), made(state + turns, step)


@pytest.mark.parametrize("variant", ["periodic", "periodic-in"])
def test_a_periodic_network_is_exactly_2_pi_periodic(variant: str) -> None:
    out, shifted = moved_by_full_turns(variant)
    assert out.std() > 1e-3
    # What is left is the rounding of theta + 2 pi k itself.
    torch.testing.assert_close(shifted, out, atol=1e-11, rtol=0)


def test_a_network_on_raw_angles_is_not_periodic() -> None:
    out, shifted = moved_by_full_turns("raw-angle")
    assert (shifted - out).abs().mean() > 0.1 * out.std()


def test_no_variant_changes_a_network_on_ordinary_planes() -> None:
    made = [network(periodic=False, variant=variant) for variant in VARIANTS]
    assert all(isinstance(each, PlainNetwork) for each in made)
    state, step = torch.rand(2, 1, 16, 16), torch.tensor([3, 7])
    assert torch.equal(made[0](state, step), made[1](state, step))
    assert torch.equal(made[0](state, step), made[2](state, step))


def test_projection_ignores_the_radial_part() -> None:
    angle = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    cosine, sine = angle.cos(), angle.sin()
    vector = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    radial = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    moved = vector + torch.cat([radial * cosine, radial * sine], dim=1)
    torch.testing.assert_close(
        project_to_tangent(moved, cosine, sine), project_to_tangent(vector, cosine, sine)
    )


def test_projection_of_the_tangent_itself_is_one() -> None:
    angle = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    tangent = torch.cat([-angle.sin(), angle.cos()], dim=1)
    torch.testing.assert_close(
        project_to_tangent(tangent, angle.cos(), angle.sin()), torch.ones_like(angle)
    )


def test_step_changes_the_answer() -> None:
    made = network(periodic=False)
    state = torch.randn(1, 1, 16, 16)
    assert (made(state, torch.tensor([1])) - made(state, torch.tensor([9]))).abs().max() > 1e-4


def test_untrained_network_predicts_nothing() -> None:
    made = make_network(periodic=True, channels=1, **SIZE)
    assert not made(torch.randn(1, 1, 16, 16), torch.tensor([5])).any()


def test_heads_differ_by_less_than_one_percent_in_size() -> None:
    size = SIZE | {"width": 16, "multipliers": (1, 2, 2)}
    plain = parameter_count(make_network(periodic=False, channels=1, **size))
    for variant in VARIANTS:
        count = parameter_count(make_network(periodic=True, channels=1, variant=variant, **size))
        assert plain <= count < 1.01 * plain


@pytest.mark.parametrize("width", [2, 6, 10, 18, 48])
def test_any_even_width_can_be_built(width: int) -> None:
    state = torch.randn(1, 1, 16, 16)
    assert network(periodic=True, width=width)(state, torch.tensor([1])).shape == state.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 18, "multipliers": (1, 2, 2)}, "divisible by 4, got 18"),
        ({"width": 7}, "width must be even"),
        ({"multipliers": ()}, "multipliers"),
        ({"blocks": 0}, "blocks"),
        ({"attention": (7,)}, r"attention names resolutions \[7\].*\[16, 8\]"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(1, 1, **(SIZE | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "vit"}, "no architecture 'vit'; choose from unet, released-32"),
        ({"variant": "polar"}, "no variant 'polar'; choose from periodic, periodic-in, raw-angle"),
        ({"architecture": "released-32"}, "has fixed sizes; leave out width, multipliers"),
    ],
)
def test_words_that_do_not_exist_or_go_together_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        network(periodic=True, **changes)
