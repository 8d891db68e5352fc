"""Drawing and scoring a trained model: workers, kills, memory.

    python benchmarks/sampling.py workers --samples 512 --steps 50
    python benchmarks/sampling.py kills --kills 20
    python benchmarks/sampling.py memory --counts 5000 50000

`workers`: wall time of drawing one way with two processes over that with one, which is all that
there was before samples were drawn in shards, from the first process's start to the last one's end,
and the time of scoring, which one does; rounds alternate, the least counts. `kills`: a process that
draws is killed with SIGKILL at a random time, again and again, and the next one goes on; shards
drawn twice are counted (a shard that lies there must never be written again), and the row is
compared with that of an undisturbed run. `memory`: peak resident memory of one process that draws
and scores, for each count, and the part that the features are.

No Ray: processes are started here, as Ray's tasks would be.
"""

import argparse
import multiprocessing
import random
import resource
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kod_bench.evaluation import make_extractor
from kod_bench.results import Row
from kod_bench.sweeps.plan.files import SAMPLES
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial.drawing import Part
from kod_bench.sweeps.trial.run import draw_trained, score_trained, train_worker

SPACE = """
name: sampling
dataset: {{name: fingerprints, image_size: {size}, scale: 0.25,
          synthetic: {{fingers: 40, impressions: 4}}}}
network: {{width: {width}, multipliers: [1, 2], blocks: 1}}
training: {{iterations: 2, batch_size: 8, log_every: 2, checkpoint_every: 2, warmup: 1}}
evaluation: {{samples: {samples}, references: 512, batch_size: {batch}, keep_samples: all}}
models: {{ddpm: {{process: ddpm, steps: {steps}}}}}
profiles: {{laptop: {{}}}}
"""
MIB = 2**20

#: What two runs of one trial differ in.
OF_A_RUN = ("sampling_seconds", "evaluation_seconds", "finished_at")


def main() -> None:
    """Measure one of them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("workers", "kills", "memory"))
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--counts", type=int, nargs="+", default=[5000, 50_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        {"workers": workers, "kills": kills, "memory": memory}[options.what](Path(name), options)


def trained(folder: Path, options: argparse.Namespace) -> Sweep:
    """A sweep of one trial that has its last checkpoint, and no samples."""
    folder.mkdir(exist_ok=True)
    path = folder / "sampling.yaml"
    path.write_text(SPACE.format(**vars(options)))
    sweep = prepare_sweep(
        str(path),
        profile="laptop",
        data_dir=None,
        results_dir=folder / "results",
        seeds=None,
        address=None,
        say=lambda _: None,
    )
    train_worker(sweep, sweep.trials[0], lambda _: None, torch.device("cpu"))
    return sweep


def draw(folder: Path, worker: int, count: int) -> None:
    """What each drawing process runs."""
    torch.set_num_threads(1)
    sweep = open_sweep(folder)
    draw_trained(sweep, sweep.trials[0], Part(worker, count))


def score(folder: Path) -> list[Row]:
    """What the scoring process runs; it draws what is missing."""
    torch.set_num_threads(1)
    sweep = open_sweep(folder)
    return score_trained(sweep, sweep.trials[0], lambda _: None)


def start(sweep: Sweep, worker: int, count: int) -> Any:
    """A process that draws."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=draw, args=(sweep.folder, worker, count))
    process.start()
    return process


def workers(folder: Path, options: argparse.Namespace) -> None:
    """Two processes that draw, over one."""
    sweep = trained(folder, options)
    samples = sweep.trial_folder(sweep.trials[0]) / SAMPLES
    times: dict[int, list[float]] = {1: [], 2: []}
    scoring = []
    for _ in range(options.rounds):
        for count, seconds in times.items():
            shutil.rmtree(samples, ignore_errors=True)
            began = time.monotonic()
            processes = [start(sweep, worker, count) for worker in range(count)]
            for process in processes:
                process.join()
                assert process.exitcode == 0
            seconds.append(time.monotonic() - began)
        began = time.monotonic()
        score(sweep.folder)
        scoring.append(time.monotonic() - began)
    one, two, last = min(times[1]), min(times[2]), min(scoring)
    print(f"{options.samples} images of {options.size} px, {options.steps} evaluations each")
    print(f"drawing, one process    {one:8.1f} s")
    print(f"drawing, two processes  {two:8.1f} s   {two / one:.2f} of one")
    print(f"scoring                 {last:8.1f} s")
    print(f"together                {two + last:8.1f} s   {(two + last) / (one + last):.2f} of one")


def kills(folder: Path, options: argparse.Namespace) -> None:
    """Kills at random times while shards are drawn."""
    sweep = trained(folder, options)
    (undisturbed,) = score(sweep.folder)
    samples = sweep.trial_folder(sweep.trials[0]) / SAMPLES
    whole = len(shards(samples))
    generator = random.Random(0)
    done = interrupted = again = 0
    while done < options.kills:
        shutil.rmtree(samples, ignore_errors=True)
        while done < options.kills and len(shards(samples)) < whole:
            before = shards(samples)
            process = start(sweep, 0, 1)
            while process.is_alive() and len(shards(samples)) == len(before):
                time.sleep(0.01)  # until it draws: starting takes seconds, in which nothing is lost
            time.sleep(generator.uniform(0, 1.0))
            if process.is_alive():
                interrupted += 1
            process.kill()
            process.join()
            done += 1
            again += sum(shards(samples).get(name) != at for name, at in before.items())
        before = shards(samples)
        (row,) = score(sweep.folder)
        again += sum(shards(samples).get(name) != at for name, at in before.items())
        for column, value in asdict(undisturbed).items():
            if column not in OF_A_RUN:
                assert asdict(row)[column] == value, column
    print(f"{done} kills, {interrupted} of them while shards were drawn, {whole} shards each time")
    print(f"{again} shards that were there were drawn again; every row was the undisturbed one's")


def shards(samples: Path) -> dict[str, tuple[int, int]]:
    """Of each shard what changes if it is written again."""
    found = {}
    for path in samples.glob("*/shard-*.npz"):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_mtime_ns)
    return found


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Peak memory for each count."""
    spawn = multiprocessing.get_context("spawn")
    width = len(make_extractor("efficientnet-lite0")(torch.zeros(1, 1, 32, 32).byte())[0])
    peaks = []
    print(f"{'samples':>8} {'peak MiB':>9} {'features MiB':>13} {'the rest':>9}")
    for count in options.counts:
        options.samples = count
        sweep = trained(folder / str(count), options)
        with spawn.Pool(1) as pool:
            peak = pool.apply(peak_of_scoring, (sweep.folder,))
        features = 8 * width * count / MIB
        peaks.append(peak)
        print(f"{count:>8} {peak:>9.0f} {features:>13.0f} {peak - features:>9.0f}", flush=True)
    print(f"last over first: {peaks[-1] / peaks[0]:.2f}")


def peak_of_scoring(folder: Path) -> float:
    """MiB that a process has had at most, which draws and scores."""
    score(folder)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
