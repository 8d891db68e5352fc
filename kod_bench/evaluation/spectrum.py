"""How the variance of images is spread over spatial frequency."""

import numpy as np
import torch
from torch import Tensor

from kod_bench.evaluation.wasserstein import FloatArray

#: Highest frequency that is looked at, cycles per pixel: the Nyquist frequency along an axis.
HIGHEST = 0.5


def radial_spectrum(images: Tensor) -> FloatArray:
    """Energy per interval of |f|, added up over images that each have one unit of it.

    The mean over channels, less its own mean, under a Hann window (so that opposite borders, which
    do not continue each other, leave no trace), gives the power P(f). The bin of frequency |f|
    takes the sum of P over its ring, that is the radial average times the ring's length: the share
    of the image's variance at that frequency, whatever its direction and whatever its contrast.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (min(H, W) // 2,) from 0 to `HIGHEST`. Blank images add nothing.
    """
    height, width = images.shape[-2:]
    bins = min(height, width) // 2
    gray = images.double().mean(dim=1)
    window = torch.outer(
        torch.hann_window(height, periodic=False, dtype=torch.float64),
        torch.hann_window(width, periodic=False, dtype=torch.float64),
    )
    power = torch.fft.fft2((gray - gray.mean(dim=(1, 2), keepdim=True)) * window).abs().square()
    total = power.sum(dim=(1, 2), keepdim=True)
    shares = torch.where(total > 0, power / total.clamp(min=1e-12), 0.0).sum(dim=0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.minimum((frequency * bins / HIGHEST).astype(np.int64), bins)  # the corners apart
    sums = np.bincount(ring.ravel(), shares.numpy().ravel(), minlength=bins + 1)
    return np.asarray(sums[:bins], np.float64)
