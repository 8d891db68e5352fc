"""U-Net backbones for all processes, heads that fit the state space, and how both are run."""

from kod_bench.networks.heads import (
    GridNetwork,
    PeriodicInputNetwork,
    PeriodicNetwork,
    PlainNetwork,
    project_to_tangent,
)
from kod_bench.networks.make import ARCHITECTURES, VARIANTS, make_network, parameter_count
from kod_bench.networks.released import RELEASED, ReleasedUNet
from kod_bench.networks.runner import NetworkRunner, UseFast, make_runner, place
from kod_bench.networks.unet import Padding, UNet

__all__ = [
    "ARCHITECTURES",
    "RELEASED",
    "VARIANTS",
    "GridNetwork",
    "NetworkRunner",
    "Padding",
    "PeriodicInputNetwork",
    "PeriodicNetwork",
    "PlainNetwork",
    "ReleasedUNet",
    "UNet",
    "UseFast",
    "make_network",
    "make_runner",
    "parameter_count",
    "place",
    "project_to_tangent",
]
