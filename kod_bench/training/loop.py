"""The training loop: any process, any network, one process or DDP.

Under ``torch.distributed`` every rank calls `train` with the same arguments; each draws its own
share of the batch from its own random stream, and rank 0 alone writes files and reports.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from kod_bench.diffusion import DiffusionProcess
from kod_bench.networks import UseFast, make_runner, place
from kod_bench.training.average import update_average
from kod_bench.training.checkpoint import CheckpointStore
from kod_bench.training.gradients import accumulate_gradients
from kod_bench.training.history import History
from kod_bench.training.memory import TooLittleMemoryError, is_out_of_memory
from kod_bench.training.optimizer import load_optimizer, make_optimizer
from kod_bench.training.ranks import from_first, rank_and_world, settle_buckets, sum_over_ranks
from kod_bench.training.saving import CheckpointWriter, Record
from kod_bench.training.state import check_average, check_state
from kod_bench.training.streams import Position, Streams, Unlogged, can_go_on, gather_states

#: Losses are in noise units and start near 1; a hundred times that never comes back.
EXPLODED = 100.0


class DivergedError(RuntimeError):
    """Training produced a loss that is not finite, or far above that of an untrained network."""


class PrunedError(Exception):
    """Training was given up at a rung, of whose iteration there is a checkpoint.

    Args:
        iteration: of the rung.
    """

    def __init__(self, iteration: int) -> None:
        super().__init__(f"pruned at iteration {iteration}")
        self.iteration = iteration


class StoppedError(Exception):
    """Training was asked to stop before its end. Its checkpoint is of the iteration it reached."""


@dataclass(frozen=True)
class TrainingOptions:
    """What the optimiser does. `batch_size` counts all workers together."""

    iterations: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup: int
    gradient_clip: float
    ema_decay: float
    checkpoint_every: int
    log_every: int
    fast: UseFast = "auto"  # see `kod_bench.networks.runner`
    micro_batch_size: int | None = None  # samples one worker takes at once; None: all its share


@dataclass(frozen=True)
class Progress:
    """What a watcher sees of a running training."""

    iteration: int
    iterations: int
    loss: float
    iterations_per_second: float


@dataclass(frozen=True)
class TrainedModel:
    """The result of `train`: the EMA network and what it cost."""

    network: nn.Module
    loss: float
    seconds: float
    resumed_from: int  # iteration at which the last attempt continued, 0 if it was the first
    images_seen: int  # training images drawn, repetitions included, by all workers
    precisions: tuple[str, ...]  # used, in order; more than one if it was continued elsewhere
    micro_batch_size: int | None  # last used; None: by a version that did not record it
    exact: bool | None  # no interruption left a trace; None: by a version that did not record it


def pick_device(*, gpu: bool) -> torch.device:
    """The GPU that was assigned to this process if it has been given one, or the CPU."""
    if gpu and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def train(
    process: DiffusionProcess,
    network: nn.Module,
    images: Tensor,
    options: TrainingOptions,
    *,
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
    history: Callable[[int], History],
    on_progress: Callable[[Progress], None] = lambda _: None,
    augment: Sequence[str] = (),
    should_stop: Callable[[], bool] = lambda: False,
    rungs: Sequence[int] = (),
    goes_on: Callable[[int, nn.Module], bool] = lambda iteration, network: True,
) -> TrainedModel:
    """Train `network` for `process`, continuing from the newest checkpoint if there is one.

    Minimises ``mean(weight (prediction - target)^2)`` with AdamW, a linear warm-up, gradient
    clipping and an exponential moving average of the weights (decay min(rate, (1+n)/(10+n)), so
    that the first iterations are forgotten). `TrainingOptions.fast` decides how the network is
    run; checkpoints are the same either way.

    Args:
        process: where training batches come from.
        network: its initial weights; moved to `device` and trained in place.
        images: (N, C, H, W) uint8 training images.
        options: see `TrainingOptions`.
        seed: of all randomness here. A continued run takes up the random streams where they were
            and is equal to an uninterrupted one, to the bit on a CPU, unless `TrainedModel.exact`
            says that it could not: then it drew from streams of its own, reproducibly.
        device: where to train.
        checkpoints: read at the start, written every `checkpoint_every` iterations.
        history: opens the history, given the iteration that is continued from.
        on_progress: called about every `log_every` iterations, by every rank, because Ray Train
            wants the reports of all workers.
        augment: random changes of the images; see `ShuffledImages`.
        should_stop: asked at every log interval, of every rank; one True stops all of them.
        rungs: iterations at which `goes_on` is asked, after a checkpoint has been written. Its time
            is no training time.
        goes_on: given the iteration and the EMA network, on rank 0, whether to train on.

    Returns:
        The EMA network, its last mean loss, and the seconds of training (earlier parts of a
        continued run included).

    Raises:
        DivergedError: at the first log interval whose mean loss is not finite or exceeds
            `EXPLODED`, or in which a gradient was not finite; its weights are never saved.
        PrunedError: if `goes_on` said no.
        StoppedError: if it was asked to stop, after a checkpoint has been written.
        TooLittleMemoryError: if a training step does not fit into memory.
        ValueError: if the workers cannot share the batch evenly.
    """
    rank, world = rank_and_world()
    if options.batch_size % world:
        raise ValueError(f"batch_size {options.batch_size} cannot be shared by {world} workers")
    share = options.batch_size // world
    micro_batch_size = min(options.micro_batch_size or share, share)

    if device.type == "cuda":
        torch.cuda.set_device(device)  # what NCCL's collectives on objects use
    network = place(network, device)
    average = AveragedModel(network)
    optimizer = make_optimizer(network, options.learning_rate, options.weight_decay)
    start, spent, loss, resumed_from, seen = 0, 0.0, math.nan, 0, 0
    precisions: tuple[str, ...] = ()
    state = from_first(
        checkpoints.load_latest(lambda found: check_state(found, network, average))
        if rank == 0
        else None
    )
    if state is not None:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        load_optimizer(optimizer, state["optimizer"])
        start, spent, loss = state["iteration"], state["seconds"], state["loss"]
        seen, precisions = state["images_seen"], _precisions(state)
        # A run found complete was not resumed: what its last part continued from is on record.
        resumed_from = start if start < options.iterations else state["resumed_from"]
    devices = [device] if device.type == "cuda" else []

    def make_streams() -> Streams:
        return Streams(
            process.shard(world), images, share, augment, Position(seed, rank, start), device
        )

    def judge(iteration: int) -> None:
        verdict = [True]
        if rank == 0:
            average.module.eval()
            with torch.random.fork_rng(devices=devices):  # it is not asked again by who resumes
                verdict = [goes_on(iteration, average.module)]
            average.module.train()
        if world > 1:
            dist.broadcast_object_list(verdict, src=0)
        if not verdict[0]:
            raise PrunedError(iteration)

    if start in rungs:
        judge(start)  # unless it has been asked, an earlier attempt ended while it was

    with (
        torch.random.fork_rng(devices=devices),
        CheckpointWriter(checkpoints) as writer,
    ):
        streams = make_streams()
        exact: bool | None = True
        if state is not None:
            exact = state.get("exact")
            if start < options.iterations:
                exact = exact is True and state.get("micro_batch_size") == micro_batch_size
                if not can_go_on(streams, state.pop("streams", None)):
                    streams, exact = make_streams(), False
        last = start if streams.unlogged is None else streams.unlogged.after
        record = Record(history(last) if rank == 0 else None, writer)
        model = network
        without_exchange: Callable[[], AbstractContextManager[None]] = nullcontext
        if world > 1:
            # The only buffers are constants of the process, equal on all ranks from the start.
            model = DistributedDataParallel(network, forward_sync_buffers=False)
            without_exchange = model.no_sync
        model.train()
        predict = make_runner(model, device, options.fast)
        began = marked = time.monotonic()
        total = torch.zeros((), device=device)  # read only when logging: no sync per step
        if streams.unlogged is not None:
            total += streams.unlogged.loss_sum.to(device)
        for iteration in range(start + 1, options.iterations + 1):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * min(1.0, iteration / max(1, options.warmup))
            optimizer.zero_grad(set_to_none=True)
            try:
                if iteration == start + 1:
                    settle_buckets(predict, model, micro_batch_size, process.state_shape)
                total += accumulate_gradients(
                    predict, next(streams.batches), micro_batch_size, without_exchange
                )
                norm = nn.utils.clip_grad_norm_(network.parameters(), options.gradient_clip)
                # The loss is that of the weights before this step. If the step is not finite, nor
                # is the loss: weights that it has spoiled must not be saved.
                total += 0 * norm
                optimizer.step()
                update_average(average, network, options.ema_decay)
            except Exception as error:
                # A step half made is no harm: what goes on begins at a checkpoint.
                if is_out_of_memory(error):
                    raise TooLittleMemoryError(micro_batch_size, error) from None
                raise

            on_grid = iteration % options.checkpoint_every == 0 or iteration in rungs
            checkpoint_due = on_grid or iteration == options.iterations
            log_due = on_grid or iteration % options.log_every == 0
            if checkpoint_due or log_due:
                stop = should_stop() and iteration < options.iterations
                streams.unlogged = None
                if not log_due:  # but for its end: one that goes on later has no line here
                    streams.unlogged = Unlogged(last, total.clone())
                if world > 1:
                    shared = torch.stack([total, total.new_tensor(float(stop))])
                    dist.all_reduce(shared)
                    total, stop = shared[0] / world, bool(shared[1])
                loss = total.item() / (iteration - last)
                _check(loss, iteration)
                now = time.monotonic()
                speed = (iteration - max(last, start)) / max(now - marked, 1e-9)
                seconds = spent + now - began
                total.zero_()
                last, marked = iteration, now
                record.add(
                    {
                        "iteration": iteration,
                        "loss": loss,
                        "seconds": seconds,
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "images_per_second": speed * options.batch_size,
                    }
                )
                on_progress(Progress(iteration, options.iterations, loss, speed))
                if predict.precision not in precisions:
                    precisions += (predict.precision,)
                if checkpoint_due or stop:
                    drawn = sum_over_ranks(streams.source.drawn, device)
                    states = gather_states(streams)
                    if rank == 0:
                        written = {
                            "iteration": iteration,
                            "seconds": seconds,
                            "loss": loss,
                            "resumed_from": resumed_from,
                            "images_seen": seen + drawn,
                            "precisions": list(precisions),
                            "micro_batch_size": micro_batch_size,
                            "exact": exact,
                            "network": network.state_dict(),
                            "average": average.state_dict(),
                            "optimizer": optimizer.state_dict(),
                        }
                        record.write()  # before the checkpoint: one behind it would have gaps
                        writer.save(iteration, written, {"streams": states})
                if stop:
                    writer.wait()
                    raise StoppedError(f"stopped at iteration {iteration}")
                if iteration in rungs:
                    writer.wait()
                    paused = time.monotonic()
                    judge(iteration)
                    paused = time.monotonic() - paused
                    began, marked = began + paused, marked + paused
        record.write()
        spent += time.monotonic() - began
        seen += sum_over_ranks(streams.source.drawn, device)
    average.module.eval()
    # A run found complete trained nothing here: what its last part took at once is on record.
    taken: int | None = micro_batch_size
    if state is not None and start >= options.iterations:
        taken = state.get("micro_batch_size")
    return TrainedModel(average.module, loss, spent, resumed_from, seen, precisions, taken, exact)


def load_trained(
    network: nn.Module, checkpoints: CheckpointStore, iterations: int, device: torch.device
) -> TrainedModel:
    """Read the EMA network that other processes have trained to the end.

    Raises:
        RuntimeError: if the newest readable checkpoint is not the last one. Training the rest
            here would give a model of one worker the name of one of several.
    """
    average = AveragedModel(network)
    state = checkpoints.load_latest(lambda found: check_average(found, average))
    if state is None or state["iteration"] != iterations:
        found = "none" if state is None else f"one of iteration {state['iteration']}"
        raise RuntimeError(
            f"{checkpoints.folder}: the workers' last checkpoint (iteration {iterations}) cannot "
            f"be read here, found {found}; several workers need a disk that all nodes share"
        )
    average.load_state_dict(state["average"])
    place(average.module, device).eval()
    return TrainedModel(
        average.module,
        state["loss"],
        state["seconds"],
        state["resumed_from"],
        state["images_seen"],
        _precisions(state),
        state.get("micro_batch_size"),
        state.get("exact"),
    )


def _precisions(state: dict[str, Any]) -> tuple[str, ...]:
    # Checkpoints written before precisions were recorded do not say.
    return tuple(state.get("precisions", ()))


def _check(loss: float, iteration: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"loss is {loss} at iteration {iteration}; lower learning_rate or gradient_clip"
        )
    if loss > EXPLODED:
        raise DivergedError(
            f"loss exploded to {loss:.3g} at iteration {iteration} (an untrained network has "
            "about 1); lower learning_rate or gradient_clip"
        )
