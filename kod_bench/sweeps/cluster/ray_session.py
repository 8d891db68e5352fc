"""Starts Ray on this machine, or joins a cluster; and says what this machine or the cluster has."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import kod_bench
from kod_bench.errors import UsageError, one_line
from kod_bench.hangup import deaf_children
from kod_bench.sweeps.cluster.capacity import check_capacity
from kod_bench.sweeps.cluster.own_place import own_place
from kod_bench.sweeps.space import ResourceOptions

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, the terminal is ours
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # rows and histories are ours
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep; resume continues it
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "PYTHONWARNINGS": "ignore",
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


def check_local_resources(resources: ResourceOptions) -> None:
    """Refuse trials that this machine can never hold, before anything starts.

    Raises:
        UsageError: with the numbers.
    """
    here = {"CPU": float(local_cpus()), "GPU": float(torch.cuda.device_count())}
    check_capacity(resources, [here], "this machine")


def local_cpus() -> int:
    """CPUs that this process may use: fewer than the machine's under taskset or in a container."""
    allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # the older kind of groups
        cpu = Path("/sys/fs/cgroup/cpu")
        quota, period = ((cpu / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            return max(1, min(allowed, round(int(quota) / int(period))))
    return allowed


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
def ray_session(address: str | None) -> Iterator[None]:
    """Ray while the body runs: one of this machine's own, or a running cluster's.

    Raises:
        UsageError: if there is no such cluster.
    """
    wanted = dict(_ENVIRONMENT)
    if address is None:
        wanted |= _LOCAL_ENVIRONMENT
    elif (Path.home() / ".ray" / "auth_token").exists():
        # A cluster started by a user who has a token asks for it; Ray offers it only if told to.
        wanted["RAY_AUTH_MODE"] = "token"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    import ray  # reads some of these as it is imported

    options: dict[str, Any] = {}
    if address is None or not address.startswith("ray://"):
        options["job_config"] = _job_config()
    place = contextlib.ExitStack()
    if address is None:
        if (folder := place.enter_context(own_place())) is not None:
            options["_temp_dir"] = str(folder)
        with deaf_children(), _closed_on_error(place):
            ray.init(
                **options,
                address="local",  # not whatever cluster RAY_ADDRESS names: that is --address
                num_cpus=local_cpus(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # Nothing large travels through the object store: data and checkpoints are files.
                object_store_memory=200 * 1024**2,
            )
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Ray's client: the error says it
                ray.init(
                    address=address, log_to_driver=False, logging_level=logging.ERROR, **options
                )
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise UsageError(f"--address {address}: no Ray cluster ({one_line(error)})") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Tune prints the traceback of every failed trial; here each is in the trial's error.json and
    # its reason on the board.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with place, _silent_about_deaths():
        try:
            yield
        finally:
            ray.shutdown()
