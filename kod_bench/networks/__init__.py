"""U-Net backbones for all processes, and heads that fit the state space."""

from kod_bench.networks.heads import (
    PeriodicInputNetwork,
    PeriodicNetwork,
    PlainNetwork,
    project_to_tangent,
)
from kod_bench.networks.make import ARCHITECTURES, VARIANTS, make_network, parameter_count
from kod_bench.networks.released import RELEASED, ReleasedUNet
from kod_bench.networks.unet import UNet

__all__ = [
    "ARCHITECTURES",
    "RELEASED",
    "VARIANTS",
    "PeriodicInputNetwork",
    "PeriodicNetwork",
    "PlainNetwork",
    "ReleasedUNet",
    "UNet",
    "make_network",
    "parameter_count",
    "project_to_tangent",
]
