"""What the parameters of a Kuramoto process say of its steps, defaults included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from kod_bench.diffusion.checks import check_number, check_pair
from kod_bench.diffusion.circle import MAX_WRAPPED_STD
from kod_bench.diffusion.kuramoto_schedule import Preset, Ramp, ramp, released_schedule
from kod_bench.diffusion.phase_flow import (
    LocalMeanField,
    MeanField,
    Neighbourhood,
    global_mean_field,
)

Coupling = Literal["global", "local", "none"]

#: Unless told otherwise a chain is visited so often while it keeps its image ...
_VISITS = 3
#: ... or makes so many steps between two visits: they must stay cheap beside the network.
_MOST_CHAIN_STEPS = 30
#: K_ref over K as released.
_REFERENCE_RATIO: dict[Coupling, float] = {"global": 1.5, "local": 1.0, "none": 1.5}


@dataclass(frozen=True)
class KuramotoDynamics:
    """Noise and pulls at the steps 1..T, for a unit time step; float64, on the CPU.

    Attributes:
        noise_variance: (T,) s_t^2 = 2 D_t, in rad^2.
        coupling: (T,) K_t, in rad per step.
        reference: (T,) K_ref at t, likewise.
    """

    noise_variance: Tensor
    coupling: Tensor
    reference: Tensor


def resolve_dynamics(
    steps: int,
    coupling: Coupling,
    *,
    coupling_strength: float | None,
    reference_strength: float | None,
    coupling_ratio: float | None,
    reference_ratio: float | None,
    strength: float,
    schedule: Preset,
    ramp_shape: Ramp,
    total_time: float | None,
    noise_range: tuple[float, float] | None,
) -> KuramotoDynamics:
    """Noise and strengths of every step; arguments as for `KuramotoDiffusion`.

    Raises:
        ValueError: if one is out of range, or two say different things of the same.
    """
    scheduled = released_schedule(steps, schedule, ramp_shape)
    noise_variance, growth = scheduled.noise_variance, scheduled.coupling
    if noise_range is not None:
        noise_variance = _noise_ramp(noise_range, total_time, steps, ramp_shape)
    elif total_time is not None:
        check_number("total_time", total_time, 0, open_low=True)
        longer = total_time / float(noise_variance.sum())
        noise_variance, growth = longer * noise_variance, longer * growth
        if float(noise_variance.max()) > MAX_WRAPPED_STD**2:
            raise ValueError(
                f"total_time is {total_time} in {steps} steps; each step's share must be at "
                f"most {MAX_WRAPPED_STD**2:g}"
            )
    check_number("strength", strength, 0)
    default = 0.0 if coupling == "none" else strength
    pull = _strengths(
        "coupling", coupling_strength, coupling_ratio, default, growth, noise_variance
    )
    if coupling == "none" and float(pull[-1]) != 0:
        raise ValueError(
            f"coupling_strength is {float(pull[-1]):g} but coupling is 'none'; leave it out or "
            "choose 'global' or 'local'"
        )
    default = _REFERENCE_RATIO[coupling] * strength
    reference = _strengths(
        "reference", reference_strength, reference_ratio, default, growth, noise_variance
    )
    return KuramotoDynamics(noise_variance, pull, reference)


def make_mean_field(
    coupling: Coupling, shape: tuple[int, int, int], radius: int, neighbourhood: Neighbourhood
) -> MeanField | None:
    """The mean field that phases of shape (C, H, W) feel; None without coupling."""
    if coupling == "global":
        return global_mean_field
    if coupling == "local":
        return LocalMeanField(shape[1], shape[2], radius, neighbourhood)
    return None


def default_chain_steps(steps: int) -> int:
    """A third of T, at least 1 and at most 30."""
    return min(max(1, steps // _VISITS), _MOST_CHAIN_STEPS)


def phases_interact(parameters: Mapping[str, Any]) -> bool:
    """Whether any phase feels another one, by what a constructor is given."""
    own = {"coupling": "global", "strength": 1, "neighbourhood_radius": 5, **parameters}
    scale = own.get("coupling_strength"), own.get("coupling_ratio")
    chosen = next((value for value in scale if value is not None), own["strength"])
    alone = own["coupling"] == "local" and own["neighbourhood_radius"] == 0
    return own["coupling"] != "none" and chosen != 0 and not alone


def _noise_ramp(
    noise_range: tuple[float, float], total_time: float | None, steps: int, shape: Ramp
) -> Tensor:
    if total_time is not None:
        raise ValueError(
            f"total_time is {total_time} but noise_range is {noise_range}, which fixes it; leave "
            "one of them out"
        )
    ends = check_pair("noise_range", noise_range)
    for value in ends:
        check_number("noise_range", value, 0, MAX_WRAPPED_STD**2, open_low=True)
    if shape == "constant" and ends[0] != ends[1]:
        raise ValueError(f"ramp is 'constant' but noise_range is {noise_range}, two values")
    return ramp(*ends, steps, shape)


def _strengths(
    name: str,
    strength: float | None,
    ratio: float | None,
    default: float,
    growth: Tensor,
    noise_variance: Tensor,
) -> Tensor:
    """(T,) strengths: a multiple of the noise, or shaped like `growth` up to a last value.

    `default` is a multiple of `growth`, for when neither is given.
    """
    if ratio is not None:
        if strength is not None:
            raise ValueError(
                f"{name}_strength is {strength} and {name}_ratio is {ratio}; leave one of them out"
            )
        return check_number(f"{name}_ratio", ratio, 0) * noise_variance
    if strength is None:
        return default * growth
    return check_number(f"{name}_strength", strength, 0) * (growth / growth[-1])
