"""The cluster files, as Ray itself reads them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent
FILES = ["cluster.yaml", "clusters/on-premises.yaml"]


@pytest.fixture(params=FILES)
def config(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    # For the local provider, prepare_config writes a state file into Ray's temporary folder.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    loaded: dict[str, Any] = yaml.safe_load((ROOT / request.param).read_text())
    return loaded


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_every_ray_process_asks_for_the_token(config: dict[str, Any]) -> None:
    commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in commands)
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any(
        "export" in line and "RAY_AUTH_MODE=token" in line for line in config["setup_commands"]
    )


def test_a_shell_understands_every_command(config: dict[str, Any], tmp_path: Path) -> None:
    commands = (
        config["setup_commands"]
        + config["head_start_ray_commands"]
        + config["worker_start_ray_commands"]
    )
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    bashrc = tmp_path / ".bashrc"
    bashrc.write_text("return  # as some systems' own does for shells that are not interactive\n")
    for _ in range(2):  # `ray up` may run again
        subprocess.run(
            ["bash", "-c", config["setup_commands"][-1]],
            env={**os.environ, "HOME": str(tmp_path)},
            check=True,
        )
    first, *rest = bashrc.read_text().splitlines()
    assert first.startswith("export PATH=$HOME/venv/bin:$PATH RAY_AUTH_MODE=token")
    assert len(rest) == 1


def test_the_dashboard_listens_inside_only(config: dict[str, Any]) -> None:
    (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start
    # Ray's own security group opens SSH alone; rules added to it would open more.
    assert "IpPermissions" not in config["provider"].get("security_group", {})


def test_no_credentials_are_in_it(config: dict[str, Any]) -> None:
    text = yaml.safe_dump(config)
    assert not any(word in text for word in ("AWS_SECRET", "aws_secret", "AKIA", "AWS_ACCESS_KEY"))
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no such key") not in text
