"""AdamW as the training loop uses it: all weights in one call, and checkpoints of either kind."""

from typing import Any

from torch import nn
from torch.optim import AdamW

#: Where PyTorch has AdamW as one operator. Elsewhere it takes a dozen for each tensor of weights.
_FUSED_ON = ("cpu", "cuda", "mps", "xpu")


def make_optimizer(network: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """AdamW of all parameters, fused where there is such an operator.

    It rounds in another order than the one that takes each tensor for itself, no more.
    """
    parameters = list(network.parameters())
    fused = all(each.device.type in _FUSED_ON for each in parameters)
    return AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused or None)


def load_optimizer(optimizer: AdamW, state: dict[str, Any]) -> None:
    """Take over moments and counts from a checkpoint, but not how its optimiser was run.

    Else a checkpoint written before the fused operator was used would keep the training slow, and
    one of a GPU that is continued elsewhere would ask for an operator that is not there.

    Args:
        optimizer: of `make_optimizer`.
        state: its `state_dict` when the checkpoint was written. Not modified.
    """
    run = {name: optimizer.defaults[name] for name in ("fused", "foreach")}
    groups = [group | run for group in state["param_groups"]]
    optimizer.load_state_dict(state | {"param_groups": groups})
