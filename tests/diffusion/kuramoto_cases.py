"""What tests of Kuramoto diffusion share: phases, images somewhat like prints, a fitted process."""

import math

import torch

from kod_bench.diffusion import KuramotoDiffusion


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def phases(*shape, seed=0):
    uniform = torch.rand(shape, generator=generator(seed), dtype=torch.float64)
    return (2 * uniform - 1) * math.pi


def prints(shape, seed=0, white=0.5):
    """An image source somewhat like prints: stripes on white or gray, some pages white."""
    rng = generator(seed)

    def draw(number):
        wave = torch.linspace(0, 12, shape[2]) + 6 * torch.rand(number, 1, 1, 1, generator=rng)
        stripes = 0.8 * wave.sin().expand(number, *shape)
        noise = 0.3 * torch.rand(number, *shape, generator=rng) - 0.15
        blank = torch.rand(number, 1, 1, 1, generator=rng) < white
        return (torch.where(blank, 0.85, stripes) + noise).clamp(-1, 1)

    return draw


def fitted(seed=0, **parameters):
    arguments = {"shape": (1, 12, 12), "steps": 40, "coupling": "local"} | parameters
    process = KuramotoDiffusion(**arguments)
    process.fit(prints(process.shape), generator(seed))
    return process
