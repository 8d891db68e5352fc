"""The moving average of a network's weights, kept without waiting for the device."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


@torch.no_grad()
def update_average(average: AveragedModel, network: nn.Module, rate: float) -> None:
    """Move the average towards the weights, by decay min(rate, (1 + n) / (10 + n)) after n updates.

    What `AveragedModel.update_parameters` does, but for a copy of its count, which is on the CPU,
    to the device at every update: that waits for all that is queued there. Buffers are constants
    and stay.

    Args:
        average: of the network; its first update is a copy.
        network: as it is now.
        rate: of the decay.
    """
    count = int(average.n_averaged)
    averaged = [each.detach() for each in average.module.parameters()]
    current = [each.detach() for each in network.parameters()]
    if count == 0:
        torch._foreach_copy_(averaged, current)
    else:
        decay = min(rate, (1.0 + count) / (10.0 + count))
        torch._foreach_lerp_(averaged, current, 1.0 - decay)
    average.n_averaged += 1
