"""Kuramoto orientation diffusion: phases that synchronise while noise scatters them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.chain_pool import chain_batches
from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.circle import (
    MAX_WRAPPED_STD,
    bessel_ratio,
    sample_von_mises,
    wrap,
    wrapped_normal_score,
)
from kod_bench.diffusion.constants import DeviceConstant, StepTable, linear_ramp
from kod_bench.diffusion.path_weight import next_weight, path_gains
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    TrainingBatch,
    standard_normal,
)
from kod_bench.diffusion.terminal import (
    EndStateLaw,
    TerminalMismatch,
    mean_vectors,
    terminal_mismatch,
)

Coupling = Literal["global", "local", "none"]
Target = Literal["path", "one-step"]
PriorLaw = Literal["matched", "von-mises"]

#: `mean_field(cosine, sine)`: real and imaginary part of the mean of e^{i theta} that each phase
#: feels, broadcastable to the (B, C, H, W) arguments. Symmetric: phase i weighs in the field at j
#: what j weighs in the field at i.
MeanField = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

#: The released schedules by T: 2D and K at the last step.
_RELEASED = {100: (0.1, 0.03), 300: (0.07, 0.02), 1000: (0.015, 0.0045)}
#: 2D and K at the first step, the same for every T.
_RELEASED_FIRST = (1e-4, 3e-5)
#: Noise narrower than this never wraps: e^-60 of it, at six standard deviations.
_NEVER_WRAPS = 1 / 3
#: Calibration chains run at once.
_CHUNK = 128
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


@dataclass(frozen=True)
class PhaseFlow:
    """The deterministic motion of the phases in one step, and its derivative.

    The mean field and the reference are the pull of one complex field ``field_i`` per phase; so a
    phase costs one sine and one cosine, whatever is asked of the flow.
    """

    cosine: Tensor
    """cos theta, (B, C, H, W)."""
    sine: Tensor
    real: float | Tensor
    """Real part of ``K zbar_i + K_ref e^{i psi_ref}``, broadcastable."""
    imaginary: float | Tensor
    coupling: float | Tensor
    """K, a number or (B, 1, 1, 1)."""
    mean_field: MeanField | None

    def drift(self) -> Tensor:
        """``Im(field_i e^{-i theta_i})``, in radians per step."""
        return self.imaginary * self.cosine - self.real * self.sine

    def pull_back(self, vector: Tensor) -> Tensor:
        """J^T v, with J the Jacobian of the drift and v of the state's shape.

        ``-Re(field_i e^{-i theta_i}) v_i + K Re(e^{-i theta_i} w_i)``, where w is the mean field of
        ``v_j e^{i theta_j}``: the second term is how the others feel phase i.
        """
        slope = -(self.real * self.cosine + self.imaginary * self.sine)
        if self.mean_field is None:
            return slope * vector
        real, imaginary = self.mean_field(self.cosine * vector, self.sine * vector)
        return slope * vector + self.coupling * (self.cosine * real + self.sine * imaginary)


def phase_flow(
    state: Tensor,
    *,
    coupling: float | Tensor,
    reference: float | Tensor,
    reference_phase: float,
    mean_field: MeanField | None,
) -> PhaseFlow:
    """The flow at given phases; arguments as for `drift`."""
    cosine, sine = state.cos(), state.sin()
    real: float | Tensor = reference * math.cos(reference_phase)
    imaginary: float | Tensor = reference * math.sin(reference_phase)
    if mean_field is not None:
        mean_real, mean_imaginary = mean_field(cosine, sine)
        real, imaginary = real + coupling * mean_real, imaginary + coupling * mean_imaginary
    return PhaseFlow(cosine, sine, real, imaginary, coupling, mean_field)


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
    at phase i; the first term equals ``K mean_j sin(theta_j - theta_i)`` over its neighbours.

    Args:
        state: theta, (B, C, H, W), in radians.
        coupling: K in rad per step, a number or (B, 1, 1, 1). Unused without a mean field.
        reference: K_ref, likewise.
        reference_phase: psi_ref, in radians.
        mean_field: None for uncoupled phases.

    Returns:
        (B, C, H, W), in radians per step.
    """
    return phase_flow(
        state,
        coupling=coupling,
        reference=reference,
        reference_phase=reference_phase,
        mean_field=mean_field,
    ).drift()


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


def _running_sums(values: Tensor) -> list[float]:
    """The sums of the first 0, 1, ..., T values."""
    return [0.0, *values.cumsum(0).tolist()]


class KuramotoDiffusion(DiffusionProcess):
    r"""Diffusion of phases with Kuramoto coupling and a reference phase (arXiv 2509.15328).

    State: a phase per pixel and channel, theta in [-pi, pi), of shape (C, H, W), from an image x
    by theta = phase_margin pi x. Step t = 1..T, with drift d_t as in `drift`:

        theta_t = wrap(theta_{t-1} + d_t(theta_{t-1}) + s_t eps),    s_t^2 = 2 D_t

    Time-reversed by the sampler "ancestral", with the kernel that made theta_t (the authors' code
    uses that of the next step):

        theta_{t-1} = wrap(theta_t - d_t(theta_t) + s_t^2 score_t(theta_t) + s_t eps)

    A jump to an earlier step u sums the drift's strengths and s^2 over u+1..t. The sampler
    "probability-flow" adds no noise: the ordinary differential equation with the same marginals
    has half the score (arXiv 2011.13456, eq. 13). With sigma_t^2 = s_1^2 + ... + s_t^2, half of
    d(sigma^2) is sigma d(sigma), and a step evenly long in sigma

        theta_u = wrap(theta_t - d(theta_t) + sigma_t (sigma_t - sigma_u) score_t(theta_t))

    is DDIM's (arXiv 2010.02502, section 4.3): it takes all the noise away where the data are a
    point and the drift is small, however long the step.

    The network predicts ``-scale_t score``, by regression on an unbiased estimate of the score.
    With target "one-step" that is the score of one step's wrapped normal kernel, and scale_t = s_t:
    in these units the paper's weight 2 D_t on the squared error of the score is 1. With target
    "path" it is the estimate of `path_weight`, from the noise of the whole path: exact too, coupled
    or not, with a variance many times lower. Its scale_t is 1 over its rms at t, measured by `fit`;
    an unfitted process uses the rms that `path_gains` predicts.

    The prior "von-mises" is i.i.d. around the reference phase, of the self-consistent concentration
    kappa = (K r + K_ref) / D at t = T. It is the stationary law for these last strengths, in
    continuous time: the forward chain comes close when it is long enough to forget its image
    (sum s_t^2 well above 1) and its last step short (s_T^2 well below 1), and the coupling is
    below its critical strength 2 D or the reference strong. The prior "matched" has the brightness
    and coherence with which chains really end, measured by `fit`; see `terminal.EndStateLaw`.

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
        target: what the network regresses on: "path", or the papers' "one-step".
        memory: steps whose noise the path target uses, about; None for as many as lower its
            variance. 1 is the one-step target.
        prior_law: "matched", which needs `fit`, or the papers' "von-mises".
        pool_size: forward chains kept while training, see `chain_pool.chain_batches`: 8 C H W
            bytes each. Rounded up to a multiple of the batch size.
        calibration_chains: forward chains run through all T steps by `fit`.
        final_noise: whether the last ancestral step adds noise, as in the paper. It stays in the
            image: 0.01 rad as released, but 0.2 rad if 10 of 100 steps are taken.

    Attributes:
        noise_std: s_t. These four are `StepTable`s.
        coupling_strength: K_t, zero for "none".
        reference_strength: K_ref at t.
        scale: the network's prediction over -score.
        concentration: kappa of the von Mises prior.
        terminal_order: r of the von Mises prior.
        terminal_mismatch: how far end states are from the prior; None before `fit`.

    Raises:
        ValueError: if a parameter is out of range.
    """

    periodic = True
    samplers = ("ancestral", "probability-flow")

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
        target: Target = "path",
        memory: int | None = None,
        prior_law: PriorLaw = "matched",
        pool_size: int = 1024,
        calibration_chains: int = 512,
        final_noise: bool = False,
    ) -> None:
        super().__init__(shape, steps)
        check_choice("coupling", coupling, Coupling)
        check_choice("target", target, Target)
        check_choice("prior_law", prior_law, PriorLaw)
        if target == "one-step" and memory not in (None, 1):
            raise ValueError(f"memory is {memory} but target is 'one-step'; leave one of them out")
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
        self.calibration_chains = check_count("calibration_chains", calibration_chains, low=2)
        self.prior_law: PriorLaw = prior_law
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

        memory = 1 if target == "one-step" else memory
        self._one_step = memory == 1
        # For scattered phases the squared cosine of a pull averages 1/2.
        slope_variance = (
            self.coupling_strength.values.square() + self.reference_strength.values.square()
        ) / 2
        gains, rms = path_gains(noise_variance, slope_variance, memory)
        self._gain = StepTable(gains)
        self.scale = StepTable(1 / rms)
        self._end_states: EndStateLaw | None = None
        self.terminal_mismatch: TerminalMismatch | None = None

        # Sums over the steps 1..t, from t = 0 on.
        self._elapsed = _running_sums(noise_variance)
        self._coupling_sums = _running_sums(self.coupling_strength.values)
        self._reference_sums = _running_sums(self.reference_strength.values)

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
        return self.flow(state, step).drift()

    def flow(self, state: Tensor, step: int | Tensor) -> PhaseFlow:
        """The drift and its derivative; arguments as for `drift`."""
        return phase_flow(
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

    def weighted_step(
        self, state: Tensor, weight: Tensor, step: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw theta_t given theta_{t-1}, and the estimate of -score at theta_t.

        Args:
            state: theta_{t-1}, (B, C, H, W).
            weight: the estimate at t - 1 from the same chain; anything finite for t = 1.
            step: t of each sample, (B,) int64 in 1..T.
            generator: source of the noise.

        Returns:
            theta_t, and H_t of `path_weight`.
        """
        std = self.noise_std.at(step, state)
        noise = standard_normal(state, generator)
        flow = self.flow(state, step)
        after = wrap(state + flow.drift() + std * noise)
        # A step so wide that it wraps leaves its turns in doubt: average over them. H is linear
        # in every eps, and given the wrapped path these are independent.
        if float(self.noise_std.values.max()) > _NEVER_WRAPS:
            noise = -std * wrapped_normal_score(std * noise, std)
        if self._one_step:
            return after, noise / std
        gain = self._gain.at(step, state)
        return after, next_weight(weight, noise, flow.pull_back(noise), gain, std)

    @torch.no_grad()
    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Run `calibration_chains` chains from t = 0 to T and measure three things on the way.

        The rms of the path target at every t, for its scale; the law of the end states, for the
        matched prior; and how far they are from the prior, for `terminal_mismatch`.
        """
        squares = torch.zeros(self.steps, dtype=torch.float64)
        ends = []
        for first in range(0, self.calibration_chains, _CHUNK):
            state = self.encode(images(min(_CHUNK, self.calibration_chains - first)))
            weight, sums = torch.zeros_like(state), []
            for t in range(1, self.steps + 1):
                step = torch.full((len(state),), t, dtype=torch.int64, device=state.device)
                state, weight = self.weighted_step(state, weight, step, generator)
                sums.append(weight.square().sum())
            squares += torch.stack(sums).cpu().double()
            ends.append(mean_vectors(state))
        if not self._one_step:
            rms = (squares / (self.calibration_chains * math.prod(self.shape))).sqrt()
            # The score vanishes where noise has covered the circle; there is nothing to magnify.
            self.scale = StepTable(1 / rms.clamp_min(1e-3))
        vectors = torch.cat(ends)
        self._end_states = EndStateLaw(vectors, self.shape[1] * self.shape[2])
        drawn = [
            mean_vectors(self.prior(min(_CHUNK, self.calibration_chains - first), generator))
            for first in range(0, self.calibration_chains, _CHUNK)
        ]
        self.terminal_mismatch = terminal_mismatch(
            vectors.cpu(), torch.cat(drawn).cpu(), self.reference_phase
        )

    def diagnostics(self) -> dict[str, float]:
        """The fields of `terminal_mismatch`; those of the end states are named terminal_*."""
        if self.terminal_mismatch is None:
            return {}
        return {
            name if name.startswith("prior_") else f"terminal_{name}": value
            for name, value in asdict(self.terminal_mismatch).items()
        }

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches from a pool of forward chains; see `chain_pool.chain_batches`."""

        def start(count: int) -> Tensor:
            state = self.encode(images(count))
            return torch.stack([state, torch.zeros_like(state)], dim=1)

        def advance(chains: Tensor, step: Tensor) -> tuple[Tensor, TrainingBatch]:
            state, weight = self.weighted_step(chains[:, 0], chains[:, 1], step, generator)
            scale = self.scale.at(step, state)
            batch = TrainingBatch(state, step, scale * weight, torch.ones_like(scale))
            return torch.stack([state, weight], dim=1), batch

        return chain_batches(
            start,
            advance,
            steps=self.steps,
            batch_size=batch_size,
            pool_size=self.pool_size,
            generator=generator,
        )

    def prior(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw phases from the prior, (count, C, H, W).

        Raises:
            RuntimeError: if the prior is the matched one and `fit` was not called.
        """
        shape = (count, *self.shape)
        if self.prior_law == "von-mises":
            return sample_von_mises(self.reference_phase, self.concentration, shape, generator)
        if self._end_states is None:
            raise RuntimeError(
                "prior_law 'matched' is measured on training images: call fit(images, generator) "
                "before prior(), or choose prior_law 'von-mises'"
            )
        return self._end_states.sample(shape, generator)

    def reverse_step(
        self,
        state: Tensor,
        step: int,
        to: int,
        prediction: Tensor,
        generator: torch.Generator,
        sampler: str | None = None,
    ) -> Tensor:
        """Draw theta_to given theta_t; the prediction is -scale_t score."""
        self.check_states(state)
        self.check_jump(step, to)
        sampler = self.check_sampler(sampler)
        flow = phase_flow(
            state,
            coupling=self._coupling_sums[step] - self._coupling_sums[to],
            reference=self._reference_sums[step] - self._reference_sums[to],
            reference_phase=self.reference_phase,
            mean_field=self._mean_field,
        )
        minus_score = prediction.to(state.dtype) / self.scale[step]
        now, before = self._elapsed[step], self._elapsed[to]
        if sampler == "probability-flow":
            gain = math.sqrt(now) * (math.sqrt(now) - math.sqrt(before))
            return wrap(state - flow.drift() - gain * minus_score)
        back = -flow.drift() - (now - before) * minus_score
        last = to == 0 and not self.final_noise
        return self._move(state, back, 0.0 if last else math.sqrt(now - before), generator)

    @staticmethod
    def _move(state: Tensor, shift: Tensor, std: float, generator: torch.Generator) -> Tensor:
        if std == 0:
            return wrap(state + shift)
        return wrap(state + shift + std * standard_normal(state, generator))
