"""Kuramoto orientation diffusion: phases that synchronise while noise scatters them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from kod_bench.diffusion.chain_pool import chain_batches
from kod_bench.diffusion.checks import check_count, check_number, check_pair
from kod_bench.diffusion.circle import (
    MAX_WRAPPED_STD,
    bessel_ratio,
    sample_von_mises,
    wrap,
    wrapped_normal_score,
)
from kod_bench.diffusion.constants import DeviceConstant, StepTable, linear_ramp
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    TrainingBatch,
    standard_normal,
)

Coupling = Literal["global", "local", "none"]

#: `mean_field(cosine, sine)`: real and imaginary part of the mean of e^{i theta} that each phase
#: feels, broadcastable to the (B, C, H, W) arguments.
MeanField = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

#: The released schedules by T: 2D and K at the last step.
_RELEASED = {100: (0.1, 0.03), 300: (0.07, 0.02), 1000: (0.015, 0.0045)}
#: 2D and K at the first step, the same for every T.
_RELEASED_FIRST = (1e-4, 3e-5)
#: K_ref over K as released.
_REFERENCE_RATIO: dict[Coupling, float] = {"global": 1.5, "local": 1.0, "none": 1.5}


@dataclass(frozen=True)
class KuramotoSchedule:
    """Noise and coupling at the steps 1..T, for a unit time step.

    Attributes:
        noise_variance: (T,) s_t^2 = 2 D_t, the variance added at step t, in rad^2.
        coupling: (T,) K_t, in rad per step.
    """

    noise_variance: Tensor
    coupling: Tensor


def released_schedule(steps: int) -> KuramotoSchedule:
    """The schedule of the paper's authors, carried over to any number of steps.

    2D and K grow linearly in t; the authors give end points for T = 100, 300 and 1000, which are
    reproduced. K / (2D) is nearly constant within each, so the process is one stochastic
    differential equation run for the time tau = sum s_t^2. For another T, tau and the final
    K / (2D) are interpolated linearly in log T (constant outside 100..1000) and the first values
    kept: few steps then make large ones instead of stopping early.

    Args:
        steps: T, at least 1.

    Raises:
        ValueError: if `steps` is less than 1.
    """
    check_count("steps", steps)
    noise_first, coupling_first = _RELEASED_FIRST
    total_time = _interpolate(
        steps, {t: t * (noise_first + noise) / 2 for t, (noise, _) in _RELEASED.items()}
    )
    ratio = _interpolate(steps, {t: coupling / noise for t, (noise, coupling) in _RELEASED.items()})
    if total_time / steps < noise_first:
        # So many steps (above 75,000) that even the usual first one is too large.
        coupling_first *= total_time / steps / noise_first
        noise_first = total_time / steps
    # The mean of a ramp is that of its ends; a ramp of one step is its end.
    noise_last = total_time if steps == 1 else 2 * total_time / steps - noise_first
    return KuramotoSchedule(
        noise_variance=linear_ramp(noise_first, noise_last, steps),
        coupling=linear_ramp(coupling_first, ratio * noise_last, steps),
    )


def _interpolate(steps: int, values: dict[int, float]) -> float:
    """Piecewise linear in log T through `values`, constant outside them."""
    known = sorted(values)
    if steps <= known[0]:
        return values[known[0]]
    for low, high in pairwise(known):
        if steps <= high:
            share = math.log(steps / low) / math.log(high / low)
            return (1 - share) * values[low] + share * values[high]
    return values[known[-1]]


def global_mean_field(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of e^{i theta} over all of C, H, W, for each sample: two (B, 1, 1, 1) tensors."""
    return cosine.mean((1, 2, 3), keepdim=True), sine.mean((1, 2, 3), keepdim=True)


class LocalMeanField:
    """Mean of e^{i theta} over the (2R+1)^2 box around each pixel, itself included.

    Channels are apart and the image is a torus; a box wider than the image wraps and counts
    pixels as often as it covers them. A box is separable, so its mean is two small matrix
    products, with no padding and at a cost that does not depend on R.

    Args:
        height: H.
        width: W.
        radius: R >= 0.
    """

    def __init__(self, height: int, width: int, radius: int) -> None:
        self._rows = DeviceConstant(box_matrix(height, radius))
        self._columns = DeviceConstant(box_matrix(width, radius))

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """Box means of two (B, C, H, W) tensors, of the same shape."""
        planes = torch.stack([cosine, sine])
        rows = self._rows.on(planes.device, planes.dtype)
        columns = self._columns.on(planes.device, planes.dtype)
        real, imaginary = rows @ (planes @ columns)
        return real, imaginary


def box_matrix(size: int, radius: int) -> Tensor:
    """(size, size) symmetric circulant matrix that averages over 2R+1 neighbours on a ring."""
    offsets = torch.arange(-radius, radius + 1)
    neighbours = (torch.arange(size).unsqueeze(1) + offsets) % size
    share = torch.full(neighbours.shape, 1 / (2 * radius + 1), dtype=torch.float64)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add(1, neighbours, share)


def drift(
    state: Tensor,
    *,
    coupling: float | Tensor,
    reference: float | Tensor,
    reference_phase: float,
    mean_field: MeanField | None,
) -> Tensor:
    """Deterministic motion of the phases in one step; arXiv 2509.15328, forward process.

    ``K Im(zbar_i e^{-i theta_i}) + K_ref sin(psi_ref - theta_i)``, where zbar_i is the mean field
    at phase i; the first term equals ``K mean_j sin(theta_j - theta_i)`` over its neighbours. Both
    are the pull of one complex field, so a phase costs one sine and one cosine.

    Args:
        state: theta, (B, C, H, W), in radians.
        coupling: K in rad per step, a number or (B, 1, 1, 1). Unused without a mean field.
        reference: K_ref, likewise.
        reference_phase: psi_ref, in radians.
        mean_field: None for uncoupled phases.

    Returns:
        (B, C, H, W), in radians per step.
    """
    cosine, sine = state.cos(), state.sin()
    real: float | Tensor = reference * math.cos(reference_phase)
    imaginary: float | Tensor = reference * math.sin(reference_phase)
    if mean_field is not None:
        mean_real, mean_imaginary = mean_field(cosine, sine)
        real, imaginary = real + coupling * mean_real, imaginary + coupling * mean_imaginary
    return imaginary * cosine - real * sine


def self_consistent_order(coupling: float, reference: float, diffusion: float) -> float:
    """Order parameter r of the stationary law, ``r = I1(kappa) / I0(kappa)``.

    ``kappa = (K r + K_ref) / D``: each phase feels the reference and the mean field of the others,
    which is r along the reference. arXiv 2509.15328, its terminal distribution, with r solved for
    instead of measured.

    The ratio is concave in r, so Newton's method from r = 1 falls monotonically to the largest
    solution: the ordered one, where two exist.

    Args:
        coupling: K >= 0.
        reference: K_ref >= 0.
        diffusion: D > 0, in the same units of 1 / time.

    Returns:
        r in [0, 1], to 1e-12 (1e-5 at the critical K = 2D without a reference).
    """
    order = 1.0
    for _ in range(200):
        kappa = (coupling * order + reference) / diffusion
        ratio = float(bessel_ratio(torch.tensor(kappa, dtype=torch.float64)))
        # d(ratio)/d(kappa); its limit at 0 is 1/2, and for large kappa rounding can make it < 0.
        growth = max(0.0, 1 - ratio / kappa - ratio**2) if kappa > 1e-8 else 0.5
        change = (ratio - order) / (1 - growth * coupling / diffusion)
        order += change
        if abs(change) < 1e-15:
            break
    return min(1.0, max(0.0, order))


class KuramotoDiffusion(DiffusionProcess):
    r"""Diffusion of phases with Kuramoto coupling and a reference phase (arXiv 2509.15328).

    State: a phase per pixel and channel, theta in [-pi, pi), of shape (C, H, W), from an image x
    by theta = phase_margin pi x. Step t = 1..T, with drift d_t as in `drift`:

        theta_t = wrap(theta_{t-1} + d_t(theta_{t-1}) + s_t eps),    s_t^2 = 2 D_t

    Time-reversed, with the kernel that made theta_t (the authors' code uses that of the next
    step):

        theta_{t-1} = wrap(theta_t - d_t(theta_t) + s_t^2 score_t(theta_t) + s_t eps)

    The network predicts -s_t score, by regression on the score of one step's wrapped normal
    kernel. In these units the paper's weight 2 D_t on the squared error of the score is 1.

    The prior is i.i.d. von Mises around the reference phase, of the self-consistent concentration
    kappa = (K r + K_ref) / D at t = T. It is the stationary law for these last strengths, in
    continuous time: the forward chain comes close when it is long enough to forget its image
    (sum s_t^2 well above 1) and its last step short (s_T^2 well below 1), and the coupling is
    below its critical strength 2 D or the reference strong.

    Strengths of step t are ``coupling_strength * u_t`` and ``reference_strength * u_t``, where u_t
    is the released K_t over its last value.

    Args:
        shape: (C, H, W).
        steps: T.
        coupling: "global", mean field over all of C, H, W; "local", over a box within each
            channel; "none".
        coupling_strength: K at t = T, in rad per step; default as released for this T.
        reference_strength: K_ref at t = T; default 1.5 times the released K, for local 1.0 times.
        reference_phase: psi_ref, in radians.
        noise_range: 2D at the first and last step, in rad^2; default as released.
        neighbourhood_radius: R of the local box of (2R+1)^2 pixels.
        phase_margin: share of the half circle that white and black are apart from gray. Phases
            in the gap decode to white or black; at 1 the two are the same phase.
        pool_size: forward chains kept while training, see `chain_pool.chain_batches`: 4 C H W
            bytes each. Rounded up to a multiple of the batch size.
        final_noise: whether the last reverse step adds noise, as in the paper.

    Attributes:
        noise_std: s_t. These three are `StepTable`s.
        coupling_strength: K_t, zero for "none".
        reference_strength: K_ref at t.
        concentration: kappa of the prior.
        terminal_order: r of the prior.

    Raises:
        ValueError: if a parameter is out of range.
    """

    periodic = True

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        coupling: Coupling = "global",
        coupling_strength: float | None = None,
        reference_strength: float | None = None,
        reference_phase: float = 0.0,
        noise_range: tuple[float, float] | None = None,
        neighbourhood_radius: int = 5,
        phase_margin: float = 0.9,
        pool_size: int = 1024,
        final_noise: bool = True,
    ) -> None:
        super().__init__(shape, steps)
        if coupling not in get_args(Coupling):
            raise ValueError(f"coupling must be one of {get_args(Coupling)}, got {coupling!r}")
        released = released_schedule(steps)
        released_coupling = float(released.coupling[-1])
        if coupling_strength is None:
            coupling_strength = 0.0 if coupling == "none" else released_coupling
        if reference_strength is None:
            reference_strength = _REFERENCE_RATIO[coupling] * released_coupling
        check_number("coupling_strength", coupling_strength, 0)
        check_number("reference_strength", reference_strength, 0)
        if coupling == "none" and coupling_strength != 0:
            raise ValueError(
                f"coupling_strength is {coupling_strength} but coupling is 'none'; leave it out or "
                "choose 'global' or 'local'"
            )
        check_count("neighbourhood_radius", neighbourhood_radius, low=0)

        self.coupling: Coupling = coupling
        self.reference_phase = check_number("reference_phase", reference_phase, -math.pi, math.pi)
        self.phase_margin = check_number("phase_margin", phase_margin, 0, 1, open_low=True)
        self.pool_size = check_count("pool_size", pool_size)
        self.final_noise = final_noise
        self._mean_field: MeanField | None = None
        if coupling == "global":
            self._mean_field = global_mean_field
        elif coupling == "local":
            self._mean_field = LocalMeanField(shape[1], shape[2], neighbourhood_radius)

        noise_variance = released.noise_variance
        if noise_range is not None:
            ends = check_pair("noise_range", noise_range)
            for value in ends:
                check_number("noise_range", value, 0, MAX_WRAPPED_STD**2, open_low=True)
            noise_variance = linear_ramp(*ends, steps)
        growth = released.coupling / released.coupling[-1]
        self.noise_std = StepTable(noise_variance.sqrt())
        self.coupling_strength = StepTable(coupling_strength * growth)
        self.reference_strength = StepTable(reference_strength * growth)

        diffusion = float(noise_variance[-1]) / 2
        self.terminal_order = self_consistent_order(
            coupling_strength, reference_strength, diffusion
        )
        self.concentration = (
            coupling_strength * self.terminal_order + reference_strength
        ) / diffusion

    def encode(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1], (B, C, H, W), to phases."""
        self.check_states(images)
        return wrap(images * (self.phase_margin * math.pi))

    def decode(self, state: Tensor) -> Tensor:
        """Map phases to images, those in the gap to black or white."""
        self.check_states(state)
        return (state / (self.phase_margin * math.pi)).clamp(-1, 1)

    def drift(self, state: Tensor, step: int | Tensor) -> Tensor:
        """d_t at (B, C, H, W) phases, for one step or for each sample's own, (B,) int64."""
        return drift(
            state,
            coupling=self.coupling_strength.at(step, state),
            reference=self.reference_strength.at(step, state),
            reference_phase=self.reference_phase,
            mean_field=self._mean_field,
        )

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw theta_t given theta_{t-1}, for step t in 1..T."""
        self.check_states(state)
        self.check_step(step)
        return self._move(state, self.drift(state, step), self.noise_std[step], generator)

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches from a pool of forward chains; see `chain_pool.chain_batches`."""

        def advance(chains: Tensor, step: Tensor) -> tuple[Tensor, TrainingBatch]:
            std = self.noise_std.at(step, chains)
            noise = std * standard_normal(chains, generator)
            state = wrap(chains + self.drift(chains, step) + noise)
            # eps itself, except where a step so wide that it wraps leaves its turns in doubt.
            target = -std * wrapped_normal_score(noise, std)
            return state, TrainingBatch(state, step, target, torch.ones_like(std))

        return chain_batches(
            lambda count: self.encode(images(count)),
            advance,
            steps=self.steps,
            batch_size=batch_size,
            pool_size=self.pool_size,
            generator=generator,
        )

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw phases from the von Mises prior, (count, C, H, W)."""
        return sample_von_mises(
            self.reference_phase, self.concentration, (count, *self.shape), generator
        )

    def reverse_step(
        self, state: Tensor, step: int, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw theta_{t-1} given theta_t; the prediction is -s_t score."""
        self.check_states(state)
        self.check_step(step)
        std = self.noise_std[step]
        back = -self.drift(state, step) - std * prediction.to(state.dtype)
        last = step == 1 and not self.final_noise
        return self._move(state, back, 0.0 if last else std, generator)

    @staticmethod
    def _move(state: Tensor, shift: Tensor, std: float, generator: torch.Generator) -> Tensor:
        if std == 0:
            return wrap(state + shift)
        return wrap(state + shift + std * standard_normal(state, generator))
