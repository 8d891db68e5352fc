"""One U-Net backbone for all processes, with a head that fits the state space."""

from typing import Any

from torch import nn

from kod_bench.networks.heads import PeriodicNetwork, PlainNetwork, project_to_tangent
from kod_bench.networks.unet import UNet

__all__ = [
    "PeriodicNetwork",
    "PlainNetwork",
    "UNet",
    "make_network",
    "parameter_count",
    "project_to_tangent",
]


def make_network(*, periodic: bool, channels: int, **unet: Any) -> nn.Module:
    """Build the network for a state space: `PeriodicNetwork` for phases, else `PlainNetwork`."""
    return (PeriodicNetwork if periodic else PlainNetwork)(channels, **unet)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
