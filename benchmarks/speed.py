"""The ratios of docs/speed.md, against DDPM and against an earlier build, taken in turns.

    python benchmarks/speed.py --before CHECKOUT --output results/reference/speed/two-cores.json
    python benchmarks/speed.py --before CHECKOUT --output ... --only main-job

Some five minutes on two quiet cores; `main-job`, which is asked for by name, takes a quarter of an
hour more and joins the ratios that the file has. Each build runs in a process of its own, with one
thread. Training steps are whole ones (batch, forward, backward, clipping, optimiser, average), in
processor time, which other processes touch least. A round is a whole turn of the pool; builds and
models take turns within it, and medians over rounds count, with the least and the largest beside.
`scoring` and `main-job` are wall time on two cores.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Batches in the pool of a Kuramoto process.
POOL = 8
#: Measured without being asked for.
USUAL = ("calls", "kuramoto", "network", "scoring")

Ratio = dict[str, Any]


# What a build's own process does


def count_calls(steps: int) -> float:
    """Operator calls of a Kuramoto batch (local, path target), the mean of two turns of a pool."""
    from itertools import islice

    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    from kod_bench.diffusion import make_process

    class Counts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            self.count += 1
            return function(*arguments, **(options or {}))

    process = make_process(
        "kuramoto", shape=(1, 2, 2), steps=steps, coupling="local", target="path", pool_size=256
    )
    batches = process.training_batches(
        lambda count: torch.zeros(count, 1, 2, 2), 32, torch.Generator().manual_seed(0)
    )
    list(islice(batches, POOL))
    with Counts() as counts:
        list(islice(batches, 2 * POOL))
    return counts.count / (2 * POOL)


class Training:
    """Training steps of one model, as the loop of its build makes them."""

    def __init__(self, process: str, width: int, batch: int, **parameters: Any) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel

        from kod_bench.diffusion import make_process
        from kod_bench.networks import NetworkRunner, make_network, place

        torch.set_num_threads(1)
        torch.manual_seed(0)
        rng = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (512, 1, 32, 32), generator=rng, dtype=torch.uint8)

        def images(count: int) -> Any:
            chosen = torch.randint(len(pixels), (count,), generator=rng)
            return pixels[chosen].float() / 127.5 - 1

        if process == "kuramoto":
            parameters |= {"target": "path", "pool_size": POOL * batch}
        made = make_process(process, shape=(1, 32, 32), steps=100, **parameters)
        self._batches = made.training_batches(images, batch, rng)
        self._network = place(
            make_network(
                periodic=made.periodic,
                channels=1,
                image_size=32,
                steps=100,
                width=width,
                multipliers=(1, 2, 2),
                blocks=1,
            ),
            torch.device("cpu"),
        )
        device = torch.device("cpu")
        self._predict = NetworkRunner(self._network, device, bf16=False, compiled=False)
        average = AveragedModel(self._network)
        self._optimizer, self._average = _of_the_build(self._network, average)

    def __call__(self) -> dict[str, float]:
        """Processor seconds of a step, and its last loss, in the mean over a turn of the pool."""
        import torch

        began = time.process_time()
        for _ in range(POOL):
            batch = next(self._batches)
            self._optimizer.zero_grad(set_to_none=True)
            prediction = self._predict(batch.state, batch.step)
            loss = (batch.weight * (prediction - batch.target).square()).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            self._optimizer.step()
            self._average()
        return {"seconds": (time.process_time() - began) / POOL, "loss": loss.item()}


def _of_the_build(network: Any, average: Any) -> tuple[Any, Callable[[], None]]:
    """Optimiser and average as this build has them, or as builds before it had them."""
    import torch

    try:
        from kod_bench.training.average import update_average
        from kod_bench.training.optimizer import make_optimizer
    except ImportError:
        from kod_bench.training.loop import _ema  # type: ignore[attr-defined]

        average.multi_avg_fn = _ema(average, 0.998)
        plain = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
        return plain, lambda: average.update_parameters(network)
    return make_optimizer(network, 1e-3, 0.01), lambda: update_average(average, network, 0.998)


def serve() -> None:
    """Answer requests, a line of JSON each, in a process that is prepared as a trial's."""
    with contextlib.suppress(ImportError):  # which builds before did not have
        from kod_bench.freed_memory import keep_freed_memory

        keep_freed_memory()
    trainings: dict[str, Training] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        key, what = asked.pop("key", ""), asked.pop("do")
        if what == "calls":
            answer: Any = count_calls(**asked)
        elif what == "train":
            trainings[key] = Training(**asked)
            answer = trainings[key]()  # the first turn fills the pool
        else:
            answer = trainings[key]()
        print(json.dumps(answer), flush=True)


# What asks them


class Build:
    """A build that runs in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        self.commit = _commit(checkout)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(checkout, threads=1),
            cwd=checkout,
        )

    def ask(self, **request: Any) -> Any:
        """Its answer.

        Raises:
            RuntimeError: if it has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the build {self.commit} ended at {request}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def running(*checkouts: Path) -> Iterator[list[Build]]:
    """Builds, each in its process."""
    builds = [Build(checkout) for checkout in checkouts]
    try:
        yield builds
    finally:
        for build in builds:
            build.close()


def calls(before: Path, rounds: int) -> list[Ratio]:
    """1: operator calls of a Kuramoto batch."""
    with running(ROOT, before) as (now, then):
        found = {steps: (now.ask(do="calls", steps=steps), then.ask(do="calls", steps=steps))
                 for steps in (100, 1000)}  # fmt: skip
    return [
        {
            "ratio": 1,
            "what": f"operator calls of a Kuramoto batch (local, path target, T = {steps})",
            "aim": 130,
            "value": here,
            "before": there,
        }
        for steps, (here, there) in found.items()
    ]


def kuramoto(before: Path, rounds: int) -> list[Ratio]:
    """2: a Kuramoto training step over DDPM's, both of this build."""
    ratios = []
    for width, batch, aim, chains in ((16, 32, 1.05, (None, 10)), (32, 64, 1.03, (None,))):
        models: dict[str, dict[str, Any]] = {"ddpm": {"process": "ddpm"}}
        for coupling in ("local", "global"):
            for stride in chains:
                more = {} if stride is None else {"chain_steps": stride}
                ways = f", {stride} steps a visit" if stride else ""
                models[f"{coupling} coupling{ways}"] = {
                    "process": "kuramoto", "coupling": coupling, **more
                }  # fmt: skip
        with running(ROOT) as (build,):
            for key, model in models.items():
                build.ask(do="train", key=key, width=width, batch=batch, **model)
            turns = [
                {key: build.ask(do="turn", key=key)["seconds"] for key in models}
                for _ in range(max(1, rounds if width == 16 else rounds // 2))
            ]
        for key in models:
            if key != "ddpm":
                what = f"Kuramoto's training step over DDPM's, {key}, width {width}, batch {batch}"
                each = [turn[key] / turn["ddpm"] for turn in turns]
                ratios.append({"ratio": 2, "what": what, "aim": aim} | _middle(each))
    return ratios


def network(before: Path, rounds: int) -> list[Ratio]:
    """3: a training step of DDPM at the laptop profile's size, over the build before."""
    with running(ROOT, before) as builds:
        for build in builds:
            build.ask(do="train", key="ddpm", process="ddpm", width=16, batch=32)
        turns = [[build.ask(do="turn", key="ddpm") for build in builds] for _ in range(rounds)]
    each = [now["seconds"] / then["seconds"] for now, then in turns]
    apart = max(abs(now["loss"] / then["loss"] - 1) for now, then in turns)
    what = "DDPM's training step over the build before, width 16, batch 32"
    return [{"ratio": 3, "what": what, "aim": 0.8, "losses_apart": apart} | _middle(each)]


def scoring(before: Path, rounds: int) -> list[Ratio]:
    """5: `evaluate` over clean-fid's folder path, its workers on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scoring.json"
        subprocess.run(
            [sys.executable, "-P", str(ROOT / "benchmarks" / "scoring.py"), "--images", "2000",
             "--size", "32", "--workers", "2", "--threads", "2", "--rounds", "2",
             "--json", str(file)],
            check=True,
            env=_environment(ROOT, threads=2),
        )  # fmt: skip
        found = json.loads(file.read_text())
    return [
        {
            "ratio": 5,
            "what": f"2,000 images of 32 px over clean-fid with two workers: {side}",
            "aim": 0.4,
            "value": found[side]["clock_ratio"],
            "processor": found[side]["processor_ratio"],
        }
        for side in ("FID and KID, folder", "all metrics, folder")
    ]


def main_job(before: Path, rounds: int) -> list[Ratio]:
    """4: the README's main line without its installation, over the build before."""
    seconds: dict[Path, float] = {}
    scores: dict[Path, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        for number, build in enumerate((before, ROOT)):
            folder = Path(name) / str(number)
            began = time.monotonic()
            subprocess.run(
                [sys.executable, "-P", "-m", "kod_bench.cli.main", "sweep", "fingerprints",
                 "--profile", "laptop", "--quiet", "--results-dir", str(folder / "results")],
                check=True,
                env=_environment(build, None) | {"KOD_BENCH_CACHE": str(folder / "cache")},
                cwd=build,
            )  # fmt: skip
            seconds[build] = time.monotonic() - began
            scores[build] = _scores(folder / "results")
            shutil.rmtree(folder)
    return [
        {
            "ratio": 4,
            "what": "the main job, installation aside",
            "aim": 0.8,
            "value": seconds[ROOT] / seconds[before],
            "seconds": seconds[ROOT],
            "seconds_before": seconds[before],
            "kid": scores[ROOT],
            "kid_before": scores[before],
        }
    ]


def _scores(results: Path) -> dict[str, float]:
    """KID of each model at its most evaluations, by the first prior and sampler."""
    import pandas

    rows = pandas.concat(
        map(pandas.read_parquet, results.glob("fingerprints/*/trials/*/*.parquet"))
    )
    most = rows.sort_values("network_evaluations").groupby("model").last()
    return {str(model): float(kid) for model, kid in most["kid"].items()}


def _middle(each: list[float]) -> dict[str, float]:
    return {
        "value": statistics.median(each),
        "least": min(each),
        "largest": max(each),
        "rounds": len(each),
    }


def _environment(checkout: Path, threads: int | None) -> dict[str, str]:
    """Of a process that is to import a build."""
    own = {"PYTHONPATH": str(checkout)}
    if threads is not None:
        own |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return os.environ | own


def _commit(checkout: Path) -> str:
    """Of a checkout; "unknown" of what is none."""
    if not (checkout / ".git").exists():  # else git would name a repository around it
        return "unknown"
    done = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


MEASUREMENTS: dict[str, Callable[[Path, int], list[Ratio]]] = {
    "calls": calls,
    "kuramoto": kuramoto,
    "network": network,
    "scoring": scoring,
    "main-job": main_job,
}


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="of an earlier build")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="written, or added to")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=[*USUAL])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.before is None or not (options.before / "kod_bench").is_dir():
        parser.error("--before: must be a checkout of an earlier build")
    before, output = options.before.resolve(), options.output
    known: list[Ratio] = []
    if output is not None and output.exists():
        known = json.loads(output.read_text())["ratios"]
    for name in options.only:
        found = MEASUREMENTS[name](before, options.rounds)
        for each in found:
            each |= {"commit": _commit(ROOT), "commit_before": _commit(before)}
            holds = "holds" if each["value"] <= each["aim"] else "MISSED"
            print(
                f"{each['ratio']} {each['what']}: {each['value']:.3f}, aim {each['aim']}: {holds}"
            )
        numbers = {each["ratio"] for each in found}
        known = [each for each in known if each["ratio"] not in numbers] + found
        if output is not None:  # after each: what has been measured is kept
            write(output, known)


def write(output: Path, ratios: list[Ratio]) -> None:
    """Write the JSON."""
    from importlib.metadata import version

    output.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "torch": version("torch"),
        "ratios": sorted(ratios, key=lambda each: each["ratio"]),
    }
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
