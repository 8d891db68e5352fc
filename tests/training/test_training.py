import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kod_bench.diffusion import DiffusionProcess, Jump, TrainingBatch, make_process
from kod_bench.networks import make_network
from kod_bench.training import (
    CheckpointStore,
    DivergedError,
    History,
    ShuffledImages,
    TrainedModel,
    TrainingOptions,
    derive_seed,
    load_trained,
    train,
)
from kod_bench.training.average import update_average
from kod_bench.training.history import read_history
from kod_bench.training.optimizer import load_optimizer, make_optimizer

OPTIONS = TrainingOptions(
    iterations=30,
    batch_size=8,
    learning_rate=3e-3,
    weight_decay=0.01,
    warmup=5,
    gradient_clip=1.0,
    ema_decay=0.9,
    checkpoint_every=10,
    log_every=5,
)
IMAGES = torch.full((16, 1, 8, 8), 200, dtype=torch.uint8)
SMALL = {"shape": (1, 8, 8), "steps": 10}


def small_network() -> nn.Module:
    return make_network(
        periodic=False, channels=1, image_size=8, steps=10, width=8, multipliers=(1,)
    )


def run(
    folder: Path,
    options: TrainingOptions = OPTIONS,
    process: DiffusionProcess | None = None,
    network: nn.Module | None = None,
    **changes: object,
) -> TrainedModel:
    torch.manual_seed(1)
    folder.mkdir(exist_ok=True)
    arguments: dict[str, object] = {
        "seed": 0,
        "device": torch.device("cpu"),
        "history": lambda start: History(folder / "history.jsonl", start),
    } | changes
    return train(
        process or make_process("ddpm", **SMALL),
        network or small_network(),
        IMAGES,
        options,
        checkpoints=CheckpointStore(folder / "checkpoints"),
        **arguments,  # type: ignore[arg-type]
    )


def weights(model: TrainedModel) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def test_loss_falls_from_about_one(tmp_path: Path) -> None:
    run(tmp_path, replace(OPTIONS, iterations=150))
    records = read_history(tmp_path / "history.jsonl")
    assert 0.5 < records[0]["loss"] < 1.5
    assert records[-1]["loss"] < 0.6 * records[0]["loss"]
    assert [r["iteration"] for r in records] == list(range(5, 151, 5))


def test_equal_seeds_train_equal_models(tmp_path: Path) -> None:
    one, two = run(tmp_path / "1"), run(tmp_path / "2")
    other = run(tmp_path / "3", seed=1)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


def test_training_continues_from_the_newest_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, replace(OPTIONS, iterations=20))
    seen: list[int] = []
    model = run(tmp_path, on_progress=lambda p: seen.append(p.iteration))
    assert seen == [25, 30]
    assert model.resumed_from == 20
    iterations = [r["iteration"] for r in read_history(tmp_path / "history.jsonl")]
    assert iterations == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize("kind", ["ddpm", "kuramoto"])
def test_continuing_twice_from_one_checkpoint_gives_one_result(tmp_path: Path, kind: str) -> None:
    """Kuramoto's pool of chains is not saved: it is walked anew, and must come out the same."""
    results = []
    for name in ("a", "b"):
        run(tmp_path / name, replace(OPTIONS, iterations=20), make_process(kind, **SMALL))
        model = run(tmp_path / name, process=make_process(kind, **SMALL))
        assert model.resumed_from == 20
        results.append(weights(model))
    assert torch.equal(*results)


def test_complete_training_is_not_repeated(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path, on_progress=lambda _: pytest.fail("trained again"))
    assert torch.equal(weights(first), weights(again))
    assert again.seconds == pytest.approx(first.seconds, rel=0.5)
    assert again.resumed_from == 0


def test_a_torn_checkpoint_costs_one_interval(tmp_path: Path) -> None:
    run(tmp_path, replace(OPTIONS, iterations=20))
    newest = tmp_path / "checkpoints" / "iteration-00000020.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert run(tmp_path).resumed_from == 10


def _rank(rank: int, folder: Path, results: Path) -> None:
    """One of two workers, whose own folder holds a checkpoint that the other's lacks."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{results}/rendezvous", rank=rank, world_size=2
    )
    seen: list[int] = []
    model = run(folder / str(rank), on_progress=lambda p: seen.append(p.iteration))
    torch.save({"seen": seen, "weights": weights(model)}, results / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_agree_on_the_checkpoint_they_continue_from(tmp_path: Path) -> None:
    run(tmp_path / "0", replace(OPTIONS, iterations=20))
    run(tmp_path / "1", replace(OPTIONS, iterations=10))
    torch.multiprocessing.spawn(_rank, (tmp_path, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["seen"] == second["seen"] == [25, 30]
    assert torch.equal(first["weights"], second["weights"])


def checkpoint_keys(folder: Path) -> dict[str, object]:
    """Names at every level of the last checkpoint, without what they hold."""

    def names(node: object) -> object:
        return {key: names(value) for key, value in node.items()} if isinstance(node, dict) else 0

    state = CheckpointStore(folder / "checkpoints").load_latest()
    assert state is not None
    return {"all": names(state)}


def uncompilable(_: nn.Module) -> object:
    def call(*_: object) -> Tensor:
        raise RuntimeError("no compiler")

    return call


def test_bf16_trains_like_fp32_and_saves_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", uncompilable)
    plain = run(tmp_path / "plain", replace(OPTIONS, fast=False))
    with caplog.at_level("WARNING", "kod_bench"):
        fast = run(tmp_path / "fast", replace(OPTIONS, fast=True))
    assert (plain.precisions, fast.precisions) == (("fp32",), ("bf16",))
    assert ["cannot be compiled" in r.getMessage() for r in caplog.records] == [True]
    assert_same_trajectory(tmp_path / "plain", tmp_path / "fast", 0.03)
    assert not torch.equal(weights(plain), weights(fast))
    assert checkpoint_keys(tmp_path / "plain") == checkpoint_keys(tmp_path / "fast")


def assert_same_trajectory(one: Path, other: Path, tolerance: float) -> None:
    """Equal losses at every log interval, within a relative tolerance."""
    first, second = (
        [record["loss"] for record in read_history(folder / "history.jsonl")]
        for folder in (one, other)
    )
    assert len(first) == OPTIONS.iterations // OPTIONS.log_every
    assert second == pytest.approx(first, rel=tolerance)


@pytest.mark.slow
def test_the_fast_path_trains_like_the_plain_one(tmp_path: Path) -> None:
    run(tmp_path / "plain", replace(OPTIONS, fast=False))
    fast = run(tmp_path / "fast", replace(OPTIONS, fast=True))
    assert fast.precisions == ("bf16-compiled",)
    assert_same_trajectory(tmp_path / "plain", tmp_path / "fast", 0.03)
    assert checkpoint_keys(tmp_path / "plain") == checkpoint_keys(tmp_path / "fast")


def test_a_run_continued_in_another_precision_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", uncompilable)
    run(tmp_path, replace(OPTIONS, iterations=20, fast=True))
    assert run(tmp_path, replace(OPTIONS, fast=False)).precisions == ("bf16", "fp32")


def test_a_checkpoint_that_does_not_name_its_precision_is_continued(tmp_path: Path) -> None:
    run(tmp_path, replace(OPTIONS, iterations=20))
    store = CheckpointStore(tmp_path / "checkpoints")
    state = store.load_latest()
    assert state is not None
    del state["precisions"]
    store.save(20, state)
    model = run(tmp_path)
    assert (model.resumed_from, model.precisions) == (20, ("fp32",))


def _fast_rank(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    model = run(folder / str(rank), replace(OPTIONS, fast=True))
    torch.save({"weights": weights(model), "precisions": model.precisions}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_compiled_workers_hold_one_model(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_fast_rank, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["precisions"] == second["precisions"] == ("bf16-compiled",)
    assert torch.equal(first["weights"], second["weights"])
    run(tmp_path / "alone", replace(OPTIONS, fast=False))
    assert checkpoint_keys(tmp_path / "0") == checkpoint_keys(tmp_path / "alone")


def test_a_model_trained_elsewhere_is_read_and_never_trained_here(tmp_path: Path) -> None:
    model = run(tmp_path)
    store = CheckpointStore(tmp_path / "checkpoints")
    fresh = small_network()
    read = load_trained(fresh, store, 30, torch.device("cpu"))
    assert torch.equal(weights(read), weights(model))
    assert (read.images_seen, read.loss) == (240, model.loss)
    with pytest.raises(RuntimeError, match=r"last checkpoint \(iteration 40\).*iteration 30"):
        load_trained(fresh, store, 40, torch.device("cpu"))


def test_checkpoints_need_no_unpickling_and_are_few(tmp_path: Path) -> None:
    run(tmp_path)
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert [f.name for f in files] == ["iteration-00000020.pt", "iteration-00000030.pt"]
    assert torch.load(files[-1], weights_only=True)["iteration"] == 30


def test_what_is_trained_again_outlives_damaged_checkpoints_of_later_iterations(
    tmp_path: Path,
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    for iteration in (10, 20):
        store.save(iteration, {"iteration": iteration}).write_bytes(b"torn")
    assert store.load_latest() is None
    assert store.save(5, {"iteration": 5}).exists()
    assert store.load_latest() == {"iteration": 5}
    assert store.latest_iteration() == 5


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return Path.touch, (Path(tmp_path / "sprung"),)  # type: ignore[return-value]

    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(5, {"iteration": 5})
    torch.save({"iteration": Trap()}, tmp_path / "checkpoints" / "iteration-00000009.pt")
    loaded = store.load_latest()
    assert loaded == {"iteration": 5}
    assert not (tmp_path / "sprung").exists()


class _Broken(DiffusionProcess):
    """A process whose targets turn into `value` after some batches."""

    steps, shape, state_shape = 1, (1, 8, 8), (1, 8, 8)

    def __init__(self, value: float) -> None:
        self.value = value

    def training_batches(
        self, images: Callable[[int], Tensor], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        for index in range(1000):
            state = images(batch_size)
            target = torch.full_like(state, 1.0 if index < 12 else self.value)
            step = torch.ones(batch_size, dtype=torch.int64)
            yield TrainingBatch(state, step, target, torch.ones(1))

    def encode(self, images: Tensor) -> Tensor:
        return images

    decode = encode

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        return torch.zeros(count, *self.shape)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        return state

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        return state


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    """The loss of its iteration is finite: it is that of the weights before the step."""
    network = small_network()
    asked = 0

    def spoil(gradient: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return gradient * math.nan if asked == 20 else gradient

    next(network.parameters()).register_hook(spoil)
    with pytest.raises(DivergedError, match="loss is nan at iteration 20"):
        run(tmp_path, network=network)
    state = CheckpointStore(tmp_path / "checkpoints").load_latest()
    assert state is not None
    assert state["iteration"] == 10


@pytest.mark.parametrize(
    ("value", "message"), [(math.nan, "loss is nan at iteration 15"), (1e4, "loss exploded to")]
)
def test_divergence_ends_the_training_and_is_never_saved(
    tmp_path: Path, value: float, message: str
) -> None:
    with pytest.raises(DivergedError, match=message):
        run(tmp_path, process=_Broken(value))
    assert CheckpointStore(tmp_path / "checkpoints").latest_iteration() == 10


def test_every_epoch_draws_every_image_once() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    source = ShuffledImages(images, torch.Generator().manual_seed(0))
    drawn = torch.cat([source(4) for _ in range(5)]).flatten()
    bytes_ = ((drawn + 1) * 127.5).round().int().tolist()
    assert sorted(bytes_[:10]) == sorted(bytes_[10:]) == list(range(10))
    assert bytes_[:10] != bytes_[10:]


def test_images_must_be_bytes_or_angles() -> None:
    with pytest.raises(ValueError, match="uint8"):
        ShuffledImages(torch.zeros(4, 1, 8, 8, dtype=torch.float64), torch.Generator())


def drawn_bytes(augment: tuple[str, ...], count: int = 64, **options: int) -> torch.Tensor:
    """Draws of one 2 x 2 image whose four pixels differ, as (count, 4) bytes."""
    images = torch.tensor([[[[0, 1], [2, 3]]]], dtype=torch.uint8)
    source = ShuffledImages(images, torch.Generator().manual_seed(0), augment, **options)
    return ((source(count) + 1) * 127.5).round().int().flatten(1)


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        ((), {(0, 1, 2, 3)}),
        (("horizontal-flip",), {(0, 1, 2, 3), (1, 0, 3, 2)}),
        (("vertical-flip",), {(0, 1, 2, 3), (2, 3, 0, 1)}),
        (("rotate",), {(0, 1, 2, 3), (1, 3, 0, 2), (3, 2, 1, 0), (2, 0, 3, 1)}),
    ],
)
def test_augmentation_gives_every_variant_equally_often(
    augment: tuple[str, ...], expected: set[tuple[int, ...]]
) -> None:
    drawn = [tuple(image) for image in drawn_bytes(augment, 400).tolist()]
    assert set(drawn) == expected
    for variant in expected:
        # Five standard deviations of a binomial count.
        share = 1 / len(expected)
        assert abs(drawn.count(variant) - 400 * share) <= 5 * (400 * share * (1 - share)) ** 0.5


def test_all_changes_together_give_the_symmetries_of_the_square() -> None:
    every = drawn_bytes(("rotate", "horizontal-flip", "vertical-flip"), 400)
    assert len({tuple(image) for image in every.tolist()}) == 8


def test_augmentation_keeps_the_order_of_drawing_without_it() -> None:
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    plain, flipped = (
        ShuffledImages(images, torch.Generator().manual_seed(3), augment)(6)
        for augment in ((), ("horizontal-flip",))
    )
    assert torch.equal(plain, flipped)


def test_images_above_the_limit_stay_where_they_are_and_are_drawn_alike() -> None:
    both = ("horizontal-flip", "vertical-flip")
    assert torch.equal(drawn_bytes(both), drawn_bytes(both, resident_bytes=0))


@pytest.mark.parametrize(
    ("augment", "shape", "message"),
    [(("shear",), (4, 1, 8, 8), "unknown augmentation"), (("rotate",), (4, 1, 8, 6), "square")],
)
def test_impossible_augmentation_is_refused(
    augment: tuple[str, ...], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ShuffledImages(torch.zeros(shape, dtype=torch.uint8), torch.Generator(), augment)


def test_history_survives_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text('{"iteration": 5, "loss": 1.0}\n{"iteration": 10, "lo')
    assert [r["iteration"] for r in read_history(path)] == [5]
    History(path, keep_up_to=5).append({"iteration": 10, "loss": 0.5})
    assert [r["iteration"] for r in read_history(path)] == [5, 10]


def test_seeds_of_different_streams_differ() -> None:
    names = [("train",), ("sample",), ("train", 1), ("train", 2)]
    seeds = {derive_seed(seed, *name) for seed in range(50) for name in names}
    assert len(seeds) == 200
    assert derive_seed(0, "train") == 3519305846775570031


def test_the_average_is_pytorchs_own() -> None:
    networks = [small_network() for _ in range(4)]
    mine, theirs = AveragedModel(networks[0]), AveragedModel(networks[0])

    def blend(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        decay = min(0.15, (1 + float(count)) / (10 + float(count)))
        for one, other in zip(averaged, current, strict=True):
            one.mul_(decay).add_(other, alpha=1 - decay)

    theirs.multi_avg_fn = blend
    for network in networks:
        update_average(mine, network, 0.15)
        theirs.update_parameters(network)
    assert mine.n_averaged == theirs.n_averaged == 4
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_an_optimiser_of_an_earlier_checkpoint_goes_on_fused() -> None:
    def steps(optimizer: torch.optim.AdamW, network: nn.Module, number: int) -> None:
        for index in range(number):
            for p in network.parameters():
                p.grad = torch.full_like(p, 0.1 + index)
            optimizer.step()

    torch.manual_seed(0)
    old_network = small_network()
    new_network = copy.deepcopy(old_network)
    old = torch.optim.AdamW(old_network.parameters(), lr=1e-2, weight_decay=0.01)
    steps(old, old_network, 3)
    new_network.load_state_dict(old_network.state_dict())
    new = make_optimizer(new_network, 1e-2, 0.01)
    state = copy.deepcopy(old.state_dict())
    load_optimizer(new, state)
    assert state["param_groups"][0]["fused"] is None  # left as it was
    assert new.param_groups[0]["fused"] is True
    steps(old, old_network, 3)
    steps(new, new_network, 3)
    for one, other in zip(old_network.parameters(), new_network.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)
