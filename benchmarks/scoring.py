"""Cost of scoring samples: this package over clean-fid's folder path, same extractor, one run.

    python benchmarks/scoring.py --images 2000 --size 32

Both sides read the same folder of PNG files and give FID and KID; the reference is measured
beforehand on both (`clean-fid` finds its features in memory, as it does with saved statistics).
The extractor is EfficientNet-Lite0 at the images' own size, so that clean-fid's resize to 299
pixels, which this extractor does not want, is not held against it. `all metrics` adds ours,
memorisation against as many training images included. Sides take turns, each `--rounds` times;
the least time counts, since whatever else the machine does can only add to it. On a busy machine
read the processor's time, that of clean-fid's workers included: with `--workers` it reads images
in so many processes beside its own, as it does by itself (12 by default).
"""

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import frechet_distance, get_folder_features, kernel_distance
from PIL import Image
from torch import Tensor

from kod_bench.evaluation import METRICS, Measured, make_extractor, score
from kod_bench.evaluation.against import Job
from kod_bench.evaluation.features import FeatureExtractor, Features
from kod_bench.evaluation.folders import ImageFolder


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="of clean-fid's, beside its process")
    parser.add_argument("--threads", type=int, help="of torch, on both sides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios there, too")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (options.images, 3, options.size, options.size)
    samples, reference, train = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(3))
    extractor = make_extractor("efficientnet-lite0")
    measured = Measured.of(reference, extractor, train)
    assert measured.features is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, image in enumerate(samples.permute(0, 2, 3, 1).numpy()):
            Image.fromarray(image).save(folder / f"{index:06}.png")
        sides: dict[str, Callable[[], object]] = {
            "clean-fid, folder": lambda: clean_fid(
                folder, extractor, measured.features, options.workers
            ),
            "FID and KID, folder": lambda: ours(folder, extractor, measured, ("fid", "kid")),
            "all metrics, folder": lambda: ours(folder, extractor, measured, (), train),
            "all metrics, in memory": lambda: score(
                Measured.of(samples, extractor, train), measured, 0
            ),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for side, run in sides.items():
                began, cpu_began = time.perf_counter(), processor_time()
                run()
                spent = processor_time() - cpu_began, time.perf_counter() - began
                times[side].append(spent)
                print(f"  {side}: processor {spent[0]:.1f} s, clock {spent[1]:.1f} s", flush=True)
    print(
        f"{options.images} images of {options.size} px, {torch.get_num_threads()} thread(s), "
        f"{options.workers} workers of clean-fid's"
    )
    print(f"{'':<24} {'processor':>12} {'ratio':>7} {'clock':>10} {'ratio':>7}")
    least = {side: [min(column) for column in zip(*t, strict=True)] for side, t in times.items()}
    base = least["clean-fid, folder"]
    for side, (cpu, clock) in least.items():
        print(
            f"{side:<24} {cpu:10.1f} s {cpu / base[0]:7.3f} {clock:8.1f} s {clock / base[1]:7.3f}"
        )

    if options.json is not None:
        ratios = {
            side: {"processor_ratio": cpu / base[0], "clock_ratio": clock / base[1]}
            for side, (cpu, clock) in least.items()
        }
        options.json.write_text(json.dumps(ratios, indent=1))


def processor_time() -> float:
    """Seconds of this process and of those of its children that have ended."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def clean_fid(
    folder: Path, extractor: FeatureExtractor, reference: Features, workers: int
) -> object:
    """clean-fid's own path from a folder to both numbers."""

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(extractor(images.round().to(torch.uint8)))

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = get_folder_features(
            str(folder),
            network,
            num_workers=workers,
            device=torch.device("cpu"),
            custom_fn_resize=lambda image: image,
            verbose=False,
        )
        moments = [
            (np.mean(side, axis=0), np.cov(side, rowvar=False)) for side in (features, reference)
        ]
        return frechet_distance(*moments[0], *moments[1]), kernel_distance(features, reference)


def ours(
    folder: Path,
    extractor: FeatureExtractor,
    reference: Measured,
    columns: tuple[str, ...],
    train: Tensor | None = None,
) -> object:
    """The path of ``kod-bench evaluate`` from a folder to its numbers."""
    metrics = [m for m in METRICS if not columns or set(m.columns) & set(columns)]
    job = Job(metrics, extractor, 0, 64, "cpu", lambda *_: None)
    samples, _ = job.measure(ImageFolder(folder), train)
    return score(samples, reference, 0, metrics)


if __name__ == "__main__":
    main()
