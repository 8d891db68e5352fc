"""Starts Ray on this machine, or joins a cluster; and says what this machine or the cluster has."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kod_bench
from kod_bench.errors import UsageError, one_line
from kod_bench.hangup import deaf_children
from kod_bench.sweeps.cluster.capacity import check_capacity
from kod_bench.sweeps.cluster.own_place import own_place, some_home
from kod_bench.sweeps.cluster.share import WHOLE, Share, own_gpus
from kod_bench.sweeps.space import ResourceOptions

_UV_HOOK = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, the terminal is ours
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # rows and histories are ours
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep; resume continues it
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "PYTHONWARNINGS": "ignore",
    # Under `uv run`, Ray would start its workers by `uv run` too, in a copy of the working folder:
    # without the project if that lies above, and not at all past 512 MiB. Here they have the
    # driver's environment anyway; a cluster's nodes have one of their own.
    _UV_HOOK: "0",
}

# A machine of its own has no preemption to watch for, and its workers answer at once: together
# these take a Train run's fixed cost from about 18 s to 11 s on two cores.
_LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Where Ray kills a trial for memory, Tune ends all of them; the kernel kills one, and Tune
    # takes it for what it is.
    "RAY_memory_monitor_refresh_ms": "0",
}


def check_local_resources(resources: ResourceOptions, share: Share = WHOLE) -> None:
    """Refuse trials that this machine can never hold, before anything starts.

    Args:
        resources: of one trial.
        share: of this machine.

    Raises:
        UsageError: with the numbers.
    """
    place = "this machine" if share == WHOLE else "the share of this machine"
    check_capacity(resources, [share.resources()], place)


def cluster_has_gpus(address: str) -> bool:
    """Whether the Ray cluster at an address has GPUs now."""
    with ray_session(address):
        return _cluster_resources().get("GPU", 0.0) > 0


def _cluster_resources() -> dict[str, float]:
    import ray

    return ray.cluster_resources()  # type: ignore[no-untyped-call, no-any-return]


def _job_config() -> Any:
    """Ray's options of a job, without the working folder as the first place for modules.

    Ray 2.60 puts the driver's working folder before everything else on the path of its workers,
    the standard library included: a ``statistics.py`` there ends each of them. The folder stays if
    this package itself is imported from it, as in a checkout that is not installed.
    """
    from ray.job_config import JobConfig

    here = Path.cwd()
    if Path(kod_bench.__file__).resolve().parent.parent == here.resolve():
        return JobConfig()

    class OwnPath(JobConfig):
        def _serialize(self) -> str:
            self._py_driver_sys_path = [p for p in self._py_driver_sys_path if Path(p) != here]
            return super()._serialize()

    return OwnPath()


@contextlib.contextmanager
def _closed_on_error(place: contextlib.ExitStack) -> Iterator[None]:
    try:
        yield
    except BaseException:
        place.close()
        raise


def _has_token() -> bool:
    with contextlib.suppress(RuntimeError):  # a container's user without a home
        return (Path.home() / ".ray" / "auth_token").exists()
    return False


def _join(address: str, options: dict[str, Any]) -> None:
    import ray

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's client: the error says it
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(f"--address {address}: no Ray cluster ({one_line(error)})") from error


@contextlib.contextmanager
def _silent_about_deaths() -> Iterator[None]:
    """Of a process that has died the board says a line, and nobody else anything.

    Ray 2.60 prints a paragraph on stdout, whatever `log_to_driver` says: among the lines of JSON.
    """
    import ray._private.worker as worker

    before = getattr(worker, "print_to_stdstream", None)
    if before is None:
        yield
        return
    worker.print_to_stdstream = lambda *said, **how: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


@contextlib.contextmanager
def ray_session(address: str | None, share: Share = WHOLE) -> Iterator[None]:
    """Ray while the body runs: one of this machine's own, or a running cluster's.

    Args:
        address: of the cluster; None for this machine.
        share: of this machine.

    Raises:
        UsageError: if there is no such cluster, or other sweeps have the share's GPUs.
    """
    wanted = dict(_ENVIRONMENT)
    if address is None:
        wanted |= _LOCAL_ENVIRONMENT
        os.environ.pop(_UV_HOOK, None)  # of use on a cluster at most
    elif _has_token():
        # A cluster started by a user who has a token asks for it; Ray offers it only if told to.
        wanted["RAY_AUTH_MODE"] = "token"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    import ray  # reads some of these as it is imported
    from ray._private import ray_constants

    # It may have been imported before, as by a plug-in.
    ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = os.environ[_UV_HOOK].lower() in ("1", "true")

    options: dict[str, Any] = {}
    if address is None or not address.startswith("ray://"):
        options["job_config"] = _job_config()
    place = contextlib.ExitStack()
    with _closed_on_error(place):
        place.enter_context(some_home())
        if address is None:
            with deaf_children():
                if (folder := place.enter_context(own_place())) is not None:
                    options["_temp_dir"] = str(folder)
                place.enter_context(own_gpus(share))
                here = share.resources()
                ray.init(
                    **options,
                    address="local",  # not whatever cluster RAY_ADDRESS names: that is --address
                    num_cpus=int(here["CPU"]),
                    num_gpus=int(here["GPU"]),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    # Nothing large goes through the object store: data and checkpoints are files.
                    object_store_memory=200 * 1024**2,
                )
        else:
            _join(address, options)
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tune prints the traceback of every failed trial; here each is in the trial's error.json and
    # its reason on the board.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with place, _silent_about_deaths():
        try:
            yield
        finally:
            ray.shutdown()
