import pytest
import torch

from kod_bench.networks import make_network, parameter_count


def released(architecture: str, image_size: int, **changes: object) -> torch.nn.Module:
    arguments: dict[str, object] = {"periodic": True, "channels": 1, "steps": 100} | changes
    return make_network(architecture=architecture, image_size=image_size, **arguments)


@pytest.mark.parametrize(
    ("architecture", "channels", "count"),
    [
        ("released-32", 3, 23_334_662),
        ("released-32", 1, 23_332_098),
        ("released-96", 3, 28_815_750),
        ("released-96", 1, 28_813_186),
    ],
)
def test_parameter_counts_are_those_of_the_released_networks(
    architecture: str, channels: int, count: int
) -> None:
    with torch.device("meta"):
        assert parameter_count(released(architecture, 96, channels=channels)) == count


@pytest.mark.parametrize(
    ("architecture", "channels", "size", "attended"),
    [("released-32", 1, 8, 6), ("released-32", 3, 48, 6), ("released-96", 1, 64, 5)],
)
def test_any_size_that_can_be_halved_is_taken(
    architecture: str, channels: int, size: int, attended: int
) -> None:
    with torch.device("meta"):
        network = released(architecture, size, channels=channels)
        seen: list[tuple[int, ...]] = []
        for module in network.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.register_forward_hook(lambda *given: seen.append(tuple(given[2].shape)))
        state = torch.empty(2, channels, size, size)
        assert network(state, torch.ones(2, dtype=torch.int64)).shape == state.shape
    pixels = [shape[1] for shape in seen[::2]]
    assert len(pixels) == attended
    largest = size**2 if architecture == "released-32" else (size // 4) ** 2
    assert max(pixels) == largest


@pytest.mark.parametrize(
    ("architecture", "size", "divisor"), [("released-32", 28, 8), ("released-96", 40, 16)]
)
def test_other_sizes_are_refused(architecture: str, size: int, divisor: int) -> None:
    with pytest.raises(ValueError, match=f"divisible by {divisor}, got {size}"):
        released(architecture, size)


def test_every_weight_matters_and_the_integer_step_is_what_is_embedded() -> None:
    torch.manual_seed(0)
    network = released("released-32", 8)
    state, step = torch.randn(2, 1, 8, 8), torch.tensor([3, 70])
    out = network(state, step)
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    other = released("released-32", 8, steps=1000)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(state, step), out)
    assert not torch.equal(other(state, step + 1), out)
