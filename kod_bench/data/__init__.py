"""Named data sets as uint8 image tensors with fixed splits."""

from kod_bench.data.datasets import ImageDataset, default_data_dir, load_dataset
from kod_bench.data.errors import DataError
from kod_bench.data.options import DatasetName, DatasetOptions, SyntheticOptions

__all__ = [
    "DataError",
    "DatasetName",
    "DatasetOptions",
    "ImageDataset",
    "SyntheticOptions",
    "default_data_dir",
    "load_dataset",
]
