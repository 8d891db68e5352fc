"""Draws one shard of samples from a trained model: a batch that depends on nothing else drawn."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kod_bench.diffusion import DiffusionProcess, run_forward, sample, to_unit
from kod_bench.results import FORWARD_START
from kod_bench.sampling.shards import Way
from kod_bench.seeds import derive_seed

#: Called with a step t and the states there.
Observer = Callable[[int, Tensor], None]
#: (B, C, H, W) states and (B,) steps -> (B, C, H, W) predictions.
Predictor = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """What samples are drawn from.

    Attributes:
        process: fitted, to be reversed.
        predict: the trained network.
        held_out: (N, C, H, W) images as they are stored, at whose forward chains' ends
            `FORWARD_START` begins.
        seed: of all draws.
        device: where to draw.
        in_order: whether chains begin at the images as they come, for those that somebody has
            chosen; else in an order of its own, which makes any prefix a fair sample.
    """

    process: DiffusionProcess
    predict: Predictor
    held_out: Tensor
    seed: int
    device: torch.device
    in_order: bool = False


@torch.no_grad()
def draw_shard(
    source: Source,
    way: Way,
    index: int,
    size: int,
    *,
    on_start: Observer | None = None,
    on_step: Observer | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> Tensor:
    """Draw shard number `index` of a way.

    It depends on the source, the way, its size and its number alone: it has a stream of random
    numbers of its own. So it must be drawn whole where only some of its images are wanted, since
    torch's 15 random numbers are not the first 15 of 16.

    Args:
        source: what to draw from.
        way: how.
        index: from 0.
        size: images of every shard.
        on_start: called with T and the states x_T.
        on_step: called after each reverse step.
        on_call: called after each evaluation of the network; what it raises ends the drawing.

    Returns:
        (size, C, H, W) float32 images in [-1, 1], on the source's device; of angles, theta / pi.

    Raises:
        ValueError: if the process has no such way.
    """
    process = source.process
    generator = torch.Generator(source.device).manual_seed(
        derive_seed(source.seed, "sample", index)
    )
    start = _start(source, way.prior, size * index, size, generator)
    if on_start is not None:
        on_start(process.steps, start)

    def ask(state: Tensor, step: Tensor) -> Tensor:
        prediction = source.predict(state, step)
        on_call()
        return prediction

    return sample(
        process,
        ask,
        size,
        generator,
        sampler=way.sampler,
        evaluations=way.network_evaluations,
        start=start,
        on_step=on_step,
    )


def weights_hash(network: nn.Module) -> str:
    """Hash of a network's parameters and buffers, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        # Weights in channels_last are other bytes of equal numbers; bf16 is no type of numpy's.
        plain = value.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _start(
    source: Source, prior: str, first: int, count: int, generator: torch.Generator
) -> Tensor:
    """States x_T: draws of a prior, or the ends of held-out images' chains, from number `first`."""
    if prior != FORWARD_START:
        return source.process.prior(count, generator, prior)
    held_out = source.held_out
    shuffle = torch.Generator().manual_seed(derive_seed(0, "forward-start"))
    order = torch.randperm(len(held_out), generator=shuffle)
    if source.in_order:
        order = torch.arange(len(held_out))
    chosen = order[torch.arange(first, first + count) % len(order)]
    images = to_unit(held_out[chosen].to(generator.device))
    return run_forward(source.process, images, generator)
