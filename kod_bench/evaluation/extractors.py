"""Feature extractors by name: the built-in ones, installed ones, and the user's own."""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kod_bench.errors import one_line
from kod_bench.evaluation.dinov2 import DINOv2, DINOv2Base, DINOv2Large
from kod_bench.evaluation.efficientnet import EfficientNetLite0
from kod_bench.evaluation.features import (
    ExtractorError,
    FeatureExtractor,
    Features,
    check_images,
)
from kod_bench.evaluation.identity import identity_hash
from kod_bench.evaluation.inception import WEIGHTS_VARIABLE, Inception, find_weights
from kod_bench.plugins import Plugin, PluginError, find_plugin, plugin_names

DINOV2: dict[str, type[DINOv2]] = {"dinov2-vitb14": DINOv2Base, "dinov2-vitl14": DINOv2Large}

EXTRACTORS: dict[str, Callable[[torch.device | str], FeatureExtractor]] = {
    "inception": Inception,
    "efficientnet-lite0": EfficientNetLite0,
    **DINOV2,
}

#: Takes inception where its weights are there or can be fetched, else efficientnet-lite0.
AUTO = "auto"
_BUILT_IN = (*EXTRACTORS, AUTO)

_users_folder: list[Path] = []  # see `look_for_modules_in`

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_extractor(name: str) -> str:
    """Check that a name can be an extractor's, without importing or loading anything.

    Returns:
        The name.

    Raises:
        ExtractorError: if it is unknown; the message names what is close to it, and what is known.
    """
    if find_installed(name) or name in EXTRACTORS or name == AUTO or _REFERENCE.fullmatch(name):
        return name
    known = [AUTO, *EXTRACTORS, *plugin_names("extractor", _BUILT_IN)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ExtractorError(
        f"unknown feature extractor {name!r}; {hint}known: {', '.join(known)}, or your own as "
        "my_module:MyExtractor"
    )


def is_users_code(name: str) -> bool:
    """Whether a name makes code be imported that is not this package's."""
    return name not in _BUILT_IN


def is_reference(name: str) -> bool:
    """Whether a name is a ``module:Class`` and not one of an installed plug-in."""
    return _REFERENCE.fullmatch(name) is not None


def look_for_modules_in(folder: Path) -> None:
    """A user's own extractor is a module of this folder, and not of the working folder.

    For processes that work elsewhere than where the user has typed its name.
    """
    _users_folder[:] = [folder]


def choose_extractor(name: str) -> tuple[str, str]:
    """Settle on an extractor that will work: replace "auto", fetch weights, import what is named.

    Returns:
        The name, never "auto", and a remark for the user, which is empty where there is no choice.

    Raises:
        ExtractorError: if it is unknown, lacks its weights, or cannot be imported.
    """
    check_extractor(name)
    if name in DINOV2:
        DINOV2[name].weights.find()
        return name, ""
    if name not in (AUTO, "inception"):
        if name not in EXTRACTORS:
            _load(name)
        return name, ""
    try:
        find_weights()
    except ExtractorError as error:
        # A file that was named, and is wrong, is a mistake to mend and not to pass over.
        if name != AUTO or WEIGHTS_VARIABLE in os.environ:
            raise ExtractorError(f"{error}; or choose efficientnet-lite0") from error
        return "efficientnet-lite0", f"features: efficientnet-lite0 ({error})"
    return "inception", "features: inception" if name == AUTO else ""


def make_extractor(name: str, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Build an extractor by name.

    Raises:
        ExtractorError: if it is unknown, lacks its weights, or cannot be imported or built.
    """
    name = choose_extractor(name)[0] if name == AUTO else check_extractor(name)
    if name in EXTRACTORS:
        return EXTRACTORS[name](device)
    return UserExtractor(name, _load(name), device)


class UserExtractor(FeatureExtractor):
    """Somebody else's extractor, whose output is checked before it becomes a number.

    Its name begins with what it was asked for by, so that it cannot be taken for a built-in one,
    goes on with the `name` that it gives itself, and ends with the hash of its source and its
    weights (`identity_hash`): an edited one that keeps its name is another one.

    Args:
        asked: the name or ``module:Class`` it was found by.
        factory: called with the device.
        device: where to run.

    Raises:
        ExtractorError: if it cannot be built.
    """

    def __init__(self, asked: str, factory: Callable[..., Any], device: torch.device | str) -> None:
        try:
            self._extract = factory(device)
        except Exception as error:
            raise ExtractorError(
                f"feature extractor {asked}: {factory.__qualname__}(device) fails: {_line(error)}"
            ) from error
        if not callable(self._extract):
            raise ExtractorError(f"feature extractor {asked}: what it builds cannot be called")
        own = getattr(self._extract, "name", None)
        self._asked = asked
        # It may be made by a function of one module, and be of a class of another.
        others = (getattr(made, "__module__", None) for made in (factory, type(self._extract)))
        identity = identity_hash(_module_of(asked), filter(None, others), self._extract)
        self.name = "-".join([asked, *([own] if isinstance(own, str) else []), identity])

    def __call__(self, images: Tensor) -> Features:
        """(N, C, H, W) uint8 with one or three channels -> (N, D) float64.

        Raises:
            ExtractorError: if it fails, or returns anything but N finite vectors.
        """
        check_images(images)
        try:
            found = self._extract(images)
            if isinstance(found, Tensor):
                found = found.detach().cpu().double().numpy()
            features = np.asarray(found, dtype=np.float64)
        except Exception as error:
            raise ExtractorError(
                f"feature extractor {self._asked} fails: {_line(error)}"
            ) from error
        if features.ndim != 2 or len(features) != len(images) or not features.size:
            raise ExtractorError(
                f"feature extractor {self._asked} returned shape {features.shape} for "
                f"{len(images)} images; it must be ({len(images)}, D)"
            )
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features)).any(axis=1).sum())
            raise ExtractorError(
                f"feature extractor {self._asked} returned values that are not finite for {bad} "
                f"of {len(images)} images"
            )
        return features


def find_installed(name: str) -> Plugin | None:
    """The plug-in of this name, if an installed package announces one; it is not imported.

    Raises:
        ExtractorError: if it is not known which one is meant.
    """
    try:
        return find_plugin("extractor", name, _BUILT_IN)
    except PluginError as error:
        raise ExtractorError(str(error)) from error


def _load(name: str) -> Callable[..., Any]:
    """The class that an entry point or ``module:Class`` names; the latter in the user's folder."""
    if (plugin := find_installed(name)) is not None:
        try:
            return _callable(name, plugin.load(), plugin.reference)
        except PluginError as error:
            raise ExtractorError(str(error)) from error
    module, _, attribute = name.partition(":")
    folder = str(_users_folder[0]) if _users_folder else os.getcwd()
    if folder not in sys.path:
        # Last: a statistics.py there is not what a library means by that name.
        sys.path.append(folder)
    try:
        _prefer(module.partition(".")[0], folder)
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ExtractorError(f"feature extractor {name}: {_line(error)}") from error
    return _callable(name, found, attribute)


def _callable(name: str, found: Any, attribute: str) -> Callable[..., Any]:
    if not callable(found):
        raise ExtractorError(f"feature extractor {name}: {attribute} is not a class or function")
    loaded: Callable[..., Any] = found
    return loaded


def _module_of(name: str) -> str:
    """The module that an entry point or ``module:Class`` names."""
    plugin = find_installed(name)
    return (name if plugin is None else plugin.reference).partition(":")[0]


def _prefer(name: str, folder: str) -> None:
    """Import a module from the user's folder, if it is there, and not an installed namesake."""
    if name in sys.modules or name in sys.stdlib_module_names:
        return
    spec = PathFinder.find_spec(name, [folder])
    if spec is not None and spec.loader is not None:
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
