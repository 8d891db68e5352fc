"""Sweeps, trains, scores and compares structured diffusion models on Ray.

Importing this package imports neither torch nor ray: the command line must answer at once. What
trained models are read with, `load`, is imported when it is first asked for.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("kod-bench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

#: Attributes that are imported on first use, and from where.
_LATER = {"load": "kod_bench.models", "Model": "kod_bench.models"}

__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
