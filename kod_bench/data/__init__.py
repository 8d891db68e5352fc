"""Named data sets as tensors of intensities or angles, with fixed splits."""

from kod_bench.data.angle_options import Values
from kod_bench.data.datasets import (
    ImageDataset,
    PreparedDataset,
    default_data_dir,
    load_dataset,
    open_dataset,
    prepared_count,
)
from kod_bench.data.errors import DataError
from kod_bench.data.options import (
    DatasetName,
    DatasetOptions,
    SyntheticOptions,
    dataset_names,
)
from kod_bench.data.registry import DATASETS
from kod_bench.data.spec import DatasetSpec, Source, SourceImage, unless_folder
from kod_bench.data.sphere import known_spectrum
from kod_bench.data.sphere_options import SphereOptions

__all__ = [
    "DATASETS",
    "DataError",
    "DatasetName",
    "DatasetOptions",
    "DatasetSpec",
    "ImageDataset",
    "PreparedDataset",
    "Source",
    "SourceImage",
    "SphereOptions",
    "SyntheticOptions",
    "Values",
    "dataset_names",
    "default_data_dir",
    "known_spectrum",
    "load_dataset",
    "open_dataset",
    "prepared_count",
    "unless_folder",
]
