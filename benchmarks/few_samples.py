"""Which metric ranks worse samples below better ones when there are few: MIND, KID, FID-infinity.

Real images are made worse in five ways, each in three grades, and n of each grade are scored
against n other real images. A metric is right where of two grades of one way the worse has the
higher score. Drawn anew each time: the references, which the grades share, and the images of each
grade.

    python benchmarks/few_samples.py                          # synthetic prints, built in
    python benchmarks/few_samples.py --dataset cifar10 --data-dir CIFAR --features inception

writes into results/reference/few-samples/power.json one record per data set, extractor, way, n and
metric, in place of those of an earlier run: how many pairs of neighbouring grades were in order, of
how many, and the same of all pairs. `docs/make_tables.py` makes the table of docs/metrics.md of it.
Minutes on one CPU core.
"""

import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from kod_bench.data import DatasetOptions, load_dataset
from kod_bench.evaluation import make_extractor
from kod_bench.evaluation.frechet import fid
from kod_bench.evaluation.kernel import kid
from kod_bench.evaluation.sliced import mind
from kod_bench.storage import parse_location

OUTPUT = Path(__file__).parents[1] / "results" / "reference" / "few-samples" / "power.json"

Array = np.ndarray
#: How often n samples of every grade are drawn.
REPEATS = {200: 24, 500: 16, 2000: 4}
#: Sizes of the line that FID-infinity is the end of, from a fifth of the samples on. Its paper
#: takes 15 from 5,000 on, of 50,000.
POINTS = 4
#: Grades, from none on.
BLUR = (0.0, 0.3, 0.4, 0.5)  # pixels
NOISE = (0.0, 3.0, 5.0, 7.0)  # gray levels
FOREIGN = (0.0, 0.01, 0.03, 0.06)  # share of uniform noise
MIXED = (0.0, 0.1, 0.25, 0.5)  # share of images of the heaviest blur
COPIES = (0.0, 0.3, 0.6, 0.8)  # share that are copies of others

SYNTHETIC = {"fingers": 70, "impressions": 2}


def blurred(images: Tensor, radius: float) -> Tensor:
    """Gaussian blur, standard deviation in pixels."""
    smooth = ndimage.gaussian_filter(images.numpy().astype(np.float32), (0, 0, radius, radius))
    return torch.from_numpy(smooth.round().clip(0, 255).astype(np.uint8))


def noisy(images: Tensor, std: float, seed: int) -> Tensor:
    """Gaussian noise, standard deviation in gray levels."""
    generator = torch.Generator().manual_seed(seed)
    noise = std * torch.randn(images.shape, generator=generator)
    return (images + noise).round().clamp(0, 255).to(torch.uint8)


class Pools:
    """Features of real images, and of others made worse, to draw from.

    Args:
        images: half of them are references, the others are made worse.
        extract: (N, C, H, W) uint8 -> (N, D).
    """

    def __init__(self, images: Tensor, extract: Callable[[Tensor], Array]) -> None:
        self.references = extract(images[::2])
        fresh = images[1::2]
        self.real = extract(fresh)
        self.blur = [self.real, *(extract(blurred(fresh, radius)) for radius in BLUR[1:])]
        self.noise = [
            self.real,
            *(extract(noisy(fresh, std, seed)) for seed, std in enumerate(NOISE[1:])),
        ]
        generator = torch.Generator().manual_seed(0)
        shape = (400, *fresh.shape[1:])
        self.foreign = extract(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))

    def draw(self, way: str, grade: int, count: int, generator: np.random.Generator) -> Array:
        """Features of so many images of a grade."""
        if way in ("blur", "noise"):
            pool = getattr(self, way)[grade]
            return pool[generator.choice(len(pool), count, replace=False)]
        chosen = self.real[generator.choice(len(self.real), count, replace=False)]
        if way == "copies":
            distinct = count - round(COPIES[grade] * count)
            return chosen[np.arange(count) % distinct]
        share, pool = (
            (FOREIGN[grade], self.foreign) if way == "foreign" else (MIXED[grade], self.blur[-1])
        )
        number = generator.binomial(count, share)
        chosen[:number] = pool[generator.choice(len(pool), number)]
        return chosen


WAYS = ("blur", "noise", "foreign", "mixed", "copies")


def fids(features: Array, reference: Array, generator: np.random.Generator) -> tuple[float, float]:
    """FID, and what it would be of infinitely many samples, by a line through several counts."""
    sizes = np.linspace(len(features) // 5, len(features), POINTS).astype(int)
    values = [
        fid(features[generator.choice(len(features), size, replace=False)], reference)
        for size in sizes
    ]
    line = np.polynomial.Polynomial.fit(1 / sizes, values, 1).convert()
    return values[-1], float(line.coef[0])


def scores(features: Array, reference: Array, generator: np.random.Generator) -> dict[str, float]:
    """By metric; lower should be better."""
    seed = int(generator.integers(2**31))
    finite, infinite = fids(features, reference, generator)
    return {
        "mind": mind(features, reference, seed),
        "kid": kid(features, reference, seed),
        "fid": finite,
        "fid_infinity": infinite,
    }


def ordered(pools: Pools, way: str, count: int, repeats: int) -> dict[str, Array]:
    """Scores by metric, (repeats, grades)."""
    generator = np.random.default_rng([WAYS.index(way), count])
    found: dict[str, list[list[float]]] = {}
    for _ in range(repeats):
        some = generator.choice(len(pools.references), count, replace=False)
        grades = [
            scores(pools.draw(way, grade, count, generator), pools.references[some], generator)
            for grade in range(len(BLUR))
        ]
        for metric in grades[0]:
            found.setdefault(metric, []).append([grade[metric] for grade in grades])
    return {metric: np.array(values) for metric, values in found.items()}


def record(values: Array) -> dict[str, int]:
    """How many pairs of grades were in order, of how many."""
    grades = values.shape[1]
    pairs = list(itertools.combinations(range(grades), 2))
    right = {pair: int((values[:, pair[0]] < values[:, pair[1]]).sum()) for pair in pairs}
    return {
        "neighbours_right": sum(right[pair] for pair in pairs if pair[1] == pair[0] + 1),
        "neighbours": len(values) * (grades - 1),
        "pairs_right": sum(right.values()),
        "pairs": len(values) * len(pairs),
    }


def main() -> None:
    """Measure, and put the records where the docs' table is made from."""
    parser = argparse.ArgumentParser(description="How often metrics of few samples rank rightly.")
    parser.add_argument("--dataset", default="fingerprints")
    parser.add_argument("--data-dir", help="of the data set; default: built in")
    parser.add_argument("--features", default="efficientnet-lite0")
    parser.add_argument("--images", type=int, default=4400, help="real ones, of both sides")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    options: dict[str, object] = {"name": asked.dataset, "image_size": 32}
    if asked.data_dir is None and asked.dataset == "fingerprints":
        options["synthetic"] = SYNTHETIC
    where = parse_location(asked.data_dir) if asked.data_dir else None
    dataset = load_dataset(DatasetOptions.model_validate(options), where)
    every = torch.cat([dataset.train, dataset.test])
    generator = torch.Generator().manual_seed(0)
    images = every[torch.randperm(len(every), generator=generator)[: asked.images]]
    counts = [count for count in REPEATS if count <= len(images) // 2]
    print(f"{dataset.name}: {len(images)} images, {asked.features}", flush=True)

    extractor = make_extractor(asked.features, torch.device("cpu"))

    def extract(some: Tensor) -> Array:
        return np.concatenate([np.asarray(extractor(part)) for part in some.split(256)])

    began = time.monotonic()
    pools = Pools(images, extract)
    print(f"features: {time.monotonic() - began:.0f} s", flush=True)
    made: list[dict[str, object]] = []
    for count, way in itertools.product(counts, WAYS):
        _save(made)
        for metric, values in ordered(pools, way, count, REPEATS[count]).items():
            made.append(
                {
                    "dataset": dataset.name,
                    "features": extractor.name,
                    "way": way,
                    "samples": count,
                    "metric": metric,
                    **record(values),
                    "mean": np.round(values.mean(axis=0), 5).tolist(),
                    "deviation": np.round(values.std(axis=0, ddof=1), 5).tolist(),
                    "images": len(images),
                    "machine": platform.machine(),
                }
            )
            line = made[-1]
            print(
                f"{count:5} {way:8} {metric:13} {line['neighbours_right']:4} of "
                f"{line['neighbours']}, all {line['pairs_right']} of {line['pairs']}",
                flush=True,
            )
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    _save(made)


def _save(made: list[dict[str, object]]) -> None:
    """Put records in place of those of the same data and extractor."""
    before = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else []
    same = {(each["dataset"], each["features"]) for each in made}
    kept = [each for each in before if (each["dataset"], each["features"]) not in same]
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(each) for each in kept + made)
    OUTPUT.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
