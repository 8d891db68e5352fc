"""On a GPU everything would be on the GPU: known without one, from fake tensors.

PyTorch's FakeTensorMode knows of each tensor its shape, type and device, no numbers; it refuses an
operator whose arguments are on two devices, and one that would tell the host a number. So a walk
through a training step and a sampler on fake CUDA tensors fails where a device is wrong and where
the host would wait. What it cannot see: numbers, and so what depends on them (`fit` beyond its
chains, the loss that is logged); the backward pass, whose engine asks the driver for the device
(gradients of zero stand in for it); that a kernel exists on CUDA in every type; deadlocks of NCCL;
compiled code. `benchmarks/gpu_check.py` is for those.
"""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from kod_bench.diffusion import PROCESSES, DiffusionProcess, TrainingBatch, sample
from kod_bench.networks import ARCHITECTURES, VARIANTS, NetworkRunner, make_network
from kod_bench.training.average import update_average
from kod_bench.training.gradients import accumulate_gradients
from kod_bench.training.images import ShuffledImages
from kod_bench.training.optimizer import make_optimizer

CUDA = torch.device("cuda", 0)


class CudaGenerator(torch.Generator):
    """A generator that says it is a GPU's."""

    @property
    def device(self) -> torch.device:
        return CUDA


class HostTransfers(TorchDispatchMode):
    """Notes what goes from one device to another, and what the host reads or waits for."""

    waits = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        out = function(*arguments, **(options or {}))
        name = function.name().removeprefix("aten::").split(".")[0]
        first = arguments[0] if arguments and isinstance(arguments[0], Tensor) else None
        if isinstance(out, Tensor) and first is not None and out.device != first.device:
            self.found.append(f"{name} from {first.device} to {out.device}")
        if name == "copy_" and arguments[0].device != arguments[1].device:
            self.found.append(f"copy_ from {arguments[1].device} to {arguments[0].device}")
        if name in self.waits and first is not None and first.device.type == "cuda":
            self.found.append(name)
        return out


def generator() -> torch.Generator:
    made = CudaGenerator()
    made.manual_seed(3)
    return made


def make(name: str, **parameters: Any) -> DiffusionProcess:
    """A process, fitted on the CPU."""
    shape = (1, 8, 16) if name == "sphere" else (1, 8, 8)
    process = PROCESSES[name](shape=shape, steps=6, **parameters)
    rng = torch.Generator().manual_seed(0)
    process.fit(lambda count: torch.rand(count, *shape, generator=rng) * 2 - 1, rng)
    return process


#: (name, parameters): every process, and every way of one that has code of its own.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in PROCESSES if name != "kuramoto"),
    *(
        (
            "kuramoto",
            {"coupling": coupling, "target": target, "calibration_chains": 8, "pool_size": 32},
        )
        for coupling in ("global", "local", "none")
        for target in ("path", "conditional", "one-step")
    ),
]
each_process = pytest.mark.parametrize(
    ("name", "parameters"),
    CASES,
    ids=lambda case: "-".join(map(str, dict(case).values())) if isinstance(case, dict) else case,
)


def network_of(process: DiffusionProcess, **options: Any) -> nn.Module:
    """A network whose weights are made on the GPU: fake ones cannot be moved there."""
    sizes = {} if "architecture" in options else {"width": 8, "multipliers": (1, 2)}
    with CUDA:
        network = make_network(
            periodic=process.periodic,
            channels=process.shape[0],
            image_size=process.shape[1],
            steps=process.steps,
            grid=process.grid,
            **sizes,
            **options,
        )
    for module in network.modules():
        module._buffers.update({name: each.to(CUDA) for name, each in module._buffers.items()})
    return network


@pytest.fixture(autouse=True)
def backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver there is no backward pass on CUDA, not even a fake one."""

    def backward(loss: Tensor) -> None:
        seen, ahead = set(), [loss.grad_fn]
        while ahead:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (weight := getattr(node, "variable", None)) is not None:
                weight.grad = torch.zeros_like(weight)
            ahead += [following for following, _ in node.next_functions]

    monkeypatch.setattr(Tensor, "backward", backward)


def training_steps(
    process: DiffusionProcess,
    change: Callable[[TrainingBatch], TrainingBatch] = lambda batch: batch,
    **options: Any,
) -> list[str]:
    """Make training steps as the loop does; say what has been moved after the first one."""
    sources: list[ShuffledImages] = []
    # Tables of the process's own are made on the CPU, which may read them.
    batches = process.shard(2).training_batches(lambda count: sources[0](count), 4, generator())
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = network_of(process, **options).train()
        average = AveragedModel(network)
        optimizer = make_optimizer(network, 1e-3, 0.01)
        pixels = torch.zeros(20, *process.shape, dtype=torch.uint8)
        square = process.shape[1] == process.shape[2]
        changes = ("horizontal-flip", "vertical-flip", *(("rotate",) if square else ()))
        sources.append(ShuffledImages(pixels, generator(), changes))
        predict = NetworkRunner(network, CUDA, bf16=True, compiled=False)
        found: list[str] = []
        for turn in range(6):
            average.n_averaged = torch.tensor(turn)  # a fake number on the CPU is forgotten
            with HostTransfers() as transfers:
                batch = change(next(batches))
                optimizer.zero_grad(set_to_none=True)
                loss = accumulate_gradients(predict, batch, 3)
                norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                loss += 0 * norm
                optimizer.step()
                update_average(average, network, 0.9)
            used = {batch.state.device, batch.target.device, batch.step.device, loss.device}
            assert used == {CUDA}
            assert {p.device for p in average.module.parameters()} == {CUDA}
            # Constants go to the device once.
            found += transfers.found if turn else []
    return found


@each_process
def test_a_training_step_stays_on_the_gpu_and_reads_nothing(
    name: str, parameters: dict[str, Any]
) -> None:
    process = make(name, **parameters)
    assert training_steps(process) == []


@each_process
def test_sampling_stays_on_the_gpu(name: str, parameters: dict[str, Any]) -> None:
    process = make(name, **parameters)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = network_of(process).eval()
        predict = NetworkRunner(network, CUDA, bf16=True, compiled=False)
        for sampler in process.samplers:
            # Priors may read a number, once per batch: the table of a law, the starts at hand.
            start = torch.zeros(3, *process.state_shape, device=CUDA)
            for _ in range(2):  # constants go to the device once
                with HostTransfers() as transfers:
                    drawn = sample(process, predict, 3, generator(), sampler=sampler, start=start)
            assert drawn.device == CUDA
            assert transfers.found == []
        for prior in process.priors:
            try:
                assert process.prior(3, generator(), prior).device == CUDA
            except DataDependentOutputException:
                continue


@each_process
def test_fitting_has_its_chains_on_the_gpu(name: str, parameters: dict[str, Any]) -> None:
    process = copy.deepcopy(make(name, **parameters))
    with FakeTensorMode(allow_non_fake_inputs=True):
        rng = generator()
        # The measuring itself needs numbers: what comes before is on one device.
        with contextlib.suppress(DataDependentOutputException):
            process.fit(lambda count: torch.zeros(count, *process.shape, device=CUDA), rng)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_and_head(architecture: str, variant: str) -> None:
    for name, small in (("ddpm", {}), ("kuramoto", {"pool_size": 32})):
        process = PROCESSES[name](shape=(1, 32, 32), steps=6, **small)
        options = {"variant": variant} | (
            {} if architecture == "unet" else {"architecture": architecture}
        )
        if architecture == "unet":
            assert training_steps(process, **options) == []
            continue
        with FakeTensorMode(allow_non_fake_inputs=True):
            network = network_of(process, **options)
            step = torch.ones(2, dtype=torch.int64, device=CUDA)
            out = network(torch.zeros(2, 1, 32, 32, device=CUDA), step)
            assert out.device == CUDA


def on_cpu(batch: TrainingBatch) -> TrainingBatch:
    return TrainingBatch(batch.state, batch.step, batch.target.cpu(), batch.weight)


def step_on_cpu(batch: TrainingBatch) -> TrainingBatch:
    return TrainingBatch(batch.state, batch.step.cpu(), batch.target, batch.weight)


def reads(batch: TrainingBatch) -> TrainingBatch:
    float(batch.target.mean())
    return batch


def chooses(batch: TrainingBatch) -> TrainingBatch:
    chosen = batch.step.cpu().to(CUDA)
    return TrainingBatch(batch.state, chosen, batch.target, batch.weight)


@pytest.mark.parametrize("mistake", [on_cpu, step_on_cpu, reads, chooses])
def test_a_planted_mistake_is_found(mistake: Callable[[TrainingBatch], TrainingBatch]) -> None:
    process = make("ddpm")
    try:
        found = training_steps(process, mistake)
    except (RuntimeError, DataDependentOutputException):
        return
    assert found


def test_a_constant_left_on_the_cpu_is_found() -> None:
    class Forgetful(PROCESSES["ddpm"]):  # type: ignore[misc]
        def training_batches(self, images: Any, batch_size: int, rng: torch.Generator) -> Any:
            for batch in super().training_batches(images, batch_size, rng):
                # A vector, as a number of no dimension would be let through, as it should.
                scale = torch.ones(self.steps)[: len(batch.state)].view(-1, 1, 1, 1)
                yield TrainingBatch(batch.state * scale, batch.step, batch.target, batch.weight)

    process = Forgetful(shape=(1, 8, 8), steps=6)
    with pytest.raises(RuntimeError, match="cuda"):
        training_steps(process)
