"""What decides how many vortices a model makes of the XY model: levels, prior, sampler, training.

Fields below the Kosterlitz-Thouless transition hold few vortices, and models make several times as
many. Trains small models as the laptop profile of `angles` does, but for what each of them changes,
draws from them in several ways, and prints a line for each: vortices over those of held-out fields,
the difference of the energy, and the correlation distance, beside the same of training fields (the
floor):

    python benchmarks/xy_quality.py --models base wrapped --seeds 0 1 2 --json rows.jsonl

`--json` adds the lines to a file, one JSON object each. Of that file `docs/make_tables.py` makes
the tables in docs/angles.md.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kod_bench.data.xy_model import draw_fields
from kod_bench.diffusion import DiffusionProcess, make_process, run_forward, sample
from kod_bench.diffusion.run import forward_over
from kod_bench.evaluation.angles import (
    AngleStatistics,
    correlation_distance,
    energy,
    vortex_density,
)
from kod_bench.networks import make_network, place
from kod_bench.training.average import update_average
from kod_bench.training.optimizer import make_optimizer

STEPS = 100
LOCAL: dict[str, Any] = {
    "coupling": "local",
    "neighbourhood_radius": 1,
    "coupling_ratio": 0.9,
    "reference_ratio": 0.0,
}
ALONE: dict[str, Any] = {"coupling": "none", "reference_ratio": 0.0}
ENDS = ("matched", "correlated")
#: Ancestral steps of so many forward ones, each of which is undone by forward steps and made again
#: where it ends between two levels, so many times (arXiv 2306.14878): length, levels, times.
RESTARTS = {"restarts of 8": (8, 16, 60, 2), "restarts of 5": (5, 20, 70, 1)}


@dataclass(frozen=True)
class Model:
    """What is trained, how, and from where and how it is sampled; defaults are the profile's."""

    process: str = "kuramoto"
    parameters: dict[str, Any] = field(default_factory=lambda: LOCAL)
    priors: tuple[str, ...] = ENDS
    samplers: tuple[str, ...] = ("ancestral",)
    learning_rate: float = 1e-3
    decay: bool = False  # of the learning rate, to nothing, by a half cosine after the warm-up
    iterations: int = 500
    batch_size: int = 32
    padding: str = "zeros"


def local(**changes: Any) -> dict[str, Any]:
    """Parameters of local coupling, changed."""
    return LOCAL | changes


MODELS = {
    "base": Model(samplers=("ancestral", "heun")),
    "lr 3e-3": Model(learning_rate=3e-3, priors=(*ENDS, "forward")),
    "lr 3e-3, no noise": Model(
        learning_rate=3e-3, priors=("correlated",), samplers=("heun", "probability-flow")
    ),
    "lr 3e-3, restarts": Model(
        learning_rate=3e-3, priors=("correlated",), samplers=tuple(RESTARTS)
    ),
    "base, made again": Model(samplers=("ancestral", "restart")),
    "wrapped, made again": Model("wrapped", {}, ("uniform",), ("ancestral", "restart")),
    "lr 3e-3, variance analytic": Model(
        parameters=local(variance="analytic"), learning_rate=3e-3, priors=("correlated",)
    ),
    "lr 3e-3, variance forward": Model(
        parameters=local(variance="forward"), learning_rate=3e-3, priors=("correlated",)
    ),
    "batch 8": Model(iterations=2000, batch_size=8),
    "batch 8, lr 3e-3": Model(iterations=2000, batch_size=8, learning_rate=3e-3),
    "batch 8, lr 3e-3, decay": Model(iterations=2000, batch_size=8, learning_rate=3e-3, decay=True),
    "lr 3e-3, torus": Model(learning_rate=3e-3, padding="torus"),
    "lr 3e-3, decay": Model(learning_rate=3e-3, decay=True),
    "lr 6e-3, decay": Model(learning_rate=6e-3, decay=True),
    "torus": Model(padding="torus"),
    "lr 3e-3, ratio 1.5": Model(parameters=local(coupling_ratio=1.5), learning_rate=3e-3),
    "lr 3e-3, conditional": Model(parameters=local(target="conditional"), learning_rate=3e-3),
    "lr 3e-3, likelihood": Model(parameters=local(loss_weight="likelihood"), learning_rate=3e-3),
    "lr 3e-3, ramp quadratic": Model(parameters=local(ramp="quadratic"), learning_rate=3e-3),
    "lr 3e-3, ramp cosine": Model(parameters=local(ramp="cosine"), learning_rate=3e-3),
    "lr 3e-3, thrice as long": Model(learning_rate=3e-3, iterations=1500),
    "wrapped, noise": Model("wrapped", {"level_weight": "noise"}, ("uniform",)),
    "wrapped, unit": Model("wrapped", {"level_weight": "unit"}, ("uniform",)),
    "wrapped, likelihood": Model("wrapped", {"level_weight": "likelihood"}, ("uniform",)),
    "wrapped, rho 3": Model("wrapped", {"rho": 3.0}, ("uniform",)),
    "torus-flow": Model("torus-flow", {}, ("uniform",), ("euler", "heun")),
    "wrapped, thrice as long": Model("wrapped", {}, ("uniform",), iterations=1500),
    "torus-flow, thrice as long": Model(
        "torus-flow", {}, ("uniform",), ("euler",), iterations=1500
    ),
    "base, thrice as long": Model(iterations=1500),
    "base, thrice as long, analytic": Model(
        parameters=local(variance="analytic"), iterations=1500, samplers=("ancestral", "restart")
    ),
    "alone": Model(parameters=ALONE, priors=("matched",)),
}


@dataclass(frozen=True)
class Fields:
    """Of the XY model, (N, 1, L, L) radians."""

    training: Tensor
    held_out: Tensor

    @classmethod
    def drawn(cls, size: int, temperature: float, chains: int) -> "Fields":
        """Twenty of each chain; those held out are of others."""
        training, held_out = (
            torch.from_numpy(
                draw_fields(size, temperature, number, 20, np.random.default_rng(seed))
            ).reshape(-1, 1, size, size)
            for number, seed in ((chains, 0), (max(2, chains // 5), 1))
        )
        return cls(training, held_out)


def trained(
    model: Model, process: DiffusionProcess, data: Tensor, seed: int
) -> tuple[nn.Module, float]:
    """The mean of a network's weights on the way, as a trial has it, and the seconds it took."""
    generator = torch.Generator().manual_seed(seed)

    def images(count: int) -> Tensor:
        return data[torch.randint(len(data), (count,), generator=generator)] / math.pi

    process.fit(images, generator)
    torch.manual_seed(seed)
    network = make_network(
        periodic=process.periodic,
        channels=process.state_shape[0],
        image_size=process.shape[1],
        steps=STEPS,
        width=16,
        multipliers=(1, 2, 2),
        blocks=1,
        padding=model.padding,
    )
    place(network, torch.device("cpu"))
    mean = torch.optim.swa_utils.AveragedModel(network)
    optimizer = make_optimizer(network, model.learning_rate, weight_decay=0.01)
    warmup, end, began = 50, model.iterations, time.process_time()
    for iteration, batch in enumerate(
        islice(process.training_batches(images, model.batch_size, generator), end), 1
    ):
        rate = model.learning_rate * min(1.0, iteration / warmup)
        if model.decay and iteration > warmup:
            rate *= (1 + math.cos(math.pi * (iteration - warmup) / (end - warmup))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = (batch.weight * (network(batch.state, batch.step) - batch.target).square()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        update_average(mean, network, 0.998)
    return mean.module.eval(), time.process_time() - began


@torch.no_grad()
def rows(
    name: str, fields: Fields, seed: int, samples: int, evaluations: list[int]
) -> Iterator[dict[str, Any]]:
    """What a model's samples are, by every way of drawing them."""
    model, known = MODELS[name], AngleStatistics.of(fields.held_out)
    process = make_process(
        model.process,
        shape=tuple(fields.training.shape[1:]),
        steps=STEPS,
        reading="angle",
        **model.parameters,
    )
    with torch.enable_grad():
        network, seconds = trained(model, process, fields.training, seed)
    for prior, sampler, asked in product(model.priors, model.samplers, evaluations):
        generator = torch.Generator().manual_seed(seed + 1)
        if prior == "forward":
            begun = fields.held_out[torch.arange(samples) % len(fields.held_out)] / math.pi
            start = run_forward(process, begun, generator)
        else:
            start = process.prior(samples, generator, prior)
        if sampler in RESTARTS:
            drawn, asked = with_restarts(process, network, start, generator, *RESTARTS[sampler])
        else:
            drawn = sample(
                process,
                network,
                samples,
                generator,
                start=start,
                sampler=sampler,
                evaluations=asked,
            )
        way = {"prior": prior, "sampler": sampler, "evaluations": asked}
        said = {"model": name, "seed": seed, "iterations": model.iterations}
        scores = scored(AngleStatistics.of(math.pi * drawn), known)
        yield said | {"seconds": round(seconds, 1)} | way | scores


def with_restarts(
    process: DiffusionProcess,
    network: nn.Module,
    state: Tensor,
    generator: torch.Generator,
    length: int,
    lowest: int,
    highest: int,
    times: int,
) -> tuple[Tensor, int]:
    """Images, and how often the network was asked; see `RESTARTS`."""
    asked = 0

    def back(state: Tensor, step: int, to: int) -> Tensor:
        nonlocal asked
        asked += 1
        prediction = network(state, torch.full((len(state),), step))
        return process.reverse_step(state, step, to, prediction, generator)

    step = process.steps
    while step > 0:
        to = max(0, step - length)
        state = back(state, step, to)
        for _ in range(times if lowest <= to <= highest else 0):
            state = forward_over(process, state, range(to + 1, to + length + 1), generator)
            state = back(state, to + length, to)
        step = to
    return process.decode(state), asked


def scored(found: AngleStatistics, known: AngleStatistics) -> dict[str, float]:
    """Columns as rows of sweeps have them, and vortices over those there should be."""
    return {
        "vortex_density": round(vortex_density(found), 5),
        "vortex_ratio": round(vortex_density(found) / vortex_density(known), 3),
        "energy_difference": round(energy(found) - energy(known), 4),
        "correlation_distance": round(correlation_distance(found, known), 4),
    }


def main() -> None:
    """Train, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--chains", type=int, default=125)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[100, 25])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the lines there, too")
    options = parser.parse_args()
    fields = Fields.drawn(options.size, options.temperature, options.chains)
    known = AngleStatistics.of(fields.held_out)
    floor = scored(AngleStatistics.of(fields.training[: options.samples]), known)
    print(f"T {options.temperature}: vortices {vortex_density(known):.5f}, floor {floor}")
    for name, seed in product(options.models, options.seeds):
        for row in rows(name, fields, seed, options.samples, options.evaluations):
            print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            if options.json is not None:
                with options.json.open("a", encoding="utf-8") as file:
                    told = {"size": options.size, "temperature": options.temperature}
                    file.write(json.dumps(told | row) + "\n")


if __name__ == "__main__":
    main()
