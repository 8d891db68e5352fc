"""What a row says of samples and of held-out images."""

import math

import pytest
import torch

from kod_bench.diffusion import make_process
from kod_bench.evaluation import Measured
from kod_bench.sweeps.trial.rows import order_parameters


@pytest.mark.parametrize("margin", [0.5, 0.9, 1.0])
def test_equal_images_have_equal_order_parameters_at_any_margin(margin: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator)
    measured = Measured.of(images, None)
    kuramoto = make_process("kuramoto", shape=(1, 8, 8), steps=4, phase_margin=margin)
    found = order_parameters(kuramoto, measured, measured)
    angles = 0.9 * math.pi * (images.double() / 127.5 - 1)
    expected = torch.exp(1j * angles).mean(dim=(1, 2, 3)).abs().mean().item()
    assert found["order_parameter"] == found["order_parameter_data"] == pytest.approx(expected)
    ddpm = make_process("ddpm", shape=(1, 8, 8), steps=4)
    assert order_parameters(ddpm, measured, measured)["order_parameter"] is None
