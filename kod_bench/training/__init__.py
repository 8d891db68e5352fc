"""Training: the loop, its checkpoints and its history. One process or DDP; never imports ray."""

from kod_bench.seeds import derive_seed
from kod_bench.training.checkpoint import CheckpointStore, checkpoint_iteration, checkpoint_name
from kod_bench.training.curves import CurveWriter
from kod_bench.training.history import History, read_history
from kod_bench.training.images import ShuffledImages
from kod_bench.training.loop import (
    DivergedError,
    Progress,
    PrunedError,
    StoppedError,
    TrainedModel,
    TrainingOptions,
    load_trained,
    pick_device,
    train,
)
from kod_bench.training.memory import TooLittleMemoryError, is_out_of_memory

__all__ = [
    "CheckpointStore",
    "CurveWriter",
    "DivergedError",
    "History",
    "Progress",
    "PrunedError",
    "ShuffledImages",
    "StoppedError",
    "TooLittleMemoryError",
    "TrainedModel",
    "TrainingOptions",
    "checkpoint_iteration",
    "checkpoint_name",
    "derive_seed",
    "is_out_of_memory",
    "load_trained",
    "pick_device",
    "read_history",
    "train",
]
