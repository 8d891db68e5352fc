"""Two sweeps beside each other: each takes its share of CPUs, and GPUs that the other has not."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from kod_bench.errors import UsageError
from kod_bench.sweeps.cluster.ray_session import check_local_resources
from kod_bench.sweeps.cluster.share import WHOLE, Share, local_cpus, own_gpus
from kod_bench.sweeps.space import ResourceOptions


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of three GPUs, of which this process is shown the last two."""
    lines = "".join(f"echo '{index}, GPU-test-{os.getpid()}-{index}'\n" for index in range(3))
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{lines}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    yield
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"


def seen() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.usefixtures("gpus")
def test_each_takes_a_gpu_that_nobody_has_and_gives_it_back() -> None:
    with ExitStack() as first:
        first.enter_context(own_gpus(Share(gpus=1)))
        assert seen() == "1"
        with ExitStack() as second:
            # As another process would: this one's variable says what the first has.
            os.environ["CUDA_VISIBLE_DEVICES"] = "1,2"
            second.enter_context(own_gpus(Share(gpus=1)))
            assert seen() == "2"
            os.environ["CUDA_VISIBLE_DEVICES"] = "1,2"
            with pytest.raises(UsageError, match=r"--gpus 1: of the 2 GPU.s. .* 0 are free"):
                second.enter_context(own_gpus(Share(gpus=1)))
            with own_gpus(Share(gpus=0)), own_gpus(WHOLE):  # takes none; takes all, as ever
                assert seen() == "1,2"
        os.environ["CUDA_VISIBLE_DEVICES"] = "1,2"
        with own_gpus(Share(gpus=1)):
            assert seen() == "2"


@pytest.mark.usefixtures("gpus")
def test_one_that_takes_all_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_gpus(WHOLE), pytest.raises(UsageError, match="0 are free"), own_gpus(Share(gpus=1)):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a, MIG-b")  # parts have names of their own
    with own_gpus(Share(gpus=2)):
        assert seen() == "MIG-a,MIG-b"
    # In another container the same GPU may have another name.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"0,GPU-test-{os.getpid()}-1")
    with own_gpus(Share(gpus=2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
        with own_gpus(Share(gpus=1)):
            assert seen() == "2"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")


@pytest.mark.usefixtures("gpus")
def test_a_share_is_no_more_than_there_is() -> None:
    assert Share(1, 1).resources() == {"CPU": 1.0, "GPU": 1.0}
    assert WHOLE.resources() == {"CPU": float(local_cpus()), "GPU": 2.0}
    with pytest.raises(UsageError, match=r"--cpus 9999: this machine has \d+ CPU"):
        Share(cpus=9999).resources()
    with pytest.raises(UsageError, match="--gpus 3: this machine has 2 GPU"):
        Share(gpus=3).resources()
    asked = ResourceOptions(workers_per_trial=2, cpus_per_worker=1, gpus_per_worker=0)
    with pytest.raises(UsageError, match=r"the share of this machine has room for 1"):
        check_local_resources(asked, Share(cpus=1))
