"""Diffusion processes behind one interface. Needs torch alone; knows no data, files or Ray."""

import inspect
from typing import Any

from kod_bench.diffusion.blurring import BlurringDiffusion
from kod_bench.diffusion.edm import EDM
from kod_bench.diffusion.euclidean import DDPM
from kod_bench.diffusion.fitted import is_fitted_to_images, measurements, restore_measurements
from kod_bench.diffusion.flow_matching import FlowMatching
from kod_bench.diffusion.grid import Grid
from kod_bench.diffusion.heat import HeatDissipation
from kod_bench.diffusion.jumps import Jump, Past
from kod_bench.diffusion.kuramoto import KuramotoDiffusion
from kod_bench.diffusion.kuramoto_schedule import KuramotoSchedule, released_schedule
from kod_bench.diffusion.likelihood import (
    Likelihood,
    likelihood_evaluations,
    likelihood_of,
    likelihood_unit,
    why_no_likelihood,
)
from kod_bench.diffusion.plugged import plugged_process
from kod_bench.diffusion.probability_flow_likelihood import FlowLikelihood, flow_likelihood
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    Kind,
    TrainingBatch,
)
from kod_bench.diffusion.run import Predictor, StepObserver, run_forward, sample
from kod_bench.diffusion.score_sde import ScoreSDE
from kod_bench.diffusion.sphere import SphereDiffusion
from kod_bench.diffusion.terminal import TerminalMismatch
from kod_bench.diffusion.torus_flow import TorusFlow
from kod_bench.diffusion.torus_likelihood import TorusLikelihood, negative_log_likelihood
from kod_bench.diffusion.values import to_stored, to_unit
from kod_bench.diffusion.variance_exploding import VarianceExploding
from kod_bench.diffusion.wrapped import WrappedDiffusion
from kod_bench.plugins import find_plugin, plugin_names

__all__ = [
    "DDPM",
    "EDM",
    "PROCESSES",
    "BlurringDiffusion",
    "DiffusionProcess",
    "FlowLikelihood",
    "FlowMatching",
    "Grid",
    "HeatDissipation",
    "ImageSource",
    "Jump",
    "Kind",
    "KuramotoDiffusion",
    "KuramotoSchedule",
    "Likelihood",
    "Past",
    "Predictor",
    "ScoreSDE",
    "SphereDiffusion",
    "StepObserver",
    "TerminalMismatch",
    "TorusFlow",
    "TorusLikelihood",
    "TrainingBatch",
    "VarianceExploding",
    "WrappedDiffusion",
    "find_process",
    "flow_likelihood",
    "is_fitted_to_images",
    "likelihood_evaluations",
    "likelihood_of",
    "likelihood_unit",
    "make_process",
    "measurements",
    "negative_log_likelihood",
    "process_names",
    "process_parameters",
    "released_schedule",
    "restore_measurements",
    "run_forward",
    "sample",
    "to_stored",
    "to_unit",
    "why_no_likelihood",
]

#: Every process of this package by the name it has in search spaces.
PROCESSES: dict[str, type[DiffusionProcess]] = {
    "blurring": BlurringDiffusion,
    "ddpm": DDPM,
    "edm": EDM,
    "flow-matching": FlowMatching,
    "heat": HeatDissipation,
    "kuramoto": KuramotoDiffusion,
    "sgm": ScoreSDE,
    "sphere": SphereDiffusion,
    "torus-flow": TorusFlow,
    "ve": VarianceExploding,
    "wrapped": WrappedDiffusion,
}


def process_names() -> tuple[str, ...]:
    """What a search space can name: the processes of this package, then the installed plug-ins."""
    return (*PROCESSES, *plugin_names("process", PROCESSES))


def find_process(name: str) -> type[DiffusionProcess]:
    """The class of a process; a plug-in's is imported.

    Raises:
        ValueError: if there is no such process.
        kod_bench.plugins.PluginError: if it is a plug-in that cannot be used.
    """
    if (plugin := find_plugin("process", name, PROCESSES)) is not None:
        return plugged_process(plugin)
    if name not in PROCESSES:
        raise ValueError(f"no process {name!r}; choose from {', '.join(sorted(process_names()))}")
    return PROCESSES[name]


def process_parameters(name: str) -> tuple[str, ...]:
    """Names of the parameters of a process besides shape and steps.

    Raises:
        ValueError: if there is no such process.
    """
    names = inspect.signature(find_process(name)).parameters
    return tuple(each for each in names if each not in ("shape", "steps"))


def make_process(
    name: str, *, shape: tuple[int, int, int], steps: int, **parameters: Any
) -> DiffusionProcess:
    """Build a process by name.

    Args:
        name: a key of `PROCESSES`, or a plug-in's.
        shape: (C, H, W) of the images.
        steps: T.
        parameters: what else its constructor takes; see its class.

    Raises:
        ValueError: if the name or a parameter is unknown, or a value is out of range.
    """
    allowed = process_parameters(name)
    unknown = sorted(set(parameters) - set(allowed))
    if unknown:
        raise ValueError(f"{name} has no {', '.join(unknown)}; it takes {', '.join(allowed)}")
    return find_process(name)(shape=shape, steps=steps, **parameters)
