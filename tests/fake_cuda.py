"""A GPU that is not there: fake CUDA tensors, and what the host asks of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)


class CudaGenerator(torch.Generator):
    """A generator that says it is a GPU's."""

    @property
    def device(self) -> torch.device:
        return CUDA


def cuda_generator() -> torch.Generator:
    made = CudaGenerator()
    made.manual_seed(3)
    return made


class HostTransfers(TorchDispatchMode):
    """Notes what goes from one device to another, and what the host reads or waits for.

    A number that is read is 1: fake tensors know none.
    """

    waits = ("nonzero", "equal", "masked_select", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        name = function.name().removeprefix("aten::").split(".")[0]
        first = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        if name == "_local_scalar_dense" and first is not None:
            if first.device.type == "cuda":
                self.found.append(name)
            return first.dtype == torch.bool or (1.0 if first.is_floating_point() else 1)
        out = function(*arguments, **(options or {}))
        if isinstance(out, Tensor) and first is not None and out.device != first.device:
            self.found.append(f"moved from {first.device} to {out.device}")
        if name == "copy_" and arguments[0].device != arguments[1].device:
            self.found.append(f"moved from {arguments[1].device} to {arguments[0].device}")
        if name in self.waits and first is not None and first.device.type == "cuda":
            self.found.append(name)
        return out


@contextmanager
def fake_cuda() -> Iterator[HostTransfers]:
    """Where tensors are fake; those from outside, on the CPU, may be read there."""
    with FakeTensorMode(allow_non_fake_inputs=True), HostTransfers() as transfers:
        yield transfers


def _backward(loss: Tensor) -> None:
    """Gradients of zero: the engine of the backward pass asks the driver for the device."""
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (weight := getattr(node, "variable", None)) is not None:
            weight.grad = torch.zeros_like(weight)
        ahead += [following for following, _ in node.next_functions]


def _to(
    network: nn.Module, device: torch.device, memory_format: torch.memory_format | None = None
) -> nn.Module:
    """What `Module.to` does: of fake weights it cannot change the parameters that there are."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                moved = weight.detach().to(device)
                if moved.ndim == 4 and memory_format is not None:
                    moved = moved.to(memory_format=memory_format)
                module._parameters[name] = nn.Parameter(moved)
        for name, constant in module._buffers.items():
            if constant is not None:
                module._buffers[name] = constant.to(device)
    return network


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of torch would ask a driver answers without one."""
    real = torch.Generator

    class Generator(real):  # type: ignore[misc, valid-type]
        def __new__(cls, device: Any = "cpu") -> Any:
            return CudaGenerator() if torch.device(device).type == "cuda" else real(device)

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(Tensor, "backward", _backward)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    monkeypatch.setattr(nn.Module, "to", _to)
