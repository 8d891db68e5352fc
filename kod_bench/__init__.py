"""Sweeps, trains, scores and compares structured diffusion models on Ray.

Importing this package imports neither torch nor ray: the command line must answer at once.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("kod-bench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
