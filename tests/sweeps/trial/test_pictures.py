import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kod_bench.diffusion import circle, make_process, sample
from kod_bench.sweeps.trial.pictures import (
    Trajectory,
    forward_order,
    write_forward_end,
    write_trajectory,
)
from tests.fields import mark_at, with_pair


def follow(name: str, channels: int = 1) -> Trajectory:
    process = make_process(name, shape=(channels, 8, 8), steps=12)
    generator = torch.Generator().manual_seed(0)
    process.fit(lambda n: torch.rand(n, channels, 8, 8, generator=generator) - 0.5, generator)
    start = process.prior(20, generator, process.priors[-1])
    trajectory = Trajectory.along(process, 12, None, start)
    sample(
        process,
        lambda state, step: torch.zeros_like(state),
        20,
        generator,
        start=start,
        on_step=trajectory.see,
    )
    return trajectory


@pytest.mark.parametrize(("name", "channels"), [("kuramoto", 1), ("kuramoto", 3), ("ddpm", 3)])
def test_a_strip_and_a_film_show_the_way_from_the_prior_to_the_image(
    tmp_path: Path, name: str, channels: int
) -> None:
    trajectory = follow(name, channels)
    steps = [step for step, _ in trajectory.states]
    assert steps[0] == 12
    assert steps[-1] == 0
    assert len(steps) == 8
    assert steps == sorted(steps, reverse=True)
    write_trajectory(tmp_path / "strip.png", tmp_path / "film.gif", trajectory, "intensities")
    with Image.open(tmp_path / "strip.png") as strip:
        width, height = strip.size
    with Image.open(tmp_path / "film.gif") as film:
        frames = film.n_frames  # type: ignore[attr-defined]
    phases = name == "kuramoto"
    assert frames <= 8 + phases  # equal neighbours are one frame
    assert frames > 4
    assert width == (8 + phases) * (64 + 4) + 4
    assert height == 20 + 6 * (64 + 4) + 4
    assert (tmp_path / "film.gif").stat().st_size < 200_000


def test_phases_at_minus_pi_and_pi_have_one_colour_and_their_middle_another(
    tmp_path: Path,
) -> None:
    process = make_process("kuramoto", shape=(1, 8, 8), steps=4)

    def corner(phase: float) -> tuple[int, ...]:
        states = torch.full((1, 1, 8, 8), phase)
        write_forward_end(tmp_path / "ends.png", process, states, states, "intensities")
        with Image.open(tmp_path / "ends.png") as picture:
            found = picture.convert("RGB").getpixel((20, 40))
        assert isinstance(found, tuple)
        return found

    assert corner(math.pi - 1e-4) == corner(-math.pi + 1e-4)
    assert sum(corner(math.pi - 1e-4)) > 3 * sum(corner(0.0))
    left, right = corner(-math.pi / 2), corner(math.pi / 2)
    assert left[2] > left[0]
    assert right[0] > right[2]


@pytest.mark.parametrize("name", ["kuramoto", "wrapped"])
def test_vortices_are_marked_from_when_they_are_few(tmp_path: Path, name: str) -> None:
    process = make_process(name, shape=(1, 32, 32), steps=2, reading="angle")
    start = process.encode(circle.wrap(with_pair()).repeat(8, 1, 1, 1) / math.pi)
    generator = torch.Generator().manual_seed(0)
    noise = process.encode(2 * torch.rand(8, 1, 32, 32, generator=generator) - 1)
    trajectory = Trajectory(process, frozenset(), [(2, noise), (0, start)])
    write_trajectory(tmp_path / "strip.png", tmp_path / "film.gif", trajectory, "angles")
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.size == (2 * 132 + 4, 20 + 6 * 132 + 4)
        for row in range(6):
            left, top = 4 + 132, 20 + 132 * row  # of the last state
            marks = [(9, 8), (21, 22)]  # sites, of four pixels
            found = [mark_at(strip, left + 4 * x, top + 4 * y) for x, y in marks]
            assert found == ["+", "-"]
        pixels = np.asarray(strip.crop((4, 20, 132, 148)))
    assert not (pixels == pixels[..., :1]).all(axis=2).any(), "noise is covered with marks"
    with Image.open(tmp_path / "film.gif") as film:
        film.seek(film.n_frames - 1)  # type: ignore[attr-defined]
        assert (mark_at(film, 36, 32), mark_at(film, 84, 88)) == ("+", "-")


def test_the_order_parameter_is_followed_both_ways_and_only_for_phases() -> None:
    orders = follow("kuramoto").order_parameters()
    assert orders is not None
    assert all(0 <= value <= 1 for value in orders)
    assert follow("ddpm").order_parameters() is None
    process = make_process("kuramoto", shape=(1, 8, 8), steps=12)
    generator = torch.Generator().manual_seed(0)
    gray = torch.zeros(4, 1, 8, 8)
    ends, forward = forward_order(process, gray, generator)
    assert ends.shape == gray.shape
    assert forward[0] == (0, pytest.approx(1.0))  # one gray is one phase
    assert forward[-1][0] == 12
    assert forward[-1][1] < 1


def test_a_process_of_a_sweep_does_not_start_with_what_only_pictures_need() -> None:
    """It is two fifths of what every worker's imports take."""
    code = (
        "import kod_bench.sweeps.runner, kod_bench.sweeps.trial.run, sys; "
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
