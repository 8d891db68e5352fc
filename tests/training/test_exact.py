"""A training that was interrupted ends with the bits of one that was not."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kod_bench.diffusion import DDPM, PROCESSES, ImageSource, TrainingBatch, make_process
from kod_bench.diffusion.batches import ResumableBatches
from kod_bench.networks import make_network
from kod_bench.training import (
    CheckpointStore,
    History,
    StoppedError,
    TrainedModel,
    TrainingOptions,
    derive_seed,
    train,
)
from kod_bench.training.history import read_history

SIZE = 8
OPTIONS = TrainingOptions(
    iterations=23,
    batch_size=6,
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup=9,
    gradient_clip=1.0,
    ema_decay=0.9,
    checkpoint_every=4,
    log_every=3,
    fast=False,
)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in PROCESSES},
    # A pool that is not yet full when it is first put away, and one that is walked in one piece.
    "kuramoto": ("kuramoto", {"pool_size": 40, "calibration_chains": 8}),
    "kuramoto-small": (
        "kuramoto",
        {"pool_size": 12, "calibration_chains": 8, "target": "conditional", "coupling": "local"},
    ),
    "kuramoto-independent": (
        "kuramoto",
        {"pool_size": 12, "calibration_chains": 8, "chain_steps": 9},
    ),
}
#: What differs between two runs of one training: times, and what is on record of interruptions.
OF_A_RUN = ("seconds", "resumed_from")


class KilledError(Exception):
    """Stands for kill -9."""


def shape_for(name: str) -> tuple[int, int, int]:
    return (1, SIZE, 2 * SIZE) if name == "sphere" else (1, SIZE, SIZE)


def prints(shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (20, *shape), dtype=torch.uint8, generator=generator)


def run(
    folder: Path, case: str, options: TrainingOptions = OPTIONS, process: Any = None, **more: Any
) -> TrainedModel:
    folder.mkdir(parents=True, exist_ok=True)
    name, parameters = CASES[case]
    images = prints(shape_for(name))
    if process is None:
        process = make_process(name, shape=shape_for(name), steps=9, **parameters)
        generator = torch.Generator().manual_seed(derive_seed(1, "fit"))
        process.fit(lambda n: images[:n].float() / 127.5 - 1, generator)
    torch.manual_seed(1)
    network = make_network(
        periodic=process.periodic,
        channels=1,
        image_size=SIZE,
        steps=9,
        width=8,
        multipliers=(1,),
        dropout=0.2,
        grid=process.grid,
    )
    return train(
        process,
        network,
        images,
        options,
        seed=1,
        device=torch.device("cpu"),
        checkpoints=CheckpointStore(folder / "checkpoints"),
        history=lambda start: History(folder / "history.jsonl", start),
        augment=("horizontal-flip",),
        **more,
    )


def killed_at(*iterations: int) -> Iterator[Callable[[Any], None]]:
    """For each attempt, what ends it at that iteration or the first line of the history after."""
    for iteration in iterations:

        def watch(progress: Any, end: int = iteration) -> None:
            if progress.iteration >= end:
                raise KilledError

        yield watch


def run_killed(folder: Path, case: str, *iterations: int, **more: Any) -> TrainedModel:
    for watch in killed_at(*iterations):
        with pytest.raises(KilledError):
            run(folder, case, on_progress=watch, **more)
    return run(folder, case, **more)


def left(folder: Path) -> dict[str, Any]:
    """All that a training leaves, without what no two runs share."""
    state = CheckpointStore(folder / "checkpoints").load_latest()
    assert state is not None
    found = flat({name: value for name, value in state.items() if name not in OF_A_RUN})
    for number, record in enumerate(read_history(folder / "history.jsonl")):
        kept = {k: v for k, v in record.items() if k in ("iteration", "loss", "learning_rate")}
        found |= flat(kept, f"history {number} ")
    return found


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves by their way."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flat(value[key], f"{name}/{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for n, each in enumerate(value) for k, v in flat(each, f"{name}/{n}").items()}
    return {name: value}


def different(one: Path, other: Path) -> list[str]:
    """The names of what is not equal to the bit."""
    first, second = left(one), left(other)
    assert first.keys() == second.keys()
    return [
        name
        for name, value in first.items()
        if not (
            torch.equal(value, second[name]) if torch.is_tensor(value) else value == second[name]
        )
    ]


def of_result(model: TrainedModel) -> tuple[Any, ...]:
    weights = torch.cat([p.detach().flatten() for p in model.network.parameters()])
    return weights.tolist(), model.loss, model.images_seen, model.precisions, model.exact


@pytest.mark.parametrize("case", CASES)
def test_killed_again_and_again_is_undisturbed(tmp_path: Path, case: str) -> None:
    undisturbed = run(tmp_path / "one", case)
    killed = run_killed(tmp_path / "two", case, 2, 7, 8, 13, 21)
    assert killed.resumed_from == 20
    assert killed.exact is True
    assert of_result(killed) == of_result(undisturbed)
    assert different(tmp_path / "one", tmp_path / "two") == []


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    run(tmp_path / "one", "kuramoto")
    run(tmp_path / "two", "kuramoto", replace(OPTIONS, warmup=8))
    assert "/network/" in " ".join(different(tmp_path / "one", tmp_path / "two"))


@pytest.mark.parametrize("first", [8, 14, 22], ids=["on-both", "on-neither", "just-before"])
@pytest.mark.parametrize("case", ["ddpm", "kuramoto"])
def test_raised_later_is_so_from_the_start(tmp_path: Path, case: str, first: int) -> None:
    """Also where the old end is no line of a longer history, and no checkpoint of it."""
    run(tmp_path / "two", case, replace(OPTIONS, iterations=first))
    raised, whole = run(tmp_path / "two", case), run(tmp_path / "one", case)
    assert of_result(raised) == of_result(whole)
    assert different(tmp_path / "one", tmp_path / "two") == []


def test_stopped_when_asked_is_undisturbed(tmp_path: Path) -> None:
    run(tmp_path / "one", "kuramoto")
    asked = iter([False, True])
    with pytest.raises(StoppedError, match="iteration 4"):
        run(tmp_path / "two", "kuramoto", should_stop=lambda: next(asked))
    run(tmp_path / "two", "kuramoto")
    assert different(tmp_path / "one", tmp_path / "two") == []


def test_what_judges_at_a_rung_draws_nothing_of_the_training(tmp_path: Path) -> None:
    """It is asked once, by whoever is there: an undisturbed training after 8, one killed before."""

    def goes_on(iteration: int, network: object) -> bool:
        torch.rand(iteration)
        return True

    run(tmp_path / "one", "ddpm", rungs=(8,))
    run_killed(tmp_path / "two", "ddpm", 11, rungs=(8,), goes_on=goes_on)
    assert different(tmp_path / "one", tmp_path / "two") == []


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir())


def without(path: Path, *names: str) -> None:
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if k not in names}, path)


def test_a_checkpoint_of_an_earlier_version_goes_on_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As it did then: reproducibly, with streams of its own."""
    results = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        run(folder, "kuramoto", replace(OPTIONS, iterations=8))
        for path in checkpoints(folder):
            without(path, "streams", "exact")
        # Interrupted once more, it cannot become exact again.
        results.append(run_killed(folder, "kuramoto", 17))
    assert [each.exact for each in results] == [False, False]
    assert "the checkpoint holds no random streams" in caplog.text
    whole = run(tmp_path / "whole", "kuramoto")
    assert of_result(results[0])[0] != of_result(whole)[0]
    assert results[0].images_seen > whole.images_seen


def test_one_that_was_complete_does_not_say(tmp_path: Path) -> None:
    run(tmp_path, "ddpm")
    without(checkpoints(tmp_path)[-1], "streams", "exact")
    assert run(tmp_path, "ddpm").exact is None


class Plain(DDPM):
    """A process of another package, whose batches have no state to give."""

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        yield from super().training_batches(images, batch_size, generator)


def test_batches_without_a_state_go_on_and_say_so(tmp_path: Path) -> None:
    process = Plain(shape=(1, SIZE, SIZE), steps=9)
    assert run(tmp_path / "one", "ddpm", process=process).exact is True  # nothing happened to it
    again = run_killed(tmp_path / "two", "ddpm", 13, process=process)
    assert (again.exact, again.resumed_from) == (False, 12)
    same = run_killed(tmp_path / "three", "ddpm", 13, process=process)
    assert of_result(again) == of_result(same)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s["streams"].append(s["streams"][0]), "of 2 worker(s), not of 1"),
        (lambda s: s["streams"][0].update(device="cuda"), "are of a cuda"),
        (lambda s: s["streams"][0].update(order=torch.tensor([20])), "beyond the 20"),
        (lambda s: s["streams"][0].update(process=torch.zeros(3, dtype=torch.uint8)), "damaged"),
        (lambda s: s["streams"][0]["batches"].update(turn="3"), "no state of a pool"),
        (lambda s: s["streams"][0]["batches"]["steps"][0].fill_(10), "no state of a pool"),
        (lambda s: s["streams"][0].pop("dropout"), "damaged"),
        (lambda s: s.update(streams="none"), "no random streams"),
    ],
    ids=["workers", "device", "order", "generator", "turn", "steps", "dropout", "type"],
)
def test_streams_that_do_not_fit_are_drawn_anew(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    run(tmp_path, "kuramoto", replace(OPTIONS, iterations=8))
    path = checkpoints(tmp_path)[-1]
    state = torch.load(path, weights_only=True)
    spoil(state)
    torch.save(state, path)
    model = run(tmp_path, "kuramoto")
    assert (model.exact, model.resumed_from) == (False, 8)
    assert said in caplog.text


def test_smaller_micro_batches_are_another_order_of_sums(tmp_path: Path) -> None:
    run(tmp_path, "ddpm", replace(OPTIONS, iterations=8))
    assert run(tmp_path, "ddpm", replace(OPTIONS, micro_batch_size=3)).exact is False


def test_every_built_in_process_can_be_put_away() -> None:
    for name in PROCESSES:
        process = make_process(name, shape=shape_for(name), steps=9)
        process.fit(lambda n, s=process.shape: torch.zeros(n, *s), torch.Generator())
        batches = process.training_batches(
            lambda n, s=process.shape: torch.zeros(n, *s), 2, torch.Generator()
        )
        assert isinstance(batches, ResumableBatches), name


def _die_at(folder: Path, case: str, iteration: int) -> None:
    def watch(progress: Any) -> None:
        if progress.iteration >= iteration:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run(folder, case, on_progress=watch)


@pytest.mark.parametrize("case", ["ddpm", "kuramoto"])
def test_killed_for_good_is_undisturbed(tmp_path: Path, case: str) -> None:
    """By kill -9, in a process of its own: what this one remembers does not help."""
    context = torch.multiprocessing.get_context("spawn")
    for iteration in (9, 16):
        process = context.Process(target=_die_at, args=(tmp_path / "two", case, iteration))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    undisturbed, killed = run(tmp_path / "one", case), run(tmp_path / "two", case)
    assert killed.resumed_from >= 12
    assert of_result(killed) == of_result(undisturbed)
    assert different(tmp_path / "one", tmp_path / "two") == []


def _worker(rank: int, folder: Path, case: str, world: int) -> None:
    torch.set_num_threads(1)
    for name, ends in (("one", (23,)), ("two", (4, 13, 23))):
        for end in ends:  # each a group of its own, as after a stop
            place = f"file://{folder}/rendezvous-{name}-{end}"
            torch.distributed.init_process_group(
                "gloo", init_method=place, rank=rank, world_size=world
            )
            run(folder / name, case, replace(OPTIONS, iterations=end))
            torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("case", "world"), [("ddpm", 2), ("kuramoto", 2), ("kuramoto", 3)])
def test_several_workers_go_on_as_if_nothing_had_been(
    tmp_path: Path, case: str, world: int
) -> None:
    torch.multiprocessing.spawn(_worker, (tmp_path, case, world), nprocs=world)
    assert different(tmp_path / "one", tmp_path / "two") == []
    state = CheckpointStore(tmp_path / "two" / "checkpoints").load_latest()
    assert state is not None
    assert len(state["streams"]) == world
    assert state["exact"] is True
