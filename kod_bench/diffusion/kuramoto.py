"""Kuramoto orientation diffusion: phases that synchronise while noise scatters them."""

import copy
import functools
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion import phase_law
from kod_bench.diffusion.chain_pool import chain_batches
from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.circle import (
    MAX_WRAPPED_STD,
    bessel_ratio,
    sample_von_mises,
    wrap,
    wrapped_normal_score,
)
from kod_bench.diffusion.constants import StepTable
from kod_bench.diffusion.kuramoto_schedule import Preset, Ramp, ramp, released_schedule
from kod_bench.diffusion.path_weight import next_weight, path_gains
from kod_bench.diffusion.phase_flow import (
    LocalMeanField,
    MeanField,
    Neighbourhood,
    PhaseFlow,
    global_mean_field,
    phase_flow,
)
from kod_bench.diffusion.process import (
    DiffusionProcess,
    ImageSource,
    Jump,
    TrainingBatch,
    Variance,
    standard_normal,
)
from kod_bench.diffusion.terminal import (
    EndStateLaw,
    TerminalMismatch,
    mean_vectors,
    terminal_mismatch,
)

Coupling = Literal["global", "local", "none"]
Target = Literal["path", "conditional", "one-step"]
LossWeight = Literal["unit", "likelihood", "released"]

#: Noise narrower than this never wraps: e^-60 of it, at six standard deviations.
_NEVER_WRAPS = 1 / 3
#: Calibration chains run at once.
_CHUNK = 128
#: Unless told otherwise a chain is visited so often while it keeps its image ...
_VISITS = 3
#: ... or makes so many steps between two visits: they must stay cheap beside the network.
_MOST_CHAIN_STEPS = 30
#: K_ref over K as released.
_REFERENCE_RATIO: dict[Coupling, float] = {"global": 1.5, "local": 1.0, "none": 1.5}


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
        slope = 1 - growth * coupling / diffusion
        if slope <= 0:  # by rounding alone, at the critical coupling: the two solutions have met
            break
        change = (ratio - order) / slope
        order += change
        if abs(change) < 1e-15:
            break
    return min(1.0, max(0.0, order))


def _noise_ramp(
    noise_range: tuple[float, float], total_time: float | None, steps: int, shape: Ramp
) -> Tensor:
    if total_time is not None:
        raise ValueError(
            f"total_time is {total_time} but noise_range is {noise_range}, which fixes it; leave "
            "one of them out"
        )
    ends = check_pair("noise_range", noise_range)
    for value in ends:
        check_number("noise_range", value, 0, MAX_WRAPPED_STD**2, open_low=True)
    if shape == "constant" and ends[0] != ends[1]:
        raise ValueError(f"ramp is 'constant' but noise_range is {noise_range}, two values")
    return ramp(*ends, steps, shape)


def _default_chain_steps(steps: int) -> int:
    """What is nearest to a third of T, at most to 30, without a divisor in common with T.

    A chain that has made T steps begins anew, and the steps left over carry on: with a common
    divisor it would come to a part of all t only, and a small pool to some t never.
    """
    wanted = min(max(1, steps // _VISITS), _MOST_CHAIN_STEPS)
    possible = (n for n in range(1, 2 * wanted + 1) if math.gcd(n, steps) == 1)
    return min(possible, key=lambda n: abs(n - wanted))


def _strengths(
    name: str,
    strength: float | None,
    ratio: float | None,
    default: float,
    growth: Tensor,
    noise_variance: Tensor,
) -> Tensor:
    """(T,) strengths: a multiple of the noise, or shaped like `growth` up to a last value.

    `default` is a multiple of `growth`, for when neither is given.
    """
    if ratio is not None:
        if strength is not None:
            raise ValueError(
                f"{name}_strength is {strength} and {name}_ratio is {ratio}; leave one of them out"
            )
        return check_number(f"{name}_ratio", ratio, 0) * noise_variance
    if strength is None:
        return default * growth
    return check_number(f"{name}_strength", strength, 0) * (growth / growth[-1])


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

    A jump to an earlier step u sums the drift's strengths and s^2 over u+1..t, and its noise is
    narrower than what the forward steps have added (`variance`): a part of where theta_u was is
    known from the score. The sampler
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
    an unfitted process uses the rms that `path_gains` predicts. With target "conditional" the part
    of that estimate which a phase owes to its own path is replaced by its mean given where the
    phase began, where it is and the fields it has felt on the way, which `phase_law` knows:

        H_t - H_t(alone) - d/dtheta log p(theta_t | theta_0, fields)

    with H_t(alone) the same recursion with the fields held fixed. Nothing random is left but the
    others' answers. Exact without coupling; with it, up to the phase's own share in its field,
    1 / (C H W) if global and 1 / (2R + 1)^2 in a box.

    The prior "von-mises" is i.i.d. around the reference phase, of the self-consistent concentration
    kappa = (K r + K_ref) / D at t = T. It is the stationary law for these last strengths, in
    continuous time: the forward chain comes close when it is long enough to forget its image
    (sum s_t^2 well above 1) and its last step short (s_T^2 well below 1), and the coupling is
    below its critical strength 2 D or the reference strong. The prior "matched" has the brightness
    and coherence with which chains really end, measured by `fit`; see `terminal.EndStateLaw`.

    Strengths of step t are ``coupling_strength * u_t`` and ``reference_strength * u_t``, where u_t
    is the scheduled K_t over its last value; or ``coupling_ratio * s_t^2`` and ``reference_ratio *
    s_t^2``. As released, K / (2D) is 0.3 and K_ref / (2D) is 0.45, or 0.3 if local. A coupling
    above 1 synchronises by itself.

    Args:
        shape: (C, H, W).
        steps: T.
        coupling: "global", mean field over all of C, H, W; "local", over a neighbourhood within
            each channel; "none".
        coupling_strength: K at t = T, in rad per step; default as scheduled.
        reference_strength: K_ref at t = T; default 1.5 times the scheduled K, for local 1.0 times.
        coupling_ratio: K / (2D), instead of the strength.
        reference_ratio: K_ref / (2D), instead of the strength.
        strength: multiplies those strengths that are left to their defaults.
        reference_phase: psi_ref, in radians.
        schedule: noise and coupling over the steps, see `released_schedule`.
        ramp: how 2D and K grow over the steps: "linear" as released, "quadratic", "cosine" or
            "constant", see `kuramoto_schedule.ramp`. Total time and the final K / (2D) stay, unless
            `noise_range` says otherwise.
        total_time: tau, the sum of all s_t^2; scales noise and default strengths together, so that
            the same equation runs longer. As released 5.0 for T = 100; chains forget their image
            like e^{-tau / 2}.
        noise_range: 2D at the first and last step, in rad^2, instead of the schedule's.
        neighbourhood: of local coupling: "box" or "gaussian".
        neighbourhood_radius: R of the box of (2R+1)^2 pixels, or standard deviation of the
            Gaussian weight.
        phase_margin: share of the half circle that white and black are apart from gray. Phases
            in the gap decode to white or black; at 1 the two are the same phase.
        target: what the network regresses on: "path"; "conditional", with 52 C H W bytes more per
            chain; or the papers' "one-step".
        memory: steps whose noise the target "path" uses, about; None for as many as lower its
            variance. 1 is the one-step target.
        loss_weight: of the squared error of the prediction at t: "unit", 1; "likelihood", the
            paper's 2 D_t on that of the score (arXiv 2101.09258, its likelihood weighting); or
            "released", (2 D_t)^2 on that of the score. The latter two are scaled to mean 1 over t.
        pool_size: forward chains kept while training, by all workers together, see
            `chain_pool.chain_batches`: 8 C H W bytes each. Rounded up to a multiple of the batch
            size.
        chain_steps: forward steps that a chain makes between two visits of the loss, so that it
            stays with its image for T / chain_steps visits, which are the less alike; None for
            about T / 3, at most 30. Where it has a divisor in common with T, a chain comes to one
            in so many t only, and the pool should have many times as many slices.
        calibration_chains: forward chains run through all T steps by `fit`.
        variance: of the noise of an ancestral step from t to u, where sigma^2 = sigma_t^2 -
            sigma_u^2: "posterior", sigma^2 sigma_u^2 / sigma_t^2, exact without drift if theta_0 is
            known, as for DDPM; "forward", sigma^2, as in the paper, exact for infinitely short
            steps; or "analytic", between them, the one that is best on average without drift,

                sigma^2 (1 - sigma^2 <score^2>)

            with the mean square of the predicted score over the batch and its pixels (arXiv
            2201.06503, theorem 1, for noise that is only added).
        final_noise: whether the last ancestral step adds noise, as in the paper. It stays in the
            image: of variance "forward" 0.01 rad as released, but 0.2 rad if 10 of 100 steps are
            taken. Not for the variance "posterior", which is zero there.

    Attributes:
        noise_std: s_t. These four are `StepTable`s.
        coupling_strength: K_t, zero for "none".
        reference_strength: K_ref at t.
        scale: the network's prediction over -score.
        concentration: kappa of the von Mises prior.
        terminal_order: r of the von Mises prior.
        terminal_mismatch: how far end states are from each prior; empty before `fit`.

    Raises:
        ValueError: if a parameter is out of range.
    """

    periodic = True
    structured = True
    samplers = ("ancestral", "probability-flow")
    priors = ("matched", "von-mises")

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        coupling: Coupling = "global",
        coupling_strength: float | None = None,
        reference_strength: float | None = None,
        coupling_ratio: float | None = None,
        reference_ratio: float | None = None,
        strength: float = 1.0,
        reference_phase: float = 0.0,
        schedule: Preset = "released",
        ramp: Ramp = "linear",
        total_time: float | None = None,
        noise_range: tuple[float, float] | None = None,
        neighbourhood: Neighbourhood = "box",
        neighbourhood_radius: int = 5,
        phase_margin: float = 0.9,
        target: Target = "path",
        memory: int | None = None,
        loss_weight: LossWeight = "unit",
        pool_size: int = 1024,
        chain_steps: int | None = None,
        calibration_chains: int = 512,
        variance: Variance = "posterior",
        final_noise: bool = False,
    ) -> None:
        super().__init__(shape, steps)
        check_choice("coupling", coupling, Coupling)
        check_choice("target", target, Target)
        check_choice("loss_weight", loss_weight, LossWeight)
        if target != "path" and memory not in ((None, 1) if target == "one-step" else (None,)):
            raise ValueError(f"memory is {memory} but target is {target!r}; leave one of them out")
        check_choice("neighbourhood", neighbourhood, Neighbourhood)
        check_count("neighbourhood_radius", neighbourhood_radius, low=0)

        self.coupling: Coupling = coupling
        self.reference_phase = check_number("reference_phase", reference_phase, -math.pi, math.pi)
        self.phase_margin = check_number("phase_margin", phase_margin, 0, 1, open_low=True)
        self.pool_size = check_count("pool_size", pool_size)
        self.calibration_chains = check_count("calibration_chains", calibration_chains, low=2)
        self.loss_weight: LossWeight = loss_weight
        self.chain_steps = (
            _default_chain_steps(steps)
            if chain_steps is None
            else check_count("chain_steps", chain_steps)
        )
        check_choice("variance", variance, Variance)
        self.variance: Variance = variance
        if final_noise and variance == "posterior":
            raise ValueError(
                "final_noise is true but variance is 'posterior', which leaves none at the end; "
                "choose 'forward' or 'analytic'"
            )
        self.final_noise = final_noise
        self._mean_field: MeanField | None = None
        if coupling == "global":
            self._mean_field = global_mean_field
        elif coupling == "local":
            self._mean_field = LocalMeanField(
                shape[1], shape[2], neighbourhood_radius, neighbourhood
            )

        scheduled = released_schedule(steps, schedule, ramp)
        noise_variance, growth = scheduled.noise_variance, scheduled.coupling
        if noise_range is not None:
            noise_variance = _noise_ramp(noise_range, total_time, steps, ramp)
        elif total_time is not None:
            check_number("total_time", total_time, 0, open_low=True)
            longer = total_time / float(noise_variance.sum())
            noise_variance, growth = longer * noise_variance, longer * growth
            if float(noise_variance.max()) > MAX_WRAPPED_STD**2:
                raise ValueError(
                    f"total_time is {total_time} in {steps} steps; each step's share must be at "
                    f"most {MAX_WRAPPED_STD**2:g}"
                )
        check_number("strength", strength, 0)
        default = 0.0 if coupling == "none" else strength
        self.noise_std = StepTable(noise_variance.sqrt())
        self._wraps = float(noise_variance.max()) > _NEVER_WRAPS**2
        self.coupling_strength = StepTable(
            _strengths(
                "coupling", coupling_strength, coupling_ratio, default, growth, noise_variance
            )
        )
        default = _REFERENCE_RATIO[coupling] * strength
        self.reference_strength = StepTable(
            _strengths(
                "reference", reference_strength, reference_ratio, default, growth, noise_variance
            )
        )
        last_coupling, last_reference = (
            self.coupling_strength[steps],
            self.reference_strength[steps],
        )
        if coupling == "none" and last_coupling != 0:
            raise ValueError(
                f"coupling_strength is {last_coupling:g} but coupling is 'none'; leave it out or "
                "choose 'global' or 'local'"
            )

        self.target: Target = target
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
        self.terminal_mismatch: dict[str, TerminalMismatch] = {}

        # Sums over the steps 1..t, from t = 0 on.
        self._elapsed = _running_sums(noise_variance)
        self._coupling_sums = _running_sums(self.coupling_strength.values)
        self._reference_sums = _running_sums(self.reference_strength.values)

        diffusion = float(noise_variance[-1]) / 2
        self.terminal_order = self_consistent_order(last_coupling, last_reference, diffusion)
        self.concentration = (last_coupling * self.terminal_order + last_reference) / diffusion

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
        """Draw theta_t given theta_{t-1}, and the path's estimate of -score at theta_t.

        Args:
            state: theta_{t-1}, (B, C, H, W).
            weight: the estimate at t - 1 from the same chain; anything finite for t = 1.
            step: t of each sample, (B,) int64 in 1..T.
            generator: source of the noise.

        Returns:
            theta_t, and H_t of `path_weight`.
        """
        chains = torch.stack([state, weight], dim=1)
        after = self._follow(chains, step, generator, conditional=False)
        return after[:, 0], after[:, 1]

    def start_chains(self, images: Tensor) -> Tensor:
        """Chains at t = 0, (B, P, C, H, W), from images: the state first, then what it remembers.

        P is 2, theta and H; with the target "conditional" 15: also H of the phase alone, and the
        phase's law.
        """
        state = self.encode(images)
        chains = torch.stack([state, torch.zeros_like(state)], dim=1)
        if self.target != "conditional":
            return chains
        law = phase_law.pack(phase_law.start_law(state))
        return torch.cat([chains, torch.zeros_like(chains[:, :1]), law], dim=1)

    def advance_chains(self, chains: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """One forward step of chains from `start_chains`.

        Args:
            chains: at t - 1, (B, P, C, H, W).
            step: t of each, (B,) int64 in 1..T.
            generator: source of the noise.

        Returns:
            The chains at t.
        """
        return self._follow(chains, step, generator, conditional=self.target == "conditional")

    def estimate(self, chains: Tensor, step: Tensor) -> Tensor:
        """The target's estimate of -score at the state of each chain.

        Args:
            chains: at t >= 1, (B, P, C, H, W).
            step: t of each, (B,) int64.

        Returns:
            (B, C, H, W), per radian.
        """
        weight = chains[:, 1]
        if self.target != "conditional":
            return weight
        law = phase_law.unpack(chains[:, 3:])
        averaged = weight - chains[:, 2] - phase_law.conditional_score(law, chains[:, 0])
        # While the law is too narrow for its modes, few paths have gone round, and H is as good.
        return torch.where(self._resolved.at(step, weight) > 0, averaged, weight)

    def _follow(
        self, chains: Tensor, step: Tensor, generator: torch.Generator, *, conditional: bool
    ) -> Tensor:
        state, weight = chains[:, 0], chains[:, 1]
        std = self.noise_std.at(step, state)
        noise = standard_normal(state, generator)
        flow = self.flow(state, step)
        after = wrap(state + flow.drift() + std * noise)
        # A step so wide that it wraps leaves its turns in doubt: average over them. H is linear
        # in every eps, and given the wrapped path these are independent.
        if self._wraps:
            noise = -std * wrapped_normal_score(std * noise, std)
        if self._one_step:
            return torch.stack([after, noise / std], dim=1)
        gain = self._gain.at(step, state)
        weight = next_weight(weight, noise, flow.pull_back(noise), gain, std)
        planes = torch.stack([after, weight], dim=1)
        if not conditional:
            return planes
        alone = next_weight(chains[:, 2], noise, flow.slope() * noise, gain, std)
        law = phase_law.next_law(
            phase_law.unpack(chains[:, 3:]), flow.real, flow.imaginary, std, self._orders
        )
        return torch.cat([planes, alone.unsqueeze(1), phase_law.pack(law)], dim=1)

    @property
    def _strongest_field(self) -> Tensor:
        return self.coupling_strength.values + self.reference_strength.values

    @functools.cached_property
    def _orders(self) -> tuple[int, int]:
        return phase_law.expansion(self._strongest_field, self.noise_std.values.square().cumsum(0))

    @functools.cached_property
    def _resolved(self) -> StepTable:
        """1 where the phase's law is known well enough, else 0."""
        resolved = phase_law.resolved_steps(self._strongest_field, self.noise_std.values)
        return StepTable(resolved.double())

    @torch.no_grad()
    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Run `calibration_chains` chains from t = 0 to T and measure three things.

        The rms of the target at every t, for its scale; the law of the end states, for the
        matched prior; and how far they are from the prior, for `terminal_mismatch`.
        """
        # The targets' rms is a mean over pixels and needs fewer chains than the law of the ends.
        chains, squares = self.start_chains(images(min(_CHUNK, self.calibration_chains))), []
        for t in range(1, self.steps + 1):
            step = torch.full((len(chains),), t, dtype=torch.int64, device=chains.device)
            chains = self.advance_chains(chains, step, generator)
            squares.append(self.estimate(chains, step).square().mean())
        ends = [mean_vectors(chains[:, 0])]
        for first in range(_CHUNK, self.calibration_chains, _CHUNK):
            state = self.encode(images(min(_CHUNK, self.calibration_chains - first)))
            for t in range(1, self.steps + 1):
                state = self.forward_step(state, t, generator)
            ends.append(mean_vectors(state))
        if not self._one_step:
            rms = torch.stack(squares).cpu().double().sqrt()
            # The score vanishes where noise has covered the circle; there is nothing to magnify.
            self.scale = StepTable(1 / rms.clamp_min(1e-3))
        vectors = torch.cat(ends)
        self._end_states = EndStateLaw(vectors, self.shape[1] * self.shape[2])
        for prior in self.priors:
            drawn = [
                mean_vectors(
                    self.prior(min(_CHUNK, self.calibration_chains - first), generator, prior)
                )
                for first in range(0, self.calibration_chains, _CHUNK)
            ]
            self.terminal_mismatch[prior] = terminal_mismatch(
                vectors.cpu(), torch.cat(drawn).cpu(), self.reference_phase
            )

    def diagnostics(self, prior: str | None = None) -> dict[str, float]:
        """The fields of `terminal_mismatch`; those of the end states are named terminal_*."""
        prior = self.check_prior(prior)
        if prior not in self.terminal_mismatch:
            return {}
        return {
            name if name.startswith("prior_") else f"terminal_{name}": value
            for name, value in asdict(self.terminal_mismatch[prior]).items()
        }

    def loss_weights(self) -> StepTable:
        """(T,) weights of the squared error of the prediction, mean 1; see `loss_weight`."""
        power = {"unit": 0, "likelihood": 1, "released": 2}[self.loss_weight]
        # The prediction is scale times the score.
        error = self.scale.values.reciprocal().square() if power else torch.ones(self.steps)
        weights = self.noise_std.values.square() ** power * error
        return StepTable(weights / weights.mean())

    def shard(self, workers: int) -> "KuramotoDiffusion":
        """With its part of the pool: `pool_size` counts the chains of all workers."""
        share = copy.copy(self)
        share.pool_size = -(-self.pool_size // workers)
        return share

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches from a pool of forward chains; see `chain_pool.chain_batches`."""
        weights = self.loss_weights()

        def start(count: int) -> Tensor:
            return self.start_chains(images(count))

        def advance(chains: Tensor, step: Tensor) -> Tensor:
            return self.advance_chains(chains, step, generator)

        def visit(chains: Tensor, step: Tensor) -> TrainingBatch:
            estimate = self.estimate(chains, step)
            target = self.scale.at(step, estimate) * estimate
            return TrainingBatch(chains[:, 0].clone(), step, target, weights.at(step, target))

        return chain_batches(
            start,
            advance,
            visit,
            steps=self.steps,
            batch_size=batch_size,
            pool_size=self.pool_size,
            chain_steps=self.chain_steps,
            generator=generator,
        )

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw phases from a prior, (count, C, H, W).

        Raises:
            RuntimeError: if the prior is the matched one and `fit` was not called.
            ValueError: if there is no such prior.
        """
        shape = (count, *self.shape)
        if self.check_prior(prior) == "von-mises":
            return sample_von_mises(self.reference_phase, self.concentration, shape, generator)
        if self._end_states is None:
            raise RuntimeError(
                "the prior 'matched' is measured on training images: call fit(images, generator) "
                "before prior(), or choose the prior 'von-mises'"
            )
        return self._end_states.sample(shape, generator)

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw theta_u given theta_t; the prediction is -scale_t score."""
        step, to = jump.step, jump.to
        flow = phase_flow(
            state,
            coupling=self._coupling_sums[step] - self._coupling_sums[to],
            reference=self._reference_sums[step] - self._reference_sums[to],
            reference_phase=self.reference_phase,
            mean_field=self._mean_field,
        )
        minus_score = prediction / self.scale[step]
        now, before = self._elapsed[step], self._elapsed[to]
        if jump.sampler == "probability-flow":
            gain = math.sqrt(now) * (math.sqrt(now) - math.sqrt(before))
            return wrap(state - flow.drift() - gain * minus_score)
        back = -flow.drift() - (now - before) * minus_score
        if to == 0 and not self.final_noise:
            return wrap(state + back)
        return self._move(state, back, self._reverse_std(minus_score, now, before), generator)

    def _reverse_std(self, score: Tensor, now: float, before: float) -> float | Tensor:
        """Standard deviation of the noise of an ancestral step, see `variance`."""
        forward = now - before
        posterior = forward * before / now
        if self.variance == "posterior":
            return math.sqrt(posterior)
        if self.variance == "forward":
            return math.sqrt(forward)
        analytic = forward * (1 - forward * score.square().mean())
        return analytic.clamp(posterior, forward).sqrt()

    @staticmethod
    def _move(
        state: Tensor, shift: Tensor, std: float | Tensor, generator: torch.Generator
    ) -> Tensor:
        return wrap(state + shift + std * standard_normal(state, generator))
