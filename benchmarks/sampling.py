"""Drawing and scoring a trained model: workers, kills, other features, memory.

    python benchmarks/sampling.py workers --samples 512 --steps 50 --before ../older
    python benchmarks/sampling.py kills --kills 20
    python benchmarks/sampling.py rescore --samples 2048
    python benchmarks/sampling.py memory --counts 5000 50000

`workers`: wall time of drawing with two processes and scoring in a third, over that of the build
before samples were drawn in shards (`--before`: a checkout of it), where one process did it all;
without `--before`, over one process of this build. Rounds alternate; medians count. `kills`: a
process that draws is killed with SIGKILL at a random time, again and again, and the next one goes
on; shards drawn twice are counted (a shard that lies there must never be written again), and the
row is compared with that of an undisturbed run. `rescore`: scoring kept samples again, over all
that another extractor needed before, which is training, drawing and scoring; and what is measured
of the samples where they lie, over `evaluate`'s measuring of the same images as a folder of PNGs,
in one process, alternating. `memory`: peak resident memory of one process that draws and scores,
for each count, and what the features would be.

No Ray: processes are started here, as Ray's tasks would be.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from kod_bench.evaluation import Measured, make_extractor
from kod_bench.results import Row
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.session import prepare_sweep
from kod_bench.sweeps.store.open import open_sweep
from kod_bench.sweeps.trial.run import score_trained, train_worker

SPACE = """
name: sampling
dataset: {{name: fingerprints, image_size: {size}, scale: 0.25,
          synthetic: {{fingers: 40, impressions: 4}}}}
network: {{width: {width}, multipliers: [1, 2], blocks: 1}}
training: {{iterations: 2, batch_size: 8, log_every: 2, checkpoint_every: 2, warmup: 1}}
evaluation: {{samples: {samples}, references: 512, batch_size: {batch}{more}}}
models: {{ddpm: {{process: ddpm, steps: {steps}}}}}
profiles: {{laptop: {{}}}}
"""
MIB = 2**20
SAMPLES = "samples"  # as kod_bench.sweeps.plan.files says, which the build before did not

#: What two runs of one trial differ in.
OF_A_RUN = ("sampling_seconds", "evaluation_seconds", "finished_at")


def main() -> None:
    """Measure one of them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*MEASUREMENTS, *STEPS])
    parser.add_argument("--folder", type=Path, help="of a step, as started by a measurement")
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--before", type=Path, help="a checkout of the build to compare with")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--counts", type=int, nargs="+", default=[5000, 50_000])
    options = parser.parse_args()
    options.more = ", keep_samples: all"
    if options.what in STEPS:
        compute_as_a_trial()
        STEPS[options.what](options.folder, options)
        return
    with tempfile.TemporaryDirectory() as name:
        MEASUREMENTS[options.what](Path(name), options)


def compute_as_a_trial() -> None:
    """What a process that Ray starts for a trial does first, by whichever build runs this."""
    torch.set_num_threads(1)
    with contextlib.suppress(ImportError):  # which the build before did not have
        from kod_bench.freed_memory import keep_freed_memory

        keep_freed_memory()


def trained(folder: Path, options: argparse.Namespace) -> Sweep:
    """A sweep of one trial that has its last checkpoint, and no samples."""
    folder.mkdir(parents=True, exist_ok=True)
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
    from kod_bench.sweeps.trial.drawing import Part
    from kod_bench.sweeps.trial.run import draw_trained  # which the build before did not have

    compute_as_a_trial()
    sweep = open_sweep(folder)
    draw_trained(sweep, sweep.trials[0], Part(worker, count))


def score(folder: Path) -> list[Row]:
    """What the scoring process runs; it draws what is missing."""
    compute_as_a_trial()
    sweep = open_sweep(folder)
    return score_trained(sweep, sweep.trials[0], lambda _: None)


def start(sweep: Sweep, worker: int, count: int) -> Any:
    """A process that draws."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=draw, args=(sweep.folder, worker, count))
    process.start()
    return process


def step(
    what: str, folder: Path, options: argparse.Namespace, build: Path | None = None, worker: int = 0
) -> "subprocess.Popen[bytes]":
    """A process of this build or another that does a part of a trial."""
    numbers = ("samples", "batch", "steps", "size", "width")
    arguments = [f"--{name}={getattr(options, name)}" for name in numbers]
    arguments += [f"--folder={folder}", f"--worker={worker}"]
    if build is not None:
        arguments.append(f"--before={build}")
    here = Path(__file__).resolve()
    return subprocess.Popen(
        [sys.executable, "-P", here, what, *arguments],
        env={**os.environ, "PYTHONPATH": str((build or here.parent.parent).resolve())},
    )


def wait(*processes: "subprocess.Popen[bytes]") -> None:
    """All of them have to succeed."""
    for process in processes:
        assert process.wait() == 0


def train_step(folder: Path, options: argparse.Namespace) -> None:
    """A trained trial, by whichever build runs this."""
    if options.before is not None:
        options.more = ""  # it knew no such option
    trained(folder, options)


def draw_step(folder: Path, options: argparse.Namespace) -> None:
    """One of two that draw."""
    draw(sweep_in(folder).folder, options.worker, 2)


def score_step(folder: Path, options: argparse.Namespace) -> None:
    """Draws what is missing, and scores."""
    score(sweep_in(folder).folder)


def sweep_in(folder: Path) -> Sweep:
    """The one that `train_step` has made."""
    (path,) = folder.glob("results/*/*/sweep.yaml")
    return open_sweep(path.parent)


def workers(folder: Path, options: argparse.Namespace) -> None:
    """Two processes, over one of the build before."""
    one, two = folder / "one", folder / "two"
    wait(step("train", one, options, options.before))
    wait(step("train", two, options))
    times: dict[str, list[float]] = {"one": [], "two": [], "drawing": []}
    for _ in range(options.rounds):
        for path in folder.glob(f"*/results/*/*/trials/*/{SAMPLES}"):
            shutil.rmtree(path)
        began = time.monotonic()
        wait(step("score", one, options, options.before))
        times["one"].append(time.monotonic() - began)
        began = time.monotonic()
        wait(*(step("draw", two, options, worker=worker) for worker in range(2)))
        times["drawing"].append(time.monotonic() - began)
        wait(step("score", two, options))
        times["two"].append(time.monotonic() - began)
    which = "the build before" if options.before else "this build"
    middle = {name: statistics.median(each) for name, each in times.items()}
    ratios = [b / a for a, b in zip(times["one"], times["two"], strict=True)]
    print(f"{options.samples} images of {options.size} px, {options.steps} evaluations each")
    print(f"one process of {which}: {middle['one']:.1f} s")
    print(f"two that draw, one that scores: {middle['two']:.1f} s, {middle['drawing']:.1f} drawing")
    print(f"ratio of medians {middle['two'] / middle['one']:.2f}; rounds {spread(ratios)}")


def spread(ratios: list[float]) -> str:
    """All of them, in order."""
    return " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))


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


def rescore(folder: Path, options: argparse.Namespace) -> None:
    """Scoring again what is kept, over what it took before, and over `evaluate`."""
    again, whole = [], []
    for number in range(options.rounds):
        made = folder / str(number)
        began = time.monotonic()
        wait(step("train", made, options))
        wait(step("score", made, options))
        whole.append(time.monotonic() - began)
        for path in made.glob(f"results/*/*/trials/*/{SAMPLES}/*/features-*"):
            path.unlink()  # of another extractor there are none
        began = time.monotonic()
        wait(step("score", made, options))
        again.append(time.monotonic() - began)
    ratio = statistics.median(again) / statistics.median(whole)
    print(f"scoring again {statistics.median(again):.1f} s, {ratio:.2f} of training with it")
    wait(step("beside", folder / "0", options))


def beside_evaluate(folder: Path, options: argparse.Namespace) -> None:
    """What is measured of samples, where they lie and as a folder of PNGs."""
    from kod_bench.evaluation.against import Job
    from kod_bench.evaluation.folders import ImageFolder
    from kod_bench.evaluation.metrics import METRICS
    from kod_bench.sweeps.trial.scoring import keeping, make_drawer
    from kod_bench.sweeps.trial.subject import Subject
    from kod_bench.training import load_trained

    sweep, device = sweep_in(folder), torch.device("cpu")
    subject = Subject.load(sweep, sweep.trials[0], device)
    model = load_trained(subject.network(), subject.checkpoints, 2, device)
    drawer = make_drawer(subject, model.network, device, options.samples)
    images = drawer.samples(subject.trial.scorings[0]).images
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, image in enumerate(torch.cat([*images])):
        Image.fromarray(image[0].numpy()).save(pictures / f"{number:06d}.png")
    extractor = make_extractor("efficientnet-lite0")
    train = subject.dataset.train
    times: dict[str, list[float]] = {"kept": [], "folder": []}
    cpu: dict[str, list[float]] = {"kept": [], "folder": []}

    def measure(which: str, what: Callable[[], object]) -> None:
        began, used = time.monotonic(), time.process_time()
        what()
        times[which].append(time.monotonic() - began)
        cpu[which].append(time.process_time() - used)

    of_images = [each for each in METRICS if each.needs not in ("spectrum", "angles")]
    job = Job(of_images, extractor, 0, 128, device, lambda *_: None)
    colours = train.expand(-1, 3, -1, -1)
    for _ in range(options.rounds):
        for path in images.shards.path.glob("features-*"):
            path.unlink()
        keeps = keeping(extractor, subject, images.shards, device)
        measure("kept", lambda keeps=keeps: Measured.of(images, keeps, train, device))
        measure("folder", lambda: job.measure(ImageFolder(pictures), colours))
    kept, other = (1000 * statistics.median(each) / options.samples for each in times.values())
    ratios = [a / b for a, b in zip(times["kept"], times["folder"], strict=True)]
    print(f"per 1,000 images: kept samples {kept:.1f} s, evaluate on their folder {other:.1f} s")
    used = statistics.median(cpu["kept"]) / statistics.median(cpu["folder"])
    print(f"ratio of medians {kept / other:.2f} (of CPU time {used:.2f}); rounds {spread(ratios)}")


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


MEASUREMENTS = {"workers": workers, "kills": kills, "rescore": rescore, "memory": memory}
STEPS = {
    "train": train_step,
    "draw": draw_step,
    "score": score_step,
    "beside": beside_evaluate,
}

if __name__ == "__main__":
    main()
