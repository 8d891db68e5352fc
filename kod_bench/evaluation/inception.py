"""Inception features as clean-fid computes them: the field's own, and the ones to publish."""

import warnings
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kod_bench.evaluation.features import (
    FeatureExtractor,
    Features,
    check_images,
)
from kod_bench.evaluation.weights_file import WeightsFile

#: TorchScript translation of the 2015 TensorFlow graph, made for StyleGAN2-ADA, used by clean-fid.
WEIGHTS_NAME = "inception-2015-12-05.pt"
WEIGHTS_URL = (
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/" + WEIGHTS_NAME
)
WEIGHTS_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"

#: Path of the weights, for who keeps them elsewhere than in the cache.
WEIGHTS_VARIABLE = "KOD_BENCH_INCEPTION"


class CleanFidExtractor(FeatureExtractor):
    """Features of images that enter a network the way clean-fid's mode ``clean`` prepares them.

    Each channel is resized to `side` x `side` pixels (299) by Pillow's antialiased bicubic filter
    in floating point (Parmar et al. 2022), by clean-fid's own function, and stays on [0, 255]. Gray
    images enter as three equal channels. A subclass says what the network is; whatever is given to
    clean-fid as ``custom_feat_extractor`` fits.

    Args:
        device: where to run.
        batch_size: images at a time.
    """

    side: ClassVar[int] = 299

    def __init__(self, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        from cleanfid.resize import make_resizer

        self._device = torch.device(device)
        self._batch_size = batch_size
        # What its mode "clean" is, of any size.
        self._resize = make_resizer("PIL", False, "bicubic", (self.side, self.side))

    @abstractmethod
    def network(self, images: Tensor) -> Tensor:
        """(B, 3, side, side) float32 on [0, 255], on the device -> (B, D)."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """(N, C, H, W) uint8 with one or three channels -> (N, D) float64."""
        check_images(images)
        features = []
        # Pillow works outside the interpreter's lock; as many threads as torch may use.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for first in range(0, len(images), self._batch_size):
                batch = images[first : first + self._batch_size].cpu().expand(-1, 3, -1, -1)
                pixels = batch.permute(0, 2, 3, 1).numpy()
                resized = np.stack(list(pool.map(self._resize, pixels))).transpose(0, 3, 1, 2)
                inputs = torch.from_numpy(np.ascontiguousarray(resized)).to(self._device)
                features.append(self.network(inputs).float().cpu())
        return torch.cat(features).numpy().astype(np.float64)


class Inception(CleanFidExtractor):
    """Pool-3 features, D = 2048, of Inception v3 with clean-fid's weights.

    Args:
        device: where to run.
        batch_size: images at a time.

    Raises:
        ExtractorError: if the weights are nowhere; it says where to put them.
    """

    def __init__(self, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        super().__init__(device, batch_size)
        path = find_weights()
        load: Callable[..., Any] = torch.jit.load  # untyped in torch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the weights exist as TorchScript only
            self._layers = load(str(path), map_location=self._device).eval().layers
        self.name = f"inception-{WEIGHTS_SHA256[:8]}"

    def network(self, images: Tensor) -> Tensor:
        """(B, 3, 299, 299) float32 on [0, 255] -> (B, 2048)."""
        return torch.as_tensor(self._layers.forward((images - 128) / 128)).view(len(images), 2048)


def find_weights() -> Path:
    """Where the weights are: as named in $KOD_BENCH_INCEPTION, in the cache, or downloaded there.

    Raises:
        ExtractorError: if they are nowhere, or the file is another one than clean-fid's.
    """
    return WeightsFile(
        "Inception", WEIGHTS_NAME, WEIGHTS_URL, WEIGHTS_SHA256, WEIGHTS_VARIABLE
    ).find()
