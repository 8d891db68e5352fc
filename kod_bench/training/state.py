"""What a checkpoint must hold to go on with a training: of this network, and whole."""

from typing import Any

import torch
from torch import Tensor, nn

_NUMBERS: dict[str, type | tuple[type, ...]] = {
    "iteration": int,
    "seconds": (int, float),
    "loss": (int, float),
    "resumed_from": int,
    "images_seen": int,
}


def check_state(state: dict[str, Any], network: nn.Module, average: nn.Module) -> None:
    """Refuse a checkpoint that this training cannot go on from.

    Args:
        state: as it was read.
        network: that is trained.
        average: of its weights.

    Raises:
        ValueError: naming what it lacks or has too much.
    """
    check_average(state, average)
    _check_tensors("network", state.get("network"), network.state_dict())
    optimizer = state.get("optimizer")
    if not isinstance(optimizer, dict) or not {"state", "param_groups"} <= optimizer.keys():
        raise ValueError("its optimizer has no state")
    shapes = [parameter.shape for parameter in network.parameters()]
    groups = optimizer["param_groups"]
    if len(groups) != 1 or len(groups[0]["params"]) != len(shapes):
        raise ValueError("its optimizer is of another network")
    for number, shape in enumerate(shapes):
        for name, value in optimizer["state"].get(number, {}).items():
            if isinstance(value, Tensor) and name != "step" and value.shape != shape:
                raise ValueError(f"its optimizer's {name} is of another network")


def check_average(state: dict[str, Any], average: nn.Module) -> None:
    """Refuse a checkpoint whose trained model cannot be used.

    Raises:
        ValueError: naming what it lacks or has too much.
    """
    for name, kind in _NUMBERS.items():
        if not isinstance(state.get(name), kind) or isinstance(state[name], bool):
            raise ValueError(f"its {name} is no number")
    _check_tensors("average", state.get("average"), average.state_dict())


def _check_tensors(name: str, found: object, wanted: dict[str, Tensor]) -> None:
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise ValueError(f"its {name} has other weights than this network")
    for key, value in wanted.items():
        if not torch.is_tensor(found[key]) or found[key].shape != value.shape:
            raise ValueError(f"its {name} has {key} in another shape")
