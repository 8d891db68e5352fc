"""Running out of memory: how PyTorch says it, and what to do about it."""

import torch

#: What allocators say that have no exception class of their own.
_PHRASES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN, which says no more of it
    "out of memory",
)


class TooLittleMemoryError(RuntimeError):
    """Training does not fit into memory. `micro_batch_size` is what was tried."""

    def __init__(self, micro_batch_size: int, cause: BaseException) -> None:
        self.micro_batch_size = micro_batch_size
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        super().__init__(
            f"out of memory with micro-batches of {micro_batch_size}; lower "
            f"training.micro_batch_size, or the network's width ({first})"
        )

    def __reduce__(self) -> tuple[type[RuntimeError], tuple[str]]:
        # Ray carries exceptions between processes; the numbers are in the message.
        return RuntimeError, (str(self),)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on a GPU or the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _PHRASES)
