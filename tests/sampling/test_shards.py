"""Shards of samples: what they depend on, what is never read, and who may draw them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kod_bench.diffusion import make_process, to_stored
from kod_bench.results import FORWARD_START
from kod_bench.sampling import (
    Claims,
    Identity,
    ShardFolder,
    Source,
    StoredSamples,
    Way,
    draw_shard,
    shard_index,
    shards_of,
    weights_hash,
)

SIZE = 16


def source(seed: int = 0) -> Source:
    process = make_process("ddpm", shape=(1, 8, 8), steps=4)
    held_out = torch.randint(
        0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return Source(
        process, lambda state, step: 0.3 * state.roll(1, -1), held_out, seed, torch.device("cpu")
    )


def way(prior: str | None = None) -> Way:
    process = source().process
    return Way(prior or process.priors[0], process.samplers[0], 3)


def identity() -> Identity:
    return Identity("weights", "subject", "0.1+code", way(), 0, SIZE)


def drawn(index: int) -> Tensor:
    return to_stored(draw_shard(source(), way(), index, SIZE), "intensities")


def store(shards: ShardFolder, index: int, images: Tensor | None = None) -> None:
    images = drawn(index) if images is None else images
    shards.write(index, images, seconds=1.5, precision="fp32", extra={"n": index})


def stored(folder: Path, count: int) -> StoredSamples:
    shards = ShardFolder(folder, identity())
    return StoredSamples(shards, count, lambda index: store(shards, index))


@pytest.mark.parametrize("prior", [None, FORWARD_START])
def test_a_shard_depends_on_its_number_and_not_on_what_was_drawn_before(prior: str | None) -> None:
    alone = draw_shard(source(), way(prior), 2, SIZE)
    after = [draw_shard(source(), way(prior), index, SIZE) for index in (0, 1, 2)]
    assert torch.equal(alone, after[2])
    assert not torch.equal(after[0], after[1])
    assert not torch.equal(alone, draw_shard(source(seed=1), way(prior), 2, SIZE))


def test_the_first_images_do_not_depend_on_how_many_are_wanted(tmp_path: Path) -> None:
    few, many = stored(tmp_path / "few", 20), stored(tmp_path / "many", 40)
    assert [len(batch) for batch in few] == [16, 4]
    assert [len(batch) for batch in many] == [16, 16, 8]
    assert torch.equal(torch.cat(list(few)), torch.cat(list(many))[:20])
    # The last one lies whole: whoever wants more images later has them.
    shard = few.shards.read(1)
    assert shard is not None
    assert len(shard.images) == SIZE
    assert (few.shards.path / "shard-000001.npz").read_bytes() == (
        many.shards.path / "shard-000001.npz"
    ).read_bytes()


def test_images_are_found_by_number(tmp_path: Path) -> None:
    samples = stored(tmp_path, 40)
    whole = torch.cat(list(samples))
    chosen = torch.tensor([33, 0, 15, 16, 0])
    assert torch.equal(samples[chosen], whole[chosen])
    assert torch.equal(samples.first(18), whole[:18])
    assert len(samples.first(64)) == len(samples) == 40


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_damaged_shard_is_drawn_again_with_the_same_bits(
    tmp_path: Path, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    samples = stored(tmp_path, 40)
    before = torch.cat(list(samples))
    path = samples.shards.file(1)
    whole = path.read_bytes()
    for damaged in (
        whole[: int(place * len(whole))],
        bytes(b ^ 0xFF if n == int(place * len(whole)) else b for n, b in enumerate(whole)),
        b"",
    ):
        path.write_bytes(damaged)
        caplog.clear()
        again = stored(tmp_path, 40)
        assert torch.equal(torch.cat(list(again)), before)
        assert path.read_bytes() == whole


def test_bits_that_zip_does_not_notice_are_noticed_by_the_hash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = ShardFolder(tmp_path, identity())
    store(shards, 0)
    with np.load(shards.file(0)) as archive:
        about, images = archive["about"], archive["images"].copy()
    images[3, 0, 2, 2] ^= 1
    np.savez(shards.file(0), about=about, images=images)
    assert ShardFolder(tmp_path, identity()).read(0) is None
    assert "shard-000000.npz is damaged and is drawn again" in caplog.text


@pytest.mark.parametrize("change", ["weights", "subject", "code", "seed", "way", "size"])
def test_shards_of_others_are_never_read_and_named_once(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = ShardFolder(tmp_path, identity())
    for index in range(3):
        store(theirs, index)
    other = {"seed": 1, "way": replace(way(), network_evaluations=2), "size": 8}.get(change, "x")
    ours = ShardFolder(tmp_path, replace(identity(), **{change: other}))  # type: ignore[arg-type]
    assert ours.read(0) is None
    assert ours.missing(range(4)) == [0, 1, 2, 3]
    (line,) = (record.getMessage() for record in caplog.records)
    assert "3 shard(s) are damaged, or of other weights or another version of the code" in line
    assert theirs.missing(range(4)) == [3]


def test_a_shard_under_another_number_is_not_taken_for_it(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path, identity())
    store(shards, 0)
    shards.file(0).rename(shards.file(1))
    assert ShardFolder(tmp_path, identity()).missing(range(2)) == [0, 1]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path / "ours", identity())
    theirs = ShardFolder(tmp_path / "theirs", identity())
    store(theirs, 0)
    shards.path.mkdir()
    shards.file(0).symlink_to(theirs.file(0))
    assert shards.read(0) is None


def test_data_that_are_no_images_are_kept_as_they_are(tmp_path: Path) -> None:
    shards = ShardFolder(tmp_path, identity())
    angles = draw_shard(source(), way(), 0, SIZE)
    store(shards, 0, angles)
    found = ShardFolder(tmp_path, identity()).read(0)
    assert found is not None
    assert found.images.dtype == torch.float32
    assert torch.equal(found.images, angles)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(SIZE, 1, 8, 8).double()]
)
def test_half_a_shard_is_refused(tmp_path: Path, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"a shard must be \(16, C, H, W\)"):
        store(ShardFolder(tmp_path, identity()), 0, images)
    assert not any(tmp_path.iterdir())


def test_the_manifest_lists_all(tmp_path: Path) -> None:
    samples = stored(tmp_path, 20)
    shards = [shard for shard, _ in samples.each()]
    samples.shards.finish(20)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["weights"], manifest["code"]) == ("weights", "0.1+code")
    assert (manifest["seed"], manifest["size"], manifest["count"]) == (0, SIZE, 20)
    assert manifest["way"] == {
        "prior": way().prior,
        "sampler": way().sampler,
        "network_evaluations": 3,
    }
    assert [each["sha256"] for each in manifest["shards"]] == [each.sha256 for each in shards]


def test_a_claim_is_held_by_one_process_and_dropped_when_it_dies(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with Claims(tmp_path) as claims, claims.claim(1) as held:
            os.write(writing, b"y" if held else b"n")
            signal_never_comes = os.pipe()[0]
            os.read(signal_never_comes, 1)
        os._exit(1)
    try:
        assert os.read(reading, 1) == b"y"
        with Claims(tmp_path) as claims:
            with claims.claim(0) as held:
                assert held
            with claims.claim(1) as held:
                assert not held
            os.kill(child, 9)
            os.waitpid(child, 0)
            with claims.claim(1) as held:
                assert held
    finally:
        os.close(reading)
        os.close(writing)


def test_names_of_shards() -> None:
    assert shard_index(ShardFolder(Path(), identity()).file(12).name) == 12
    assert shard_index("manifest.json") is None
    assert [list(shards_of(count, 16)) for count in (1, 16, 17)] == [[0], [0], [0, 1]]


def test_weights_are_told_apart_by_number_name_and_shape_and_not_by_layout() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(2, 4, 3)
    before = weights_hash(network)
    assert weights_hash(network.to(memory_format=torch.channels_last)) == before  # type: ignore[call-overload]
    with torch.no_grad():
        network.weight[0, 0, 0, 0] += 1e-6
    assert weights_hash(network) != before
    assert weights_hash(nn.Sequential(network)) != weights_hash(network)
    assert weights_hash(network.bfloat16()) != before


def test_what_is_not_finite_is_no_image() -> None:
    with pytest.raises(FloatingPointError, match="diverged"):
        to_stored(torch.full((1, 1, 2, 2), torch.nan), "intensities")
