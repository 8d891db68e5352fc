"""The parts of gpu_check.py that need Python, torch and this checkout alone.

A part gives rows: what was measured, a value with its unit, perhaps an aim and whether it holds.
"""

import importlib.util
import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode

from benchmarks.training_step import POOL, Turn
from kod_bench.diffusion import PROCESSES, DiffusionProcess, make_process, sample
from kod_bench.networks import NetworkRunner, make_network, place
from kod_bench.training import TrainingOptions, train
from kod_bench.training.average import update_average
from kod_bench.training.gradients import accumulate_gradients
from kod_bench.training.optimizer import make_optimizer

#: {"what", "value", "unit"}, perhaps "aim" and "holds".
Row = dict[str, Any]

MIB = 2**20


@dataclass(frozen=True)
class Network:
    """A network, and what it is fed with."""

    label: str
    pixels: int
    batch: int
    sizes: Mapping[str, Any]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        device: where.
        networks: the first one is for all parts but one.
        compiled: for that one.
        steps: T.
        rounds: of timed training steps, `POOL` steps each.
        evaluations: of a sampling.
        trained: steps of a training in either precision.
        paths: in which training steps are timed; see `training_step.PATHS`.
    """

    device: torch.device
    networks: tuple[Network, ...]
    compiled: Network
    steps: int
    rounds: int
    evaluations: int
    trained: int
    paths: tuple[str, ...]


def scale_of(name: str, device: str) -> Scale:
    """The sizes: "gpu", "cpu" (a look, on any machine) or "tiny" (a test)."""
    small = {"width": 16, "multipliers": (1, 2, 2), "blocks": 1}
    tiny = {"width": 4, "multipliers": (1,), "blocks": 1}
    where = torch.device(device)
    if name == "gpu":
        networks = tuple(
            Network(
                f"released-{px}, {px} px, batch 128", px, 128, {"architecture": f"released-{px}"}
            )
            for px in (32, 96)
        )
        return Scale(where, networks, networks[0], 100, 2, 50, 200, ("plain", "bf16"))
    if name == "cpu":
        networks = tuple(
            Network(f"U-Net of width 16, {px} px, batch 16", px, 16, small) for px in (16, 32)
        )
        # A compiler for a CPU takes longer than one for a GPU.
        compiled = Network("U-Net of width 4, 8 px, batch 16", 8, 16, tiny)
        return Scale(where, networks, compiled, 100, 1, 10, 30, ("plain",))
    networks = (Network("U-Net of width 4, 8 px, batch 4", 8, 4, tiny),)
    return Scale(where, networks, networks[0], 6, 1, 3, 4, ("plain",))


def process_of(scale: Scale, network: Network, name: str) -> DiffusionProcess:
    """The process of a name: "ddpm", or "kuramoto" with a coupling after it."""
    shape = (1, network.pixels, network.pixels)
    if name == "ddpm":
        return make_process("ddpm", shape=shape, steps=scale.steps)
    return make_process(
        "kuramoto",
        shape=shape,
        steps=scale.steps,
        coupling=name.split()[1],
        target="path",
        pool_size=POOL * network.batch,
    )


def build(scale: Scale, network: Network, process: DiffusionProcess) -> nn.Module:
    """The network on its device, equal weights each time."""
    torch.manual_seed(0)
    made = make_network(
        periodic=process.periodic,
        channels=process.state_shape[0],
        image_size=network.pixels,
        steps=process.steps,
        **network.sizes,
    )
    return place(made, scale.device)


def pictures(process: DiffusionProcess, device: torch.device, seed: int = 1) -> Any:
    """Draws smooth images with noise, on the device; numbers of the host, equal everywhere."""
    rng = torch.Generator().manual_seed(seed)
    wave = torch.linspace(0, 6, process.shape[2]).sin()

    def draw(count: int) -> Tensor:
        noise = torch.rand(count, *process.shape, generator=rng)
        return (0.7 * wave + 0.6 * noise - 0.3).clamp(-1, 1).to(device)

    return draw


def wait(device: torch.device) -> None:
    """Until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def row(what: str, value: float, unit: str, most: float | None = None) -> Row:
    """A measured number; with `most`, whether it is at most that."""
    if most is None:
        return {"what": what, "value": value, "unit": unit}
    return {
        "what": what,
        "value": value,
        "unit": unit,
        "aim": f"at most {most:g}",
        "holds": value <= most,
    }


# Agreement


class HostGenerator(torch.Generator):
    """A generator that draws on the host for a device: two devices get equal numbers."""

    def __new__(cls, device: torch.device) -> "HostGenerator":
        """A generator of the host's, which torch makes before `__init__`."""
        made = super().__new__(cls)
        made._for = device
        return made

    @property
    def device(self) -> torch.device:
        """For which it draws."""
        return self._for  # type: ignore[no-any-return]


class DrawOnHost(TorchFunctionMode):
    """Where functions of torch are given a `HostGenerator`, they draw on the host."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        options = dict(options or {})
        generator = options.get("generator")
        if isinstance(generator, HostGenerator):
            if "device" in options:
                options["device"] = "cpu"
            given = [each.cpu() if isinstance(each, Tensor) else each for each in arguments]
            return function(*given, **options).to(generator.device)
        return function(*arguments, **options)


#: Processes of the agreement, with parameters.
AGREEING: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in PROCESSES if name != "kuramoto"},
    **{
        f"kuramoto {coupling}": (
            "kuramoto",
            {"coupling": coupling, "pool_size": 16, "calibration_chains": 32},
        )
        for coupling in ("global", "local", "none")
    },
}
#: Chains of rounded steps part by this at most; phases by their distance on the circle.
AGREE = 0.01


def agreement(scale: Scale) -> list[Row]:
    """Batches, forward steps and samples of every process, against those of the CPU."""
    rows = []
    for label, (name, parameters) in AGREEING.items():
        shape = (1, 8, 16) if name == "sphere" else (1, 8, 8)
        process = make_process(name, shape=shape, steps=min(25, scale.steps), **parameters)
        cpu = torch.device("cpu")
        process.fit(pictures(process, cpu), torch.Generator().manual_seed(0))
        there, here = (walk(process, device) for device in (scale.device, cpu))
        worst = 0.0
        for one, other in zip(there, here, strict=True):
            if not torch.isfinite(one).all():
                worst = math.inf
                continue
            apart = one.double() - other.double()
            if process.periodic and apart.ndim == 4:
                apart = torch.atan2(apart.sin(), apart.cos())
            worst = max(worst, float(apart.abs().max()))
        rows.append(row(f"{label}: largest difference from the CPU", worst, "", AGREE))
    return rows


def walk(process: DiffusionProcess, device: torch.device) -> list[Tensor]:
    """All that a process makes, with numbers drawn on the host."""

    def guess(state: Tensor, step: Tensor) -> Tensor:
        return 0.5 * state.sin() * (1 + step.view(-1, 1, 1, 1).float()).rsqrt()

    made: list[Tensor] = []
    with DrawOnHost():

        def generator() -> torch.Generator:
            return HostGenerator(device).manual_seed(2)

        source = pictures(process, device)
        for batch in islice(process.training_batches(source, 4, generator()), 6):
            made += [batch.state, batch.target, batch.weight.expand_as(batch.target)]
            assert batch.step.device.type == device.type
        state = process.encode(source(4))
        made.append(process.forward_step(state, process.steps, generator()))
        # What is compared is arithmetic: a start drawn by rejection could part by a rounding.
        start = torch.linspace(-1, 1, 3 * math.prod(process.state_shape), device=device)
        for sampler in process.samplers:
            made.append(
                sample(
                    process,
                    guess,
                    3,
                    generator(),
                    sampler=sampler,
                    start=start.view(3, *process.state_shape),
                )
            )
    return [each.cpu() for each in made]


# Training steps


def steps(scale: Scale) -> list[Row]:
    """Training steps over DDPM's, and their share outside the network."""
    rows = []
    for network in scale.networks:
        names = ("ddpm", "kuramoto local", "kuramoto global")
        turns = {
            (name, path): Turn(
                process_of(scale, network, name), network.sizes, network.batch, scale.device, path
            )
            for path in scale.paths
            for name in names
        }
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in turns}
        for index in range(scale.rounds + 1):  # the first fills the pool
            sums = {key: [0.0, 0.0] for key in turns}
            for _ in range(POOL):
                for key, turn in turns.items():
                    whole, making = turn()
                    sums[key][0] += whole
                    sums[key][1] += making
            for key, (whole, making) in sums.items() if index else ():
                taken[key].append((whole / POOL, making / whole))
        middle = {
            key: (statistics.median(w for w, _ in each), statistics.median(m for _, m in each))
            for key, each in taken.items()
        }
        for (name, path), (whole, outside) in middle.items():
            label = f"{network.label}, {name}, {path}"
            rows.append(row(f"{label}: training step", 1e3 * whole, "ms"))
            if name != "ddpm":
                rows.append(row(f"{label}: over ddpm", whole / middle["ddpm", path][0], "", 1.05))
                rows.append(row(f"{label}: outside the network", outside, "", 0.05))
    return rows


# Sampling


def sampling(scale: Scale) -> list[Row]:
    """Images per second, at a number of evaluations."""
    network, rows = scale.networks[0], []
    for name in ("ddpm", "kuramoto local"):
        process = process_of(scale, network, name)
        made = build(scale, network, process).eval()
        for path in scale.paths:
            predict = NetworkRunner(made, scale.device, bf16=path == "bf16", compiled=False)
            draw(scale, network, process, predict, 2)
            seconds = draw(scale, network, process, predict, scale.evaluations)
            what = f"{network.label}, {name}, {path}: {scale.evaluations} evaluations"
            rows.append(row(what, network.batch / seconds, "images/s"))
    return rows


def draw(
    scale: Scale,
    network: Network,
    process: DiffusionProcess,
    predict: NetworkRunner,
    evaluations: int,
    count: int | None = None,
) -> float:
    """Seconds that it takes to draw a batch."""
    count = network.batch if count is None else count
    rng = torch.Generator(scale.device).manual_seed(0)
    start = torch.zeros(count, *process.state_shape, device=scale.device)
    wait(scale.device)
    began = time.perf_counter()
    sample(process, predict, count, rng, evaluations=evaluations, start=start)
    wait(scale.device)
    return time.perf_counter() - began


# Precision


def precision(scale: Scale) -> list[Row]:
    """bf16 against fp32: gradients of one batch, losses of a training, time of a step."""
    network, rows = scale.networks[0], []
    for name in ("ddpm", "kuramoto local"):
        process = process_of(scale, network, name)
        losses, gradients, seconds = {}, {}, {}
        for bf16 in (False, True):
            made = build(scale, network, process)
            predict = NetworkRunner(made, scale.device, bf16=bf16, compiled=False)
            optimizer = make_optimizer(made, 2e-4, 0.01)
            rng = torch.Generator(scale.device).manual_seed(0)
            batches = process.training_batches(pictures(process, scale.device), network.batch, rng)
            found = []
            for turn in range(scale.trained):
                batch = next(batches)
                if turn == scale.trained // 4:
                    wait(scale.device)
                    began = time.perf_counter()
                optimizer.zero_grad(set_to_none=True)
                found.append(accumulate_gradients(predict, batch, network.batch))
                if turn == 0:
                    gradients[bf16] = torch.cat(
                        [each.grad.flatten() for each in made.parameters() if each.grad is not None]
                    )
                optimizer.step()
            wait(scale.device)
            seconds[bf16] = time.perf_counter() - began
            losses[bf16] = torch.stack(found[scale.trained // 2 :]).mean().item()
        apart = float((gradients[True] - gradients[False]).norm() / gradients[False].norm())
        label = f"{network.label}, {name}"
        rows += [
            row(f"{label}: gradients of bf16 apart, relative", apart, "", 0.05),
            row(f"{label}: loss of bf16 apart, relative", abs(losses[True] / losses[False] - 1), "",
                0.05),
            row(f"{label}: step of bf16 over fp32", seconds[True] / seconds[False], ""),
        ]  # fmt: skip
    return rows


# Compiling


def compiling(scale: Scale) -> list[Row]:
    """Seconds that compiling takes, what it gains, and that it is done once."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()  # of whatever this process has compiled before
    network, rows = scale.compiled, []
    process = process_of(scale, network, "kuramoto local")
    turns = {}
    for path in ("plain", "fast"):
        turns[path] = Turn(process, network.sizes, network.batch, scale.device, path)
        began = time.perf_counter()
        turns[path]()
        if path == "fast":
            rows.append(
                row(f"{network.label}: first training step", time.perf_counter() - began, "s")
            )
    taken: dict[str, list[tuple[float, float]]] = {path: [] for path in turns}
    for index in range(scale.rounds + 1):
        for path, turn in turns.items():
            pairs = [turn() for _ in range(POOL)]
            if index:
                taken[path] += pairs
    plain, fast = (sum(whole for whole, _ in taken[path]) for path in turns)
    rows.append(row(f"{network.label}: compiled bf16 step over plain fp32", fast / plain, ""))
    outside = sum(making for _, making in taken["fast"]) / fast
    rows.append(row(f"{network.label}: kuramoto local, outside the compiled network", outside, "",
                    0.05))  # fmt: skip
    graphs = counters["stats"]["unique_graphs"]
    rows.append(row(f"{network.label}: graphs of a training", graphs, "", 1))
    made = build(scale, network, process).eval()
    predict = NetworkRunner(made, scale.device, bf16=True, compiled=True)
    first = draw(scale, network, process, predict, 1)
    rows.append(row(f"{network.label}: first evaluation", first, "s"))
    for count in (network.batch, network.batch - 1):
        draw(scale, network, process, predict, 3, count)
    # The runner resets the compiler, and its counts with it, or not, as torch has it.
    more = counters["stats"]["unique_graphs"] - graphs
    rows.append(row(f"{network.label}: graphs of a sampling", more, "", 1))
    rows.append(row("graph breaks", sum(counters["graph_break"].values()), "", 0))
    if predict.precision != "bf16-compiled":
        rows.append(row("networks that could not be compiled", 1, "", 0))
    return rows


# Memory


def estimated_bytes(
    scale: Scale, network: Network, process: DiffusionProcess, made: nn.Module
) -> float:
    """What a training step should need at most.

    Per weight 20 bytes: itself, its gradient, two moments, its average. Per chain of the pool 8
    bytes a pixel. What the forward pass keeps for the backward one, counted on two samples.
    """
    weights = sum(each.numel() for each in made.parameters())
    own = {each.untyped_storage().data_ptr() for each in made.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    state = torch.zeros(2, *process.state_shape, device=scale.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = made(state, torch.ones(2, dtype=torch.int64, device=scale.device)).square().mean()
    loss.backward()
    made.zero_grad(set_to_none=True)
    pool = 8 * POOL * network.batch * math.prod(process.state_shape)
    return 20 * weights + sum(kept.values()) * network.batch / 2 + pool


def memory(scale: Scale) -> list[Row]:
    """Peak memory of training steps over the estimate."""
    estimate_and_peak(scale, scale_of("tiny", str(scale.device)).compiled)  # what torch loads late
    rows = []
    for network in scale.networks:
        estimate, peak = estimate_and_peak(scale, network)
        rows += [
            row(f"{network.label}: estimate", estimate / MIB, "MiB"),
            row(f"{network.label}: peak", peak / MIB, "MiB"),
            row(f"{network.label}: peak over estimate", peak / estimate, "", 1.5),
        ]
    return rows


def estimate_and_peak(scale: Scale, network: Network) -> tuple[float, float]:
    """Bytes, of some training steps."""
    process = process_of(scale, network, "kuramoto local")
    made = build(scale, network, process)
    estimate = estimated_bytes(scale, network, process, made)
    before = _peak(scale.device, reset=True)
    average, optimizer = AveragedModel(made), make_optimizer(made, 1e-4, 0.01)
    rng = torch.Generator(scale.device).manual_seed(0)
    batches = process.training_batches(pictures(process, scale.device), network.batch, rng)
    predict = NetworkRunner(made, scale.device, bf16=False, compiled=False)
    for batch in islice(batches, 3):
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(predict, batch, network.batch)
        optimizer.step()
        update_average(average, made, 0.99)
    wait(scale.device)
    return estimate, _peak(scale.device) - before


def _peak(device: torch.device, *, reset: bool = False) -> float:
    """Bytes: of a GPU's allocator, its weights included; of a CPU's process, since it began."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
            return 0.0
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Exchange


@contextmanager
def alone(device: torch.device) -> Iterator[str]:
    """A group of one process: NCCL on a GPU, gloo on a CPU."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
        )
        try:
            yield backend
        finally:
            dist.destroy_process_group()


class _Nowhere:
    """Checkpoints and a history that nobody reads."""

    def load_latest(self, check: Callable[[Any], None]) -> None:
        """There is none."""

    def save(self, iteration: int, state: Any) -> None:
        """Forget it."""

    def append(self, record: Any) -> None:
        """Forget it."""


def _lost(device: torch.device) -> int:
    """Messages of the kinds that trainings send, which one sends itself and does not get."""
    total = torch.arange(4.0, device=device)
    dist.all_reduce(total)
    arrived = [total.tolist() == [0, 1, 2, 3]]
    if importlib.util.find_spec("numpy") is not None:  # else torch cannot send objects
        box: list[Any] = [{"iteration": 3, "weights": torch.ones(2)}]
        dist.broadcast_object_list(box, src=0)
        gathered: list[Any] = [None]
        dist.gather_object({"rank": 0}, gathered)
        arrived += [box[0]["iteration"] == 3, gathered == [{"rank": 0}]]
    return arrived.count(False)


def exchange(scale: Scale) -> list[Row]:
    """What workers of a training say to each other, said by one alone."""
    network, device = scale.networks[0], scale.device
    process = process_of(scale, network, "kuramoto local")
    with alone(device) as backend:
        lost = _lost(device)
        gradients = []
        for wrapped in (False, True):
            made = build(scale, network, process)
            model = DistributedDataParallel(made, forward_sync_buffers=False) if wrapped else made
            predict = NetworkRunner(model, device, bf16=False, compiled=False)
            rng = torch.Generator(device).manual_seed(0)
            source = pictures(process, device)
            batch = next(process.training_batches(source, network.batch, rng))
            without = model.no_sync if wrapped else None
            more = (without,) if without is not None else ()
            accumulate_gradients(predict, batch, max(1, network.batch // 2), *more)
            gradients.append(
                torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
            )
        apart = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
        began = time.perf_counter()
        trained = train(
            process,
            build(scale, network, process),
            torch.zeros(64, *process.shape, dtype=torch.uint8),
            TrainingOptions(
                iterations=6, batch_size=network.batch, learning_rate=1e-4, weight_decay=0.01,
                warmup=2, gradient_clip=1.0, ema_decay=0.9, checkpoint_every=3, log_every=2,
                fast=False,
            ),
            seed=0,
            device=device,
            checkpoints=_Nowhere(),  # type: ignore[arg-type]
            history=lambda _: _Nowhere(),  # type: ignore[arg-type, return-value]
        )  # fmt: skip
        wait(device)
    return [
        row(f"{backend}: messages that did not arrive", lost, "", 0),
        row(f"{backend}: gradients of DDP apart, relative", apart, "", 1e-4),
        row(f"{backend}: a training of 6 steps", time.perf_counter() - began, "s"),
        row(f"{backend}: its loss", trained.loss, "", 10),
    ]


PARTS: dict[str, Callable[[Scale], list[Row]]] = {
    "agreement": agreement,
    "steps": steps,
    "sampling": sampling,
    "precision": precision,
    "compiling": compiling,
    "memory": memory,
    "exchange": exchange,
}
