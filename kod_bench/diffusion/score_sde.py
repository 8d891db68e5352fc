"""Score-based generative modelling by stochastic differential equations, with its own samplers."""

import math
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.constants import linear_ramp
from kod_bench.diffusion.euclidean import EuclideanDiffusion
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.process import standard_normal
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading

Kernel = Literal["vp", "ve"]

#: Of the authors: beta at both ends, sigma at both ends (theirs is 0.01 and 50 for images in
#: [0, 1]), and the time at which they stop.
_BETA_RANGE = (0.1, 20.0)
_SIGMA_RANGE = (0.02, 100.0)
_FIRST_TIME = {"vp": 1e-3, "ve": 1e-5}

#: A network that answers less than this share of a noise is not believed by the corrector, whose
#: steps would have no end: before it is trained it answers nothing.
_LEAST_ANSWER = 0.01


class ScoreSDE(EuclideanDiffusion):
    r"""Score model of an SDE in continuous time (arXiv 2011.13456).

    dy = f(tau) y dtau + g(tau) dw for tau in [0, 1], with y_tau = m_tau x_0 + s_tau eps:

        vp    f = -beta / 2, g^2 = beta, beta linear in tau; m^2 = exp(-integral of beta),
              s^2 = 1 - m^2                                            (eqs. 11 and 33)
        ve    f = 0, g^2 = d sigma^2 / dtau, sigma geometric in tau; m = 1, s = sigma
                                                                       (eqs. 9 and 30)

    Training draws tau evenly from [tau_1, 1] (tau_1 = 1e-3 for "vp", 1e-5 for "ve"), not from a
    list of levels; the network predicts eps, weight 1: the score -eps / s with the weight s^2 of
    eq. 7. Step t of 1..T is at tau = tau_1 + (1 - tau_1) (t - 1) / (T - 1), and the network is told
    the t of its tau, in training a number between. The state is y, for "ve" divided by
    sqrt(1 + sigma^2), the frame in which its variance stays near 1. The prior is standard normal.

    A step of the samplers from t to u, in y, with score = -eps / s_t, D = tau_t - tau_u, what the
    forward process keeps on this way k = m_t / m_u, and what it adds G = s_t^2 - k^2 s_u^2:

        euler-maruyama        y - D f y + D g^2 score + sqrt(D g^2) z
        reverse-diffusion     (2 - k) y + G score + sqrt(G) z           (eq. 46)
        predictor-corrector   the same; then, where it has led, one Langevin step, for which the
                              network is asked a second time            (algorithms 4 and 5)
        probability-flow      (2 - k) y + G / 2 score                   (appendix D.3)

    A Langevin step is y + e score + sqrt(2 e) z with e = 2 alpha (r |z| / |score|)^2, norms of each
    sample, r the `corrector_snr`, alpha = 1 for "ve" and m_t^2 / m_{t-1}^2 for "vp". The others are
    those of `EuclideanDiffusion`. All end with x_0 by the prediction: the authors' last step, which
    adds no noise.

    Args:
        shape: (C, H, W).
        steps: T, on [tau_1, 1]; the most evaluations that a sampler can use.
        kernel: "vp" or "ve".
        beta_range: beta at tau = 0 and 1 of "vp"; default (0.1, 20).
        sigma_range: sigma at tau = 0 and 1 of "ve", in units in which images span [-1, 1]; default
            (0.02, 100).
        corrector_snr: r. The authors' for CIFAR-10 is 0.16.
        clamped: whether to clamp x_0 to [-1, 1], and eps with it, as the other processes do. The
            authors do not.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle" or as the number "angle".

    Raises:
        ValueError: if a parameter is out of range, or is of the other kernel.
    """

    angle_readings = PIXEL_ANGLE_READINGS
    samplers = (
        "reverse-diffusion",
        "euler-maruyama",
        "predictor-corrector",
        "probability-flow",
        *EuclideanDiffusion.samplers,
    )
    second_order = ("predictor-corrector", *EuclideanDiffusion.second_order)
    correctors = ("predictor-corrector",)

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        kernel: Kernel = "vp",
        beta_range: tuple[float, float] | None = None,
        sigma_range: tuple[float, float] | None = None,
        corrector_snr: float = 0.16,
        clamped: bool = False,
        reading: Reading = "intensity",
    ) -> None:
        check_count("steps", steps)
        check_choice("kernel", kernel, Kernel)
        of_other = {"beta_range": ("vp", beta_range), "sigma_range": ("ve", sigma_range)}
        for name, (owner, value) in of_other.items():
            if value is not None and kernel != owner:
                raise ValueError(
                    f"{name} is {value} but kernel is {kernel!r}; leave one of them out"
                )
        self.kernel: Kernel = kernel
        self.beta_range = _ascending("beta_range", beta_range or _BETA_RANGE)
        self.sigma_range = _ascending("sigma_range", sigma_range or _SIGMA_RANGE)
        self.corrector_snr = check_number("corrector_snr", corrector_snr, 0, open_low=True)
        self.clamped = clamped
        first = _FIRST_TIME[kernel]
        time = linear_ramp(first, 1.0, steps)
        self._first_time = first if steps > 1 else 1.0
        kept, std, frame = self._kernel(time)
        if kept[-1] == 0:
            raise ValueError(f"beta_range {beta_range} leaves no image at all")
        super().__init__(shape, frame * kept, frame * std, reading=reading)
        # At t = 0, 1, ..., T; lists of floats, for one step at a time.
        self._time: list[float] = [0.0, *time.tolist()]
        self._frame: list[float] = [1.0, *frame.tolist()]

    def _kernel(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m, s, and what y is multiplied by, at times tau."""
        if self.kernel == "vp":
            low, high = self.beta_range
            spent = low * time + (high - low) / 2 * time.square()
            return (-spent / 2).exp(), (-torch.expm1(-spent)).sqrt(), torch.ones_like(time)
        low, high = self.sigma_range
        sigma = low * (high / low) ** time
        return torch.ones_like(time), sigma, (1 + sigma.square()).rsqrt()

    def _coefficients(self, step: int) -> tuple[float, float]:
        """The rate f and g^2, at step t."""
        time = self._time[step]
        if self.kernel == "vp":
            low, high = self.beta_range
            beta = low + (high - low) * time
            return -beta / 2, beta
        low, high = self.sigma_range
        sigma = low * (high / low) ** time
        return 0.0, 2 * sigma**2 * math.log(high / low)

    def draw_steps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32 in [1, T], even: times between the steps, too."""
        place = torch.rand(count, generator=generator, device=generator.device)
        return 1 + (self.steps - 1) * place

    def levels(self, step: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t of each sample, (B, 1, 1, 1), between the steps, too."""
        # In float64: sigma and what is left of an image are steep in the time.
        place = (step.double() - 1) / max(1, self.steps - 1)
        kept, std, frame = self._kernel(self._first_time + (1 - self._first_time) * place)
        signal, noise = (each.to(like.dtype).view(-1, 1, 1, 1) for each in (kept, std))
        scale = frame.to(like.dtype).view(-1, 1, 1, 1)
        return scale * signal, scale * noise

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw x_u given x_t. No noise at the end."""
        step, to = jump.step, jump.to
        if to == 0 or jump.sampler in EuclideanDiffusion.samplers:
            return super().step_back(state, jump, prediction, generator)
        here = state / self._frame[step]
        score = self._score(state, step, prediction)
        if jump.sampler == "euler-maruyama":
            elapsed = self._time[step] - self._time[to]
            rate, squared = self._coefficients(step)
            mean = (1 - elapsed * rate) * here + elapsed * squared * score
            added = elapsed * squared
        else:
            kept, added = self._forward(to, step)
            if jump.sampler == "probability-flow":
                return self._frame[to] * ((2 - kept) * here + added / 2 * score)
            mean = (2 - kept) * here + added * score
        return self._frame[to] * (mean + math.sqrt(added) * standard_normal(state, generator))

    def step_in_place(
        self, state: Tensor, step: int, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The Langevin step of "predictor-corrector" at t."""
        score = self._score(state, step, prediction)
        noise = standard_normal(state, generator)
        size, length = (each.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for each in (noise, score))
        ratio = size / length.clamp_min(_LEAST_ANSWER * math.sqrt(state[0].numel()) / self._y(step))
        alpha = self._forward(step - 1, step)[0] ** 2
        pace = 2 * alpha * (self.corrector_snr * ratio).square()
        moved: Tensor = pace * score + (2 * pace).sqrt() * noise
        return state + self._frame[step] * moved

    def _y(self, step: int) -> float:
        """s_t of y."""
        return self._std[step] / self._frame[step]

    def _forward(self, before: int, step: int) -> tuple[float, float]:
        """The k and G of the way from u to t, in y."""
        kept, added = self._transition(before, step)
        return kept * self._frame[before] / self._frame[step], added / self._frame[step] ** 2

    def _score(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """Of y at step t."""
        noise = prediction
        if self.clamped:
            noise = self._noise(state, step, self._clamped_image(state, step, prediction))
        return -noise / self._y(step)

    def _clamp(self, image: Tensor) -> Tensor:
        return super()._clamp(image) if self.clamped else image


def _ascending(name: str, value: tuple[float, float]) -> tuple[float, float]:
    low, high = check_pair(name, value)
    check_number(name, low, 0, open_low=True)
    check_number(name, high, low, open_low=True)
    return float(low), float(high)
