"""On a GPU everything would be on the GPU: known without one, from fake tensors.

PyTorch's FakeTensorMode knows of each tensor its shape, type and device, no numbers; it refuses an
operator whose arguments are on two devices. So a walk through a training and a sampler on fake CUDA
tensors fails where a device is wrong, and notes where the host would wait. docs/speed.md says what
it cannot see; `benchmarks/gpu_check.py` is for that.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from kod_bench.diffusion import PROCESSES, DiffusionProcess, TrainingBatch, sample
from kod_bench.networks import ARCHITECTURES, VARIANTS, NetworkRunner, make_network, place
from kod_bench.training import TrainingOptions, loop, train
from tests.fake_cuda import CUDA, cuda_generator, fake_cuda, no_driver

__all__ = ["no_driver"]

STEPS = 4
LOG_EVERY = 3


@functools.cache
def fitted(case: str) -> DiffusionProcess:
    """A process, fitted on the CPU."""
    name, parameters = CASES[case]
    shape = (1, 8, 16) if name == "sphere" else (1, 8, 8)
    process = PROCESSES[name](shape=shape, steps=6, **parameters)
    rng = torch.Generator().manual_seed(0)
    process.fit(lambda count: torch.rand(count, *shape, generator=rng) * 2 - 1, rng)
    return process


def make(case: str) -> DiffusionProcess:
    """One whose copies of tables on the GPU are of this test's fake tensors."""
    return copy.deepcopy(fitted(case))


#: Every process, and every way of one that has code of its own. Of pools so small, chains are
#: walked on in the third step.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in PROCESSES if name != "kuramoto"},
    **{
        f"kuramoto-{coupling}-{target}": (
            "kuramoto",
            {"coupling": coupling, "target": target, "calibration_chains": 8, "pool_size": 8},
        )
        for coupling in ("global", "local", "none")
        for target in ("path", "conditional", "one-step")
    },
}


def network_of(process: DiffusionProcess, **options: Any) -> nn.Module:
    """A network on the GPU."""
    sizes = {"width": 4, "multipliers": (1,), "blocks": 1}
    if options.get("architecture", "unet") != "unet":
        sizes = {}
    network = make_network(
        periodic=process.periodic,
        channels=process.state_shape[0],
        image_size=process.shape[1],
        steps=process.steps,
        grid=process.grid,
        **(sizes | options),
    )
    return place(network, CUDA)


class Marked:
    """A process whose batches leave a mark before each is made; perhaps with a mistake planted."""

    def __init__(
        self,
        process: DiffusionProcess,
        found: list[str],
        change: Callable[[TrainingBatch], TrainingBatch],
    ) -> None:
        self._process, self._found, self._change = process, found, change
        self.state_shape = process.state_shape

    def shard(self, workers: int) -> "Marked":
        return Marked(self._process.shard(workers), self._found, self._change)

    def training_batches(self, *arguments: Any) -> "Marked":
        self._batches: Any = self._process.training_batches(*arguments)
        return self

    def __iter__(self) -> Iterator[TrainingBatch]:
        return self

    def __next__(self) -> TrainingBatch:
        self._found.append("step")
        batch = self._change(next(self._batches))
        assert {batch.state.device, batch.target.device, batch.step.device} == {CUDA}
        return batch

    def state_dict(self) -> Any:
        return self._batches.state_dict()

    def load_state_dict(self, state: Any) -> None:
        raise NotImplementedError


class Nowhere:
    """Checkpoints and a history that nobody reads."""

    def load_latest(self, check: Any) -> None: ...
    def save(self, iteration: int, state: Any) -> None: ...
    def append(self, record: Any) -> None: ...


def walk(
    process: DiffusionProcess,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[TrainingBatch], TrainingBatch] = lambda batch: batch,
    micro_batch_size: int | None = None,
    **options: Any,
) -> list[list[str]]:
    """Train on fake CUDA tensors; say what has been moved or read in each step."""
    plain = functools.partial(NetworkRunner, bf16=False, compiled=False)
    monkeypatch.setattr(loop, "make_runner", lambda network, device, _: plain(network, device))
    square = process.shape[1] == process.shape[2]
    with fake_cuda() as transfers:
        trained = train(
            Marked(process, transfers.found, change),  # type: ignore[arg-type]
            network_of(process, **options),
            torch.zeros(10, *process.shape, dtype=torch.uint8),
            TrainingOptions(
                iterations=STEPS,
                batch_size=4,
                learning_rate=1e-3,
                weight_decay=0.01,
                warmup=2,
                gradient_clip=1.0,
                ema_decay=0.9,
                checkpoint_every=100,
                log_every=LOG_EVERY,
                micro_batch_size=micro_batch_size,
            ),
            seed=0,
            device=CUDA,
            checkpoints=Nowhere(),  # type: ignore[arg-type]
            history=lambda _: Nowhere(),  # type: ignore[arg-type, return-value]
            augment=("horizontal-flip", "vertical-flip", *(("rotate",) if square else ())),
        )
        assert {each.device for each in trained.network.parameters()} == {CUDA}
    steps: list[list[str]] = []
    for each in transfers.found:
        if each == "step":
            steps.append([])
        elif steps:
            steps[-1].append(each)
    return steps


def between_logs(steps: list[list[str]]) -> list[str]:
    """What has been moved or read where nobody looks. Constants go to the device in the first."""
    assert len(steps) == STEPS
    return steps[1]


@pytest.mark.parametrize("case", CASES)
def test_a_training_stays_on_the_gpu_and_is_read_when_it_is_logged(
    case: str, monkeypatch: pytest.MonkeyPatch, no_driver: None
) -> None:
    steps = walk(make(case), monkeypatch)
    assert between_logs(steps) == []
    assert steps[LOG_EVERY - 1] == ["_local_scalar_dense"]  # the loss


@pytest.mark.parametrize("case", CASES)
def test_sampling_stays_on_the_gpu(case: str, no_driver: None) -> None:
    process = make(case)
    with fake_cuda() as transfers:
        for sampler in process.samplers:
            start = torch.zeros(3, *process.state_shape, device=CUDA)
            for turn in range(2):
                transfers.found.clear()
                drawn = sample(
                    process,
                    lambda state, step: state.sin() * step.view(-1, 1, 1, 1).rsqrt(),
                    3,
                    cuda_generator(),
                    sampler=sampler,
                    evaluations=3,
                    start=start,
                )
                assert drawn.device == CUDA
                assert transfers.found == [] or turn == 0  # constants go to the device once
        # Priors may read a number, once per batch: the table of a law, the starts at hand.
        for prior in process.priors:
            assert process.prior(3, cuda_generator(), prior).device == CUDA


@pytest.mark.parametrize("case", CASES)
def test_fitting_has_its_chains_on_the_gpu(case: str, no_driver: None) -> None:
    process = make(case)
    # The measuring itself needs numbers: what comes before is on one device.
    with (
        contextlib.suppress(DataDependentOutputException),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        process.fit(lambda count: torch.zeros(count, *process.shape, device=CUDA), cuda_generator())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_and_head(architecture: str, variant: str, no_driver: None) -> None:
    process = PROCESSES["kuramoto"](shape=(1, 16, 16), steps=6)
    more = {"attention": (8,), "multipliers": (1, 2), "dropout": 0.1}
    with fake_cuda() as transfers:
        network = network_of(
            process,
            architecture=architecture,
            variant=variant,
            **(more if architecture == "unet" else {}),
        )
        predict = NetworkRunner(network, CUDA, bf16=False, compiled=False)
        transfers.found.clear()
        for train_mode in (True, False):
            network.train(train_mode)
            step = torch.ones(2, dtype=torch.int64, device=CUDA)
            out = predict(torch.zeros(2, 1, 16, 16, device=CUDA), step)
            assert out.device == CUDA
        assert transfers.found == []


@pytest.mark.parametrize("case", ["ddpm", "kuramoto-local-path"])
def test_micro_batches_stay_on_the_gpu(
    case: str, monkeypatch: pytest.MonkeyPatch, no_driver: None
) -> None:
    steps = walk(make(case), monkeypatch, micro_batch_size=3, dropout=0.1)
    assert between_logs(steps) == []


def on_cpu(batch: TrainingBatch) -> TrainingBatch:
    return TrainingBatch(batch.state, batch.step, batch.target.cpu(), batch.weight)


def step_on_cpu(batch: TrainingBatch) -> TrainingBatch:
    return TrainingBatch(batch.state, batch.step.cpu(), batch.target, batch.weight)


def weight_on_cpu(batch: TrainingBatch) -> TrainingBatch:
    return TrainingBatch(batch.state, batch.step, batch.target, torch.ones(4, 1, 1, 1))


def reads(batch: TrainingBatch) -> TrainingBatch:
    float(batch.target.mean())
    return batch


def chooses(batch: TrainingBatch) -> TrainingBatch:
    batch.step.nonzero()
    return batch


def there_and_back(batch: TrainingBatch) -> TrainingBatch:
    chosen = batch.step.cpu().to(CUDA)
    return TrainingBatch(batch.state, chosen, batch.target, batch.weight)


MISTAKES = [on_cpu, step_on_cpu, weight_on_cpu, reads, chooses, there_and_back]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(
    mistake: Callable[[TrainingBatch], TrainingBatch],
    monkeypatch: pytest.MonkeyPatch,
    no_driver: None,
) -> None:
    try:
        steps = walk(make("ddpm"), monkeypatch, mistake)
    except (RuntimeError, AssertionError, DataDependentOutputException):
        return
    assert between_logs(steps)


def test_a_constant_left_on_the_cpu_is_found(
    monkeypatch: pytest.MonkeyPatch, no_driver: None
) -> None:
    def forgets(batch: TrainingBatch) -> TrainingBatch:
        # A vector, as a number of no dimension would be let through, as it should.
        scale: Tensor = torch.ones(6)[: len(batch.state)].view(-1, 1, 1, 1)
        return TrainingBatch(batch.state * scale, batch.step, batch.target, batch.weight)

    with pytest.raises(RuntimeError, match="cuda"):
        walk(make("ddpm"), monkeypatch, forgets)


def test_a_loop_that_reads_every_loss_is_found(
    monkeypatch: pytest.MonkeyPatch, no_driver: None
) -> None:
    clip = nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        nn.utils, "clip_grad_norm_", lambda *arguments: torch.tensor(float(clip(*arguments)))
    )
    with pytest.raises(AssertionError):
        assert between_logs(walk(make("ddpm"), monkeypatch)) == []
