"""What `fit` has measured of training images, as tensors: for models that are kept without them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kod_bench.diffusion.constants import DeviceConstant, StepTable
from kod_bench.diffusion.correlated_ends import CorrelatedEndStateLaw
from kod_bench.diffusion.edm import EDM
from kod_bench.diffusion.flow_matching import FlowMatching
from kod_bench.diffusion.heat import HeatDissipation
from kod_bench.diffusion.kuramoto import KuramotoDiffusion
from kod_bench.diffusion.process import DiffusionProcess
from kod_bench.diffusion.terminal import EndStateLaw

#: What `fit` has measured, by name.
Measurements = dict[str, Tensor]


def is_fitted_to_images(process: DiffusionProcess) -> bool:
    """Whether a process measures training images before it can be trained or sampled."""
    return type(process).fit is not DiffusionProcess.fit


def measurements(process: DiffusionProcess) -> Measurements:
    """What a process, which has been fitted, has measured; nothing, if it measures nothing.

    `restore_measurements` makes an equal process of it, to the bit. A process of a plug-in with a
    `fit` of its own says it by two methods: ``measurements() -> dict[str, Tensor]`` and
    ``restore_measurements(found)``.

    Raises:
        ValueError: if the process does not say what it measures.
    """
    if not is_fitted_to_images(process):
        return {}
    if (own := getattr(process, "measurements", None)) is not None:
        return dict(own())
    take, _ = _known(process)
    return take(process)


def restore_measurements(process: DiffusionProcess, found: Mapping[str, Tensor]) -> None:
    """Fit a new process to what another one has measured.

    Args:
        process: of the same class and parameters.
        found: the other's `measurements`.

    Raises:
        ValueError: if the process does not say what it measures, or these are of another.
    """
    if not is_fitted_to_images(process):
        if found:
            raise ValueError(f"{type(process).__name__} measures nothing, got {sorted(found)}")
        return
    put: Callable[[Any, Mapping[str, Tensor]], None]
    if (own := getattr(process, "restore_measurements", None)) is not None:
        put = lambda _, each: own(each)  # noqa: E731
    else:
        _, put = _known(process)
    try:
        put(process, found)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        name = type(process).__name__
        raise ValueError(f"these measurements are not of this {name}: {error}") from error


def _edm(process: EDM) -> Measurements:
    return {"data_std": torch.tensor([process.data_std], dtype=torch.float64)}


def _restore_edm(process: EDM, found: Mapping[str, Tensor]) -> None:
    (data_std,) = _take(found, data_std=(1,))
    process.data_std = float(data_std)
    process._set_tables(*process._tables())


def _flow_matching(process: FlowMatching) -> Measurements:
    return {"data_std": torch.tensor([process.data_std], dtype=torch.float64)}


def _restore_flow_matching(process: FlowMatching, found: Mapping[str, Tensor]) -> None:
    (data_std,) = _take(found, data_std=(1,))
    process.data_std = float(data_std)


def _heat(process: HeatDissipation) -> Measurements:
    if process._power is None:
        raise ValueError("heat dissipation was not fitted")
    return {
        "power": process._power,
        "blurred": process._blurred.values,
        "scale": process.scale.values,
    }


def _restore_heat(process: HeatDissipation, found: Mapping[str, Tensor]) -> None:
    kept = found["blurred"].shape[2:]  # of the lowest modes; how many, the levels decide
    power, blurred, scale = _take(
        found,
        power=process.shape[1:],
        blurred=(process.prior_images, process.shape[0], *kept),
        scale=(process.steps,),
    )
    process._power, process._gains = power, {}
    process._blurred = DeviceConstant(blurred)
    process._scale = StepTable(scale)


def _kuramoto(process: KuramotoDiffusion) -> Measurements:
    laws = process._priors._end_states
    matched, correlated = laws.get("matched"), laws.get("correlated")
    if not isinstance(matched, EndStateLaw) or not isinstance(correlated, CorrelatedEndStateLaw):
        raise ValueError("Kuramoto diffusion was not fitted")
    real, imaginary = correlated.root
    return {
        "scale": process.scale.values,
        "end_points": matched.points.values,
        "end_spread": matched.spread.values,
        "mean_points": correlated.means.points.values,
        "mean_spread": correlated.means.spread.values,
        "wave_root_real": real.values,
        "wave_root_imaginary": imaginary.values,
    }


def _restore_kuramoto(process: KuramotoDiffusion, found: Mapping[str, Tensor]) -> None:
    channels, height, width = process.shape
    points, spread = (process.calibration_chains, 2 * channels), (2 * channels, 2 * channels)
    root = (height, width, channels, channels)
    scale, *laws = _take(
        found,
        scale=(process.steps,),
        end_points=points,
        end_spread=spread,
        mean_points=points,
        mean_spread=spread,
        wave_root_real=root,
        wave_root_imaginary=root,
    )
    process.scale = StepTable(scale)
    process._priors._end_states = {
        "matched": EndStateLaw.of(laws[0], laws[1]),
        "correlated": CorrelatedEndStateLaw.of(EndStateLaw.of(laws[2], laws[3]), laws[4], laws[5]),
    }


def _take(found: Mapping[str, Tensor], **shapes: tuple[int, ...]) -> list[Tensor]:
    """Float64 tensors of these names and shapes, and no others.

    Raises:
        ValueError: if these are not there.
    """
    said = {name: tuple(value.shape) for name, value in found.items()}
    if said != shapes:
        raise ValueError(f"of shapes {shapes}, got {said}")
    return [found[name].double() for name in shapes]


#: By the function itself: a subclass that measures something else is not taken for its parent.
_BY_FIT: dict[Any, tuple[Callable[[Any], Measurements], Callable[[Any, Any], None]]] = {
    EDM.fit: (_edm, _restore_edm),
    FlowMatching.fit: (_flow_matching, _restore_flow_matching),
    HeatDissipation.fit: (_heat, _restore_heat),
    KuramotoDiffusion.fit: (_kuramoto, _restore_kuramoto),
}


def _known(
    process: DiffusionProcess,
) -> tuple[Callable[[Any], Measurements], Callable[[Any, Any], None]]:
    found = _BY_FIT.get(type(process).fit)
    if found is None:
        raise ValueError(
            f"{type(process).__name__} measures training images and does not say what: it needs "
            "the methods measurements() and restore_measurements(found)"
        )
    return found
