"""Sampling: a trained model is drawn from in shards, which are stored and never drawn again."""

from kod_bench.sampling.claims import Claims
from kod_bench.sampling.drawing import Source, draw_shard, weights_hash
from kod_bench.sampling.samples import StoredSamples
from kod_bench.sampling.shards import (
    MANIFEST_FILE,
    Identity,
    Shard,
    ShardFolder,
    Way,
    shard_index,
    shards_of,
)

__all__ = [
    "MANIFEST_FILE",
    "Claims",
    "Identity",
    "Shard",
    "ShardFolder",
    "Source",
    "StoredSamples",
    "Way",
    "draw_shard",
    "shard_index",
    "shards_of",
    "weights_hash",
]
