"""Ray's own autoscaler gives a cluster nodes for trials of several workers, and takes them back."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.processes import edit, only_sweep, started, wait_for, wait_while_running

_MOST = 4
#: What `ray up` would run on nodes, and the autoscaler wants to know.
_COMMANDS = (
    *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands"),
    *("setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)


class Growing:
    """A head without CPUs, and an autoscaler that starts nodes of one CPU on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        config = {
            "cluster_name": "growing",
            "max_workers": _MOST,
            "upscaling_speed": 10.0,
            "idle_timeout_minutes": 0.05,
            "provider": {
                "type": "fake_multinode",
                "gcs_address": self.address,
                # Its nodes share an address, and there is nothing to be set up on them.
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
            },
            "auth": {},
            "docker": {},
            "file_mounts": {},
            **{name: [] for name in _COMMANDS},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
                "one": {
                    "resources": {"CPU": 1},
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": _MOST,
                },
            },
        }
        (folder / "config.json").write_text(json.dumps(config))
        arguments = [
            *("start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=0"),
            *(f"--temp-dir={folder}", f"--autoscaling-config={folder / 'config.json'}"),
            *("--include-dashboard=false", "--object-store-memory=100000000"),
        ]
        environment = {
            **os.environ,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "0",
        }
        program = "from ray.scripts.scripts import main; main()"
        subprocess.run(
            [sys.executable, "-P", "-c", program, *arguments],
            env=environment,
            check=True,
            capture_output=True,
        )

    def raylets(self) -> int:
        """How many nodes run, the head among them."""
        return sum("/raylet/raylet " in line for line in self._processes().values())

    def end(self) -> None:
        """Kill all that it is made of."""
        for _ in range(3):  # one may just have started another
            for process in self._processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _processes(self) -> dict[int, str]:
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if f"{self._folder}/" in line:
                        found[int(entry.name)] = line
        return found


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Growing]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # Ray's sockets must have short names.
    with tempfile.TemporaryDirectory(prefix="grow", dir="/tmp", ignore_cleanup_errors=True) as name:
        made = Growing(Path(name))
        try:
            yield made
        finally:
            made.end()


@pytest.mark.endurance  # three minutes, most of them five nodes that start on one machine
@pytest.mark.timeout(900)
def test_a_cluster_grows_for_all_that_wait_and_shrinks_when_their_driver_is_killed(
    command: list[str], growing: Growing, tiny_space: Path, tmp_path: Path
) -> None:
    edit(tiny_space, "iterations: 40", "iterations: 100000")
    edit(tiny_space, "  laptop: {}", "  laptop: {resources: {workers_per_trial: 2}}")
    results = tmp_path / "results"
    arguments = ("--results-dir", results, "--address", growing.address, "--wait-for-nodes", 300)
    with started(command, "sweep", tiny_space, *arguments) as sweep:

        def until(what: str, condition: Callable[[], object]) -> None:
            wait_while_running(sweep, condition, what, 300)

        assert growing.raylets() == 1
        # Two for the first trial, which the option waits for; two more for the second.
        until("as many nodes as there may be", lambda: growing.raylets() == 1 + _MOST)
        until(
            "both trials to train",
            lambda: len([*only_sweep(results).glob("trials/*/history.jsonl")]) == 2,
        )
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
    wait_for(lambda: growing.raylets() == 1, "the nodes to go")
