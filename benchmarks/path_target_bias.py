"""Variance and bias of score targets on a small ring, against identities that need no score.

For every smooth field g on the torus E[div g(theta)] = -E[g . score], so a target H is unbiased
only if E[div g - g . H] = 0. The bias is that defect over sqrt(E|g|^2 N), as a root mean square
over fields: for each field at most the rms error of E[-H | theta] per phase, to be compared with
the rms of the score. The error is Monte Carlo's. `single` is the same over the fields of single
phases alone, where an inexact conditional mean shows. Four targets share their chains:

- one-step: eps / s_t, the papers';
- frozen field: the Malliavin weight of one phase with the mean field held fixed, restarted every m
  steps (a cheap approximation when phases are coupled);
- path: `kod_bench.diffusion.path_weight`, exact with coupling;
- conditional: its mean given the fields a phase has felt (`kod_bench.diffusion.phase_law`), whose
  bias falls with the phases in a neighbourhood: hence one process with a wider one.

Run with `python benchmarks/path_target_bias.py [chains]`.
"""

import math
import sys

import torch
from torch import Tensor

from kod_bench.diffusion import KuramotoDiffusion

MEMORIES = (1, 4, 16, 100)
STEPS = 100
SHOWN = (30, 60, 100)
SIZE = 16
SINGLE = 2


class FrozenField:
    """H = (M - L) / Gamma + 2 Q / Gamma^2, one phase at a time."""

    def __init__(self, like: Tensor, memory: int) -> None:
        self.memory = memory
        self.sums = [torch.zeros_like(like) for _ in range(4)]

    def step(self, process: KuramotoDiffusion, state: Tensor, noise: Tensor, t: int) -> None:
        """Update the sums with the state before step t and the step's noise."""
        if (t - 1) % self.memory == 0:
            self.sums = [torch.zeros_like(state) for _ in range(4)]
        gamma, first, trace, second = self.sums
        flow, std = process.flow(state, t), process.noise_std[t]
        factor = 1 - (flow.real * flow.cosine + flow.imaginary * flow.sine)
        bend = -flow.drift()
        second = factor**2 * (factor * second + bend * gamma**2)
        trace = factor * trace + bend * gamma
        first = factor * first + std * noise
        self.sums = [factor**2 * gamma + std**2, first, trace, second]

    def value(self) -> Tensor:
        """The target H."""
        gamma, first, trace, second = self.sums
        return (first - trace) / gamma + 2 * second / gamma**2


def fields(theta: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(g, div g) for fields from single phases to the mode in which all move together."""
    theta = theta.flatten(1)
    cosine, sine = theta.cos(), theta.sin()
    found = [(sine, cosine.sum(1)), (cosine, -sine.sum(1))]  # the first SINGLE are single phases
    for reach in (1, 5, SIZE // 2):
        # Sums over a window of neighbours: smooth modes, which coupling feeds back.
        window = range(-reach, reach) if reach == SIZE // 2 else range(-reach, reach + 1)
        for wave, slope in ((sine, cosine), (cosine, -sine)):
            smooth = torch.stack([wave.roll(shift, 1) for shift in window]).sum(0)
            found.append((smooth, slope.sum(1)))
    return found


def bias(tested: list[tuple[Tensor, Tensor]], target: Tensor) -> tuple[float, float]:
    """Rms over fields of the relative defect, and of its standard error."""
    defects, errors = [], []
    for field, divergence in tested:
        size = field.square().sum(1).mean().sqrt() * math.sqrt(field.shape[1])
        defect = divergence - (field * target.flatten(1)).sum(1)
        defects.append(defect.mean() / size)
        errors.append(defect.std() / math.sqrt(len(defect)) / size)
    return (
        torch.stack(defects).square().mean().sqrt().item(),
        torch.stack(errors).square().mean().sqrt().item(),
    )


def measure(name: str, chains: int, **parameters: object) -> None:
    """Print the table of one process."""
    shape = (1, 1, SIZE)
    processes = {
        memory: KuramotoDiffusion(shape=shape, steps=STEPS, memory=memory, **parameters)
        for memory in MEMORIES
    }
    process = processes[1]
    averaging = KuramotoDiffusion(shape=shape, steps=STEPS, target="conditional", **parameters)
    rng = torch.Generator().manual_seed(0)
    # Data somewhat like a print: half of the rings all white, half with two ridges.
    ridges = torch.sin(torch.linspace(0, 4 * math.pi, SIZE + 1)[:-1])
    shift = torch.randint(0, SIZE, (chains,), generator=rng)
    place = (torch.arange(SIZE) + shift.unsqueeze(1)) % SIZE
    white = torch.rand((chains, 1), generator=rng) < 0.5
    images = torch.where(white, 0.8, 0.8 * ridges[place])
    images = images.view(chains, *shape)
    state = process.encode(images)
    averaged = averaging.start_chains(images)
    weights = {memory: torch.zeros_like(state) for memory in MEMORIES}
    frozen = {memory: FrozenField(state, memory) for memory in MEMORIES}
    columns = f"{'bias':>8} {'error':>8} {'single':>8} {'error':>8}"
    print(f"\n{name}\n{'t':>4} {'memory':>7} {'target':>13} {'std':>7} {columns}")
    for t in range(1, STEPS + 1):
        noise_state = rng.get_state()
        step = torch.full((chains,), t)
        noise = torch.randn(state.shape, generator=rng)
        for each in frozen.values():
            each.step(process, state, noise, t)
        for memory in MEMORIES:
            # The same noise for every memory: the chains are the same.
            rng.set_state(noise_state)
            planes = torch.stack([state, weights[memory]], dim=1)
            after, weights[memory] = processes[memory].advance_chains(planes, step, rng).unbind(1)
        rng.set_state(noise_state)
        averaged = averaging.advance_chains(averaged, step, rng)
        state = after
        if t not in SHOWN:
            continue
        tested = fields(state)
        for memory in MEMORIES:
            kinds = {"path": weights[memory], "frozen field": frozen[memory].value()}
            if memory == 1:
                kinds = {"one-step": weights[memory]}
            if memory == STEPS:
                kinds["conditional"] = averaging.estimate(averaged, step)
            for kind, target in kinds.items():
                measured = (*bias(tested, target), *bias(tested[:SINGLE], target))
                shown = " ".join(f"{value:>8.4f}" for value in measured)
                print(f"{t:>4} {memory:>7} {kind:>13} {target.std():>7.3f} {shown}")


def main() -> None:
    """Print one table per coupling."""
    chains = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    for name, parameters in {
        "local, radius 2, as released": {"coupling": "local", "neighbourhood_radius": 2},
        "local, radius 5, as released": {"coupling": "local", "neighbourhood_radius": 5},
        "local, radius 2, K = 0.9 (2D)": {
            "coupling": "local",
            "neighbourhood_radius": 2,
            "coupling_ratio": 0.9,
        },
        "global, as released": {"coupling": "global"},
    }.items():
        measure(name, chains, **parameters)


if __name__ == "__main__":
    main()
