"""DINOv2 features, of self-supervised vision transformers: FD and KID nearer to what people see."""

from typing import ClassVar

import torch
from torch import Tensor

from kod_bench.evaluation.features import ExtractorError
from kod_bench.evaluation.inception import CleanFidExtractor
from kod_bench.evaluation.vision_transformer import Layout, VisionTransformer
from kod_bench.evaluation.weights_file import WeightsFile

_PUBLISHED = "https://dl.fbaipublicfiles.com/dinov2"

#: Means and standard deviations of red, green and blue that its training images were brought to.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2(CleanFidExtractor):
    """The class token of a DINOv2 backbone (arXiv 2304.07193), as FD-DINOv2 has it (2306.04675).

    Images enter with 224 x 224 pixels, resized by clean-fid's own function (Pillow's antialiased
    bicubic filter); the embeddings of places, of 518 pixels, are resampled as the authors' code
    does. torch-fidelity resizes without antialiasing: its numbers are others.

    Args:
        device: where to run.
        batch_size: images at a time.

    Attributes:
        layout: sizes of the network.
        weights: its published file.

    Raises:
        ExtractorError: if the weights are nowhere, or do not fit; it says where to put them.
    """

    side = 224
    layout: ClassVar[Layout]
    weights: ClassVar[WeightsFile]

    def __init__(self, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        super().__init__(device, batch_size)
        path = self.weights.find()
        network = VisionTransformer(self.layout)
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except RuntimeError as error:  # torch lists every name that does not fit
            raise ExtractorError(f"{path}: holds no weights of {self.weights.network}") from error
        self._network = network.eval().to(self._device)
        self._mean, self._std = (
            torch.tensor(each, device=self._device).view(3, 1, 1) for each in (_MEAN, _STD)
        )
        short = self.weights.name.removesuffix("_pretrain.pth").replace("_", "-")
        self.name = f"{short}@{self.side}-{self.weights.sha256[:8]}"

    def network(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) float32 on [0, 255] -> (B, D)."""
        out: Tensor = self._network((images / 255 - self._mean) / self._std)
        return out


class DINOv2Base(DINOv2):
    """ViT-B/14, D = 768; the file has 346 MB."""

    layout = Layout(width=768, depth=12, heads=12)
    weights = WeightsFile(
        "DINOv2 ViT-B/14",
        "dinov2_vitb14_pretrain.pth",
        f"{_PUBLISHED}/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        "KOD_BENCH_DINOV2_VITB14",
    )


class DINOv2Large(DINOv2):
    """ViT-L/14, D = 1024, the one that papers with FD-DINOv2 publish; the file has 1.2 GB."""

    layout = Layout(width=1024, depth=24, heads=16)
    weights = WeightsFile(
        "DINOv2 ViT-L/14",
        "dinov2_vitl14_pretrain.pth",
        f"{_PUBLISHED}/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        "KOD_BENCH_DINOV2_VITL14",
    )
