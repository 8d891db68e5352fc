"""Looks at every machine that trials may run on: what it has, and what a trial would miss there."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kod_bench.data.cache import default_cache_dir
from kod_bench.data.cache_folder import own_folder
from kod_bench.errors import one_line
from kod_bench.evaluation import choose_extractor, look_for_modules_in
from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps.cluster.ray_session import ray_session
from kod_bench.sweeps.cluster.share import WHOLE, Share
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.store.create import check_writable
from kod_bench.visible import visible

#: A machine that does not answer for so long is not there.
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Needs:
    """What a trial needs of the machine that it runs on.

    Attributes:
        data: folders and archives of images.
        results: where sweeps are kept.
        features: the extractor; None: it has been looked at.
        code: version and hash of the code that plans.
        modules: the folder of the user's own modules.
    """

    data: tuple[Location, ...]
    results: Location
    features: str | None
    code: str
    modules: Path


@dataclass(frozen=True)
class Machine:
    """What one machine has.

    Attributes:
        host: its name.
        resources: as Ray names them: ``CPU``, ``GPU``.
        free_results: bytes that are free where results are; None: not known, as on a store.
        free_cache: bytes that are free in the cache.
        problems: what a trial would miss there, a line each.
    """

    host: str
    resources: Mapping[str, float] = field(default_factory=dict)
    free_results: int | None = None
    free_cache: int | None = None
    problems: tuple[str, ...] = ()


def survey(address: str | None, needs: Needs, share: Share = WHOLE) -> list[Machine]:
    """Every machine of a cluster, or this one.

    Args:
        address: of a running cluster; None: trials run here.
        needs: of a trial.
        share: of this machine.

    Raises:
        UsageError: if there is no such cluster, or this machine has no such share.
    """
    if address is None:
        return [look(needs, share.resources())]
    with ray_session(address):
        return _everywhere(needs)


def look(needs: Needs, resources: Mapping[str, float]) -> Machine:
    """This machine.

    Args:
        needs: of a trial.
        resources: what Ray says that it has.
    """
    problems: list[str] = []

    def find(check: Callable[[], object]) -> None:
        try:
            check()
        except Exception as error:  # whatever a trial would fail with here
            problems.append(visible(one_line(error), keep=""))  # it ends in the plan

    for place in needs.data:
        find(lambda place=place: _check_data(place))  # type: ignore[misc]
    if not isinstance(needs.results, Path) or needs.results.is_dir():
        find(lambda: check_writable(needs.results))
    else:
        problems.append(f"{needs.results} is not there: --results-dir must be on a shared disk")
    if needs.features is not None:
        look_for_modules_in(needs.modules)
        find(lambda: choose_extractor(str(needs.features)))
    find(_check_cache)
    if current_code() != needs.code:
        problems.append(f"has code {current_code()}, the sweep is planned by {needs.code}")
    results = needs.results if isinstance(needs.results, Path) else None
    return Machine(
        socket.gethostname(),
        dict(resources),
        None if results is None else _free(results),
        _free(default_cache_dir()),
        tuple(problems),
    )


def _check_data(place: Location) -> None:
    if isinstance(place, ObjectFolder):
        if ObjectFolder(place.uri.removesuffix(f"/{place.name}")).find(place.name) is None:
            raise FileNotFoundError(f"{place}: there is no such object")
    elif not place.exists():
        raise FileNotFoundError(f"the images in {place} are not there")
    elif not os.access(place, os.R_OK):
        raise PermissionError(f"the images in {place} cannot be read")


def _check_cache() -> None:
    folder = own_folder(default_cache_dir())
    with tempfile.TemporaryFile(dir=folder):
        pass


def _free(folder: Path) -> int | None:
    """Bytes that are free where a folder is, or would be."""
    with contextlib.suppress(OSError):
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free
    return None


def _everywhere(needs: Needs) -> list[Machine]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes: list[Any] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    waiting = [
        ray.remote(num_cpus=0)(look)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(needs, node["Resources"])
        for node in nodes
    ]
    found = []
    for node, each in zip(nodes, waiting, strict=True):
        try:
            found.append(ray.get(each, timeout=_PATIENCE_SECONDS))
        except ray.exceptions.RayError as error:
            said = f"cannot be looked at ({one_line(error)})"
            found.append(Machine(node["NodeManagerHostname"], node["Resources"], problems=(said,)))
    return found
