"""Numbers fixed when a process is built, kept in float64 and copied to each device once."""

from typing import overload

import torch
from torch import Tensor


class DeviceConstant:
    """A float64 tensor on the CPU and its copies elsewhere.

    Processes are plain objects that follow their arguments' device and dtype; copying a table at
    every step would stall the accelerator.

    Attributes:
        values: the float64 original.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values.to("cpu", torch.float64)
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def on(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The values on a device and in a dtype. Shared: not to be modified."""
        key = (device, dtype)
        if key not in self._copies:
            # A copy first made under inference_mode could never meet autograd afterwards.
            with torch.inference_mode(False):
                self._copies[key] = self.values.to(device=device, dtype=dtype)
        return self._copies[key]


class StepTable(DeviceConstant):
    """One number for each step 1..T of a process.

    Raises:
        ValueError: if the values are not a vector of finite numbers.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__(values)
        if values.ndim != 1 or not len(values) or not bool(torch.isfinite(values).all()):
            raise ValueError(f"a schedule must be a non-empty vector of finite numbers: {values}")
        self._numbers: list[float] = self.values.tolist()

    @overload
    def at(self, step: int, state: Tensor) -> float: ...

    @overload
    def at(self, step: Tensor, state: Tensor) -> Tensor: ...

    def at(self, step: int | Tensor, state: Tensor) -> float | Tensor:
        """The value at one step, or at each sample's own.

        Args:
            step: t in 1..T, or a (B,) int64 tensor of them.
            state: (B, ...), whose device and dtype the result takes.

        Returns:
            A float for an integer step, else (B, 1, 1, 1), ready to multiply the state.
        """
        if isinstance(step, int):
            return self._numbers[step - 1]
        return self.on(state.device, state.dtype)[step - 1].view(-1, 1, 1, 1)

    def __getitem__(self, step: int) -> float:
        return self._numbers[step - 1]


def linear_ramp(first: float, last: float, steps: int) -> Tensor:
    """(T,) float64 values, evenly spaced from first to last; `last` alone for one step."""
    if steps == 1:
        # torch.linspace would give `first`: a process of one step that destroys nothing.
        return torch.tensor([last], dtype=torch.float64)
    return torch.linspace(first, last, steps, dtype=torch.float64)
