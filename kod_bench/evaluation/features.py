"""The interface of feature extractors: uint8 images in, one feature vector per image out."""

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kod_bench.errors import UsageError

Features = npt.NDArray[np.float64]


class ExtractorError(UsageError, ValueError):
    """A feature extractor that is unknown, lacks its weights, or returns what no score can use."""


class FeatureExtractor(ABC):
    """Maps images to feature vectors.

    One method. To bring your own (DINOv2, CLIP, a network of your field), write a class whose
    constructor takes the device and whose instances are called like this one, and name it in a
    search space or on the command line: ``features: my_module:MyExtractor``. It need not inherit
    from this class.

    Attributes:
        name: identifies network, weights and input size. Part of every row: numbers from
            different extractors are never compared.
    """

    name: str

    @abstractmethod
    def __call__(self, images: Tensor) -> Features:
        """(N, C, H, W) uint8 with one or three channels -> (N, D) float64.

        The vector of an image must not depend on the other images of the call.
        """


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of images.

    Raises:
        ValueError: saying what it is and what is allowed.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 (N, C, H, W) with 1 or 3 channels, got "
            f"{images.dtype} {tuple(images.shape)}"
        )
