"""What a package announces as a process, checked before anything is made of it."""

import functools
import inspect

from kod_bench.diffusion.process import DiffusionProcess
from kod_bench.plugins import Plugin, PluginError

#: What a model of a search space says beside its process's parameters.
RESERVED = (
    "process",
    "dataset",
    "network",
    "training",
    "priors",
    "samplers",
    "network_evaluations",
    "when",
)


@functools.cache
def plugged_process(plugin: Plugin) -> type[DiffusionProcess]:
    """Import a plug-in's process.

    Raises:
        PluginError: if it cannot be imported, or is no process that a search space can name.
    """
    found = plugin.load()
    try:
        return check_process_class(found)
    except ValueError as error:
        raise PluginError(f"{plugin.shown}: {error}") from error


def check_process_class(found: object) -> type[DiffusionProcess]:
    """Return a class that search spaces can name, or say why it is none.

    Raises:
        ValueError: if it is no complete `DiffusionProcess`, or its constructor is not made of
            annotated keyword arguments, ``shape`` and ``steps`` among them.
    """
    if not isinstance(found, type) or not issubclass(found, DiffusionProcess):
        raise ValueError(f"{found!r} is no subclass of DiffusionProcess")
    name = found.__name__
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    if not getattr(found, "samplers", ()):
        raise ValueError(f"{name} names no samplers")
    try:
        parameters = inspect.signature(found, eval_str=True).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ValueError(f"the annotations of {name} cannot be read: {error}") from error
    for required in ("shape", "steps"):
        if required not in parameters:
            raise ValueError(f"the constructor of {name} has no parameter {required!r}")
    for key, parameter in parameters.items():
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise ValueError(f"parameter {key!r} of {name} cannot be given by keyword alone")
        if parameter.annotation is parameter.empty:
            raise ValueError(
                f"parameter {key!r} of {name} has no annotation, by which search spaces are "
                "validated"
            )
        if key in RESERVED:
            raise ValueError(
                f"parameter {key!r} of {name}: this key of search spaces means something else"
            )
    return found
