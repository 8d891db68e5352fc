"""How a network is run, in training and in sampling: plainly, or fast.

The fast path is bf16 autocast and `torch.compile`. The plain path is fp32 (on GPUs with the TF32
convolutions that PyTorch allows by default) and eager. Weights, states, losses, the optimiser and
the steps of a sampler are fp32 on both. Both hold weights in channels_last, the layout in which
oneDNN and cuDNN convolve (10 to 20 % faster on the CPU): it changes the order of sums, not the
arithmetic.
"""

import contextlib
import logging
import time
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

#: The switch. "auto": fast on GPUs with bf16 units, plain elsewhere.
UseFast = Literal["auto", True, False]

_log = logging.getLogger(__name__)


class NetworkRunner:
    """Calls a network, and answers in fp32 whatever the arithmetic inside.

    The network itself is left as it is: its parameters, the names in its ``state_dict`` and its
    EMA copies know nothing of how it is run. Weights stay fp32; autocast rounds them for each call.

    One shape and one type are compiled, once in a run. A smaller batch (the last one of a sampling)
    is filled up with copies of its first sample, whose answers are dropped: samples do not see each
    other, and a second compilation would take longer. Steps go in as float32, which networks make
    of them anyway: some processes train at times between the steps. A network that cannot be
    compiled (no C++ compiler, no Triton) runs without, after one warning. Under DDP the backward
    pass cannot be tried beforehand: if it alone fails to compile, so does the training.

    Args:
        network: (B, C, H, W) states and (B,) steps -> (B, C, H, W); may be wrapped for DDP.
        device: where it is.
        bf16: whether to round to bf16 where autocast finds that safe.
        compiled: whether to compile. This resets `torch.compile` as a whole, because its caches
            are shared by all networks of a class: a process that runs trial after trial would hit
            the limit on recompilations. A runner made earlier compiles again when it is called.
    """

    def __init__(
        self, network: nn.Module, device: torch.device, *, bf16: bool, compiled: bool
    ) -> None:
        self._network = network
        self._device = device
        self._bf16 = bf16
        self._compiled: Any = None
        self._batch = 0  # 0 until the first compiled call has returned
        if compiled:
            torch.compiler.reset()
            # The default mode: CUDA graphs would hand out memory that the next call overwrites.
            self._compiled = torch.compile(network)

    @property
    def precision(self) -> str:
        """What is used: ``fp32`` or ``bf16``, with ``-compiled``."""
        compiled = self._compiled is not None
        return ("bf16" if self._bf16 else "fp32") + ("-compiled" if compiled else "")

    def __call__(self, state: Tensor, step: Tensor) -> Tensor:
        """(B, C, H, W) states and (B,) steps -> (B, C, H, W) fp32 predictions."""
        with self._autocast():
            if self._compiled is None:
                out: Tensor = self._network(state, step)
            elif self._batch == 0:
                out = self._first_call(state, step.float())
            else:
                out = self._compiled(*self._filled(state, step.float()))[: len(state)]
        return out.float()

    def warm_up(self, count: int, shape: tuple[int, int, int]) -> None:
        """Compile for batches of `count` states (C, H, W), so that what follows can be timed.

        To be called as the network will be: with or without `torch.no_grad`. The plain path needs
        nothing.
        """
        if self._compiled is not None and self._batch == 0:
            state = torch.zeros(count, *shape, device=self._device)
            self(state, torch.ones(count, dtype=torch.int64, device=self._device))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._bf16:
            return torch.autocast(self._device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _first_call(self, state: Tensor, step: Tensor) -> Tensor:
        began = time.monotonic()
        # What is tried draws no dropout: a training that goes on here draws as if it had not been.
        on_cuda = self._device.type == "cuda"
        stream = torch.get_rng_state()
        stream_cuda = torch.cuda.get_rng_state(self._device) if on_cuda else None

        def rewind() -> None:
            torch.set_rng_state(stream)
            if stream_cuda is not None:
                torch.cuda.set_rng_state(stream_cuda, self._device)

        try:
            out: Tensor = self._compiled(state, step)
            if out.requires_grad and not isinstance(self._network, DistributedDataParallel):
                # The backward pass is compiled when it first runs: here a failure can be mended.
                self._try_backward(out)
                rewind()
                out = self._compiled(state, step)
        except Exception as error:
            # If the network itself is at fault, this raises what a plain run would.
            rewind()
            out = self._network(state, step)
            self._compiled = None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            _log.warning("the network cannot be compiled and runs without: %s", reason)
        else:
            self._batch = len(state)
            _log.info("compiled the network in %.0f s", time.monotonic() - began)
        return out

    def _try_backward(self, out: Tensor) -> None:
        weights = [p for p in self._network.parameters() if p.requires_grad]
        with torch.autocast(self._device.type, enabled=False):
            torch.autograd.grad(out.float().sum(), weights, allow_unused=True)

    def _filled(self, state: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        missing = self._batch - len(state)
        if missing <= 0:
            return state, step
        return (
            torch.cat([state, state[:1].expand(missing, -1, -1, -1)]),
            torch.cat([step, step[:1].expand(missing)]),
        )


def make_runner(network: nn.Module, device: torch.device, fast: UseFast) -> NetworkRunner:
    """Run a network the fast way or the plain one.

    True also takes the fast path where "auto" does not: on a CPU, or a GPU that emulates bf16.
    """
    if fast == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return NetworkRunner(network, device, bf16=fast, compiled=fast)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to its device, into the layout that convolutions want there. In place."""
    # The stubs know this overload of `to` for tensors only.
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
