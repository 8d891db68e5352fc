"""The fast path against the plain one: same network, same answers, within stated roundings."""

import functools
import logging

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from kod_bench.networks import NetworkRunner, make_network, make_runner, place

CPU = torch.device("cpu")

#: bf16 keeps 8 bits, 0.4 % a rounding; a relative error of a tensor as a whole adds up to this.
BF16 = 0.03

devices = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)


def network(device: torch.device = CPU, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    size = {"image_size": 8, "steps": 10, "width": 8, "multipliers": (1,), "blocks": 1}
    made = make_network(periodic=True, channels=1, **(size | changes))
    for parameter in made.parameters():  # the output starts at zero: give it something to say
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return place(made, device)


def batch(count: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(count, 1, 8, 8, generator=generator)
    return state.to(device), torch.randint(1, 11, (count,), generator=generator).to(device)


def difference(one: Tensor, other: Tensor) -> float:
    """Relative, of the tensors as a whole."""
    return float((one - other).norm().detach() / other.norm().detach())


def gradients(runner: NetworkRunner, made: nn.Module, device: torch.device) -> Tensor:
    made.zero_grad()
    runner(*batch(4, device)).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])


def compare(device: torch.device, *, bf16: bool, compiled: bool, tolerance: float) -> None:
    """One forward and one backward pass of both paths."""
    made = network(device)
    plain = NetworkRunner(made, device, bf16=False, compiled=False)
    fast = NetworkRunner(made, device, bf16=bf16, compiled=compiled)
    names = list(made.state_dict())
    for count in (4, 3, 1):
        given = batch(count, device)
        answer = fast(*given)
        assert answer.dtype == torch.float32
        assert answer.shape == given[0].shape
        assert difference(answer, plain(*given)) < tolerance
    assert difference(gradients(fast, made, device), gradients(plain, made, device)) < tolerance
    assert list(made.state_dict()) == names
    assert fast.precision == ("bf16" if bf16 else "fp32") + ("-compiled" if compiled else "")


@devices
def test_bf16_agrees_with_the_plain_path(device: str) -> None:
    compare(torch.device(device), bf16=True, compiled=False, tolerance=BF16)


@pytest.mark.slow
@devices
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, BF16)])
def test_compiled_agrees_with_the_plain_path(device: str, bf16: bool, tolerance: float) -> None:
    # On a GPU the plain path may take TF32 convolutions, 10 bits; bit widths are not at test here.
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        compare(torch.device(device), bf16=bf16, compiled=True, tolerance=tolerance)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def test_bf16_is_not_silently_left_out() -> None:
    made, given = network(), batch(4)
    plain = NetworkRunner(made, CPU, bf16=False, compiled=False)(*given)
    assert difference(NetworkRunner(made, CPU, bf16=True, compiled=False)(*given), plain) > 1e-4


class Scaled(nn.Module):
    """The least that has weights and asks for the step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1))

    def forward(self, state: Tensor, step: Tensor) -> Tensor:
        out: Tensor = self.layers(state) * step[:, None, None, None]
        return out


def test_smaller_batches_and_later_networks_compile_once_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = CompileCounter()  # traces as torch.compile does, and counts what it is handed
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counter))
    # More networks than torch.compile's own limit on recompilations of one function.
    for index in range(torch._dynamo.config.recompile_limit + 2):
        made = Scaled(index + 1)
        fast = NetworkRunner(made, CPU, bf16=False, compiled=True)
        if index % 2:
            fast.warm_up(4, (1, 8, 8))
            assert counter.frame_count == index + 1
        for count in (4, 4, 3, 1):
            given = batch(count)
            torch.testing.assert_close(fast(*given), made(*given))
        assert fast.precision == "fp32-compiled"
        assert counter.frame_count == index + 1


def failing_compiler(_: nn.Module) -> object:
    def call(*_: object) -> Tensor:
        raise RuntimeError("no C++ compiler\nhere")

    return call


def test_without_a_compiler_the_network_runs_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", failing_compiler)
    made = network()
    fast = NetworkRunner(made, CPU, bf16=True, compiled=True)
    assert fast.precision == "bf16-compiled"
    with caplog.at_level(logging.WARNING, "kod_bench"):
        for count in (4, 4, 2):
            answer = fast(*batch(count))
            eager = NetworkRunner(made, CPU, bf16=True, compiled=False)(*batch(count))
            assert torch.equal(answer, eager)
    assert fast.precision == "bf16"
    (record,) = caplog.records
    assert record.getMessage() == (
        "the network cannot be compiled and runs without: no C++ compiler"
    )


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(context: object, given: Tensor) -> Tensor:
        return given.clone()

    @staticmethod
    def backward(context: object, *gradients: Tensor) -> Tensor:
        raise RuntimeError("no kernel")


def test_a_backward_pass_that_cannot_be_compiled_is_found_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiler(made: nn.Module) -> object:
        return lambda state, step: _NoBackward.apply(made(state, step))

    monkeypatch.setattr(torch, "compile", compiler)
    made = network()
    fast = NetworkRunner(made, CPU, bf16=False, compiled=True)
    plain = NetworkRunner(made, CPU, bf16=False, compiled=False)
    with caplog.at_level(logging.WARNING, "kod_bench"):
        assert torch.equal(gradients(fast, made, CPU), gradients(plain, made, CPU))
    assert [r.getMessage().endswith("without: no kernel") for r in caplog.records] == [True]
    assert fast.precision == "fp32"


def test_a_network_at_fault_is_not_blamed_on_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", failing_compiler)
    fast = NetworkRunner(network(), CPU, bf16=False, compiled=True)
    with pytest.raises(RuntimeError, match="channels"):
        fast(torch.zeros(2, 5, 8, 8), torch.ones(2, dtype=torch.int64))


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    assert make_runner(made, CPU, "auto").precision == "fp32"
    assert make_runner(made, CPU, False).precision == "fp32"
    assert make_runner(made, CPU, True).precision == "bf16-compiled"
    gpu = torch.device("cuda")
    for has, precision in ((True, "bf16-compiled"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert make_runner(made, gpu, "auto").precision == precision
        assert make_runner(made, gpu, False).precision == "fp32"


@pytest.mark.parametrize("works", [True, False], ids=["compiles", "cannot"])
def test_trying_to_compile_draws_no_dropout(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    """A training that goes on in a new process compiles again, and must draw on as it was."""

    def compiler(made: nn.Module) -> nn.Module:
        def fails(state: Tensor, step: Tensor) -> Tensor:
            made(state, step)
            raise RuntimeError("no compiler")

        return made if works else fails  # type: ignore[return-value]

    monkeypatch.setattr(torch, "compile", compiler)
    made = network(dropout=0.5).train()
    answers = []
    for compiled in (False, True):
        runner = NetworkRunner(made, CPU, bf16=False, compiled=compiled)
        torch.manual_seed(3)
        answers.append([runner(*batch(4)) for _ in range(2)])
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))
    assert not torch.equal(*answers[0])
