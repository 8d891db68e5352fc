"""A network from the words of a search space: an architecture, a variant, sizes."""

from typing import Any

from torch import nn

from kod_bench.diffusion import Grid
from kod_bench.networks.heads import (
    GridNetwork,
    PeriodicInputNetwork,
    PeriodicNetwork,
    PlainNetwork,
)
from kod_bench.networks.released import RELEASED, ReleasedUNet
from kod_bench.networks.unet import UNet

#: How a network on phases reads and answers; the first is the default.
VARIANTS = {
    "periodic": PeriodicNetwork,
    "periodic-in": PeriodicInputNetwork,
    "raw-angle": PlainNetwork,
}

#: Names of the backbones; the first, which alone takes sizes, is the default.
ARCHITECTURES = ("unet", *RELEASED)


def make_network(
    *,
    periodic: bool,
    channels: int,
    image_size: int,
    steps: int,
    grid: Grid | None = None,
    architecture: str = "unet",
    variant: str = "periodic",
    **sizes: Any,
) -> nn.Module:
    """Build the network for a state space.

    Args:
        periodic: whether states are phases. If not, the network is a `PlainNetwork` whatever the
            variant, so that one study can hold processes of both kinds.
        channels: C, planes of the state.
        image_size: height of the images, pixels.
        steps: T.
        grid: where the network acts, if states are coefficients.
        architecture: one of `ARCHITECTURES`.
        variant: one of `VARIANTS`.
        sizes: the remaining arguments of `UNet`.

    Raises:
        ValueError: if there is no such architecture or variant, the sizes do not fit together, or
            an architecture of fixed size is given one.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"no architecture {architecture!r}; choose from {', '.join(ARCHITECTURES)}"
        )
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; choose from {', '.join(VARIANTS)}")
    if architecture in RELEASED and sizes:
        raise ValueError(
            f"architecture {architecture} has fixed sizes; leave out {', '.join(sizes)}"
        )

    def build(inputs: int, outputs: int) -> nn.Module:
        if architecture in RELEASED:
            layout = RELEASED[architecture]
            return ReleasedUNet(inputs, outputs, image_size=image_size, layout=layout)
        return UNet(inputs, outputs, image_size=image_size, steps=steps, **sizes)

    if grid is not None:
        return GridNetwork(channels, build, grid)
    return VARIANTS[variant if periodic else "raw-angle"](channels, build)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
