"""Kuramoto orientation diffusion: phases that synchronise while noise scatters them."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from kod_bench.diffusion.chain_pool import ChainPool
from kod_bench.diffusion.checks import check_choice, check_count, check_number
from kod_bench.diffusion.circle import von_mises_log_density, wrap
from kod_bench.diffusion.constants import StepTable
from kod_bench.diffusion.correlated_ends import EndStatistics
from kod_bench.diffusion.jumps import Jump, Variance, is_restarted
from kod_bench.diffusion.kuramoto_parameters import (
    Coupling,
    default_chain_steps,
    make_mean_field,
    phases_interact,
    resolve_dynamics,
)
from kod_bench.diffusion.kuramoto_priors import KuramotoPriors
from kod_bench.diffusion.kuramoto_schedule import Preset, Ramp
from kod_bench.diffusion.kuramoto_target import ChainTarget, LossWeight, Target, loss_weights
from kod_bench.diffusion.phase_flow import Neighbourhood, PhaseFlow, phase_flow
from kod_bench.diffusion.phases import PhaseDiffusion, reverse_noise_std
from kod_bench.diffusion.process import (
    ImageSource,
    Kind,
    TrainingBatch,
    standard_normal,
)
from kod_bench.diffusion.readings import PhaseReading

#: Calibration chains run at once.
_CHUNK = 128


class KuramotoDiffusion(PhaseDiffusion):
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
    point and the drift is small, however long the step. "heun" makes it again with the mean of
    what stands behind theta_t at both of its ends, which is of second order. "restart" makes some
    ancestral steps up to three times, see `DiffusionProcess.step_subset`: forward steps undo them
    (arXiv 2306.14878), so that what the network got wrong is forgotten. Its variance is "analytic",
    whatever `variance` says: the narrower "posterior" would cool the sample each time.

    The network predicts ``-scale_t score``, by regression on an unbiased estimate of the score, see
    `kuramoto_target.ChainTarget`. With target "one-step" scale_t = s_t: in these units the paper's
    weight 2 D_t on the squared error of the score is 1. Otherwise it is 1 over the estimate's rms
    at t, measured by `fit`; an unfitted process uses the rms that `path_gains` predicts.

    Where sampling starts is said in `kuramoto_priors.KuramotoPriors`.

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
        phase_margin: of intensities, share of the half circle that white and black are apart from
            gray, None for 0.9. Phases in the gap decode to white or black; at 1 the two are the
            same phase. Angles have none.
        target: what the network regresses on: "path"; "conditional", with 52 C H W bytes more per
            chain; or the papers' "one-step".
        memory: steps whose noise the target "path" uses, about; None for as many as lower its
            variance. 1 is the one-step target.
        loss_weight: of the squared error of the prediction at t: "unit", 1; "likelihood", the
            paper's 2 D_t on that of the score (arXiv 2101.09258, its likelihood weighting); or
            "released", (2 D_t)^2 on that of the score. The latter two are scaled to mean 1 over t.
        pool_size: forward chains kept while training, by all workers together, see
            `chain_pool.ChainPool`: 8 C H W bytes each. Rounded up to a multiple of the batch size.
        chain_steps: forward steps that a chain makes between two visits of the loss, so that it
            stays with its image for T / chain_steps visits, which are the less alike; None for
            T / 3, at most 30. T or more: a chain of its own for every sample, as released.
        calibration_chains: forward chains run through all T steps by `fit`.
        variance: of the noise of an ancestral step from t to u, where sigma^2 = sigma_t^2 -
            sigma_u^2: "posterior", sigma^2 sigma_u^2 / sigma_t^2, exact without drift if theta_0 is
            known, as for DDPM; "forward", sigma^2, as in the paper, exact for infinitely short
            steps; or "analytic", between them, the one that is best on average without drift,

                sigma^2 (1 - sigma^2 <score^2>)

            with the mean square of the predicted score over the pixels of the sample (arXiv
            2201.06503, theorem 1, for noise that is only added).
        final_noise: whether the last ancestral step adds noise, as in the paper. It stays in the
            image: of variance "forward" 0.01 rad as released, but 0.2 rad if 10 of 100 steps are
            taken. Not for the variance "posterior", which is zero there.
        reading: what images hold: "intensity", or "angle" divided by pi.

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

    samplers = ("ancestral", "probability-flow", "heun", "restart")
    second_order = ("heun",)
    restarting = ("restart",)
    priors = KuramotoPriors.names

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
        phase_margin: float | None = None,
        target: Target = "path",
        memory: int | None = None,
        loss_weight: LossWeight = "unit",
        pool_size: int = 1024,
        chain_steps: int | None = None,
        calibration_chains: int = 512,
        variance: Variance = "posterior",
        final_noise: bool = False,
        reading: PhaseReading = "intensity",
    ) -> None:
        super().__init__(shape, steps, reading, phase_margin)
        check_choice("coupling", coupling, Coupling)
        check_choice("loss_weight", loss_weight, LossWeight)
        check_choice("neighbourhood", neighbourhood, Neighbourhood)
        check_choice("variance", variance, Variance)
        check_count("neighbourhood_radius", neighbourhood_radius, low=0)
        if final_noise and variance == "posterior":
            raise ValueError(
                "final_noise is true but variance is 'posterior', which leaves none at the end; "
                "choose 'forward' or 'analytic'"
            )
        self.coupling: Coupling = coupling
        self.reference_phase = check_number("reference_phase", reference_phase, -math.pi, math.pi)
        self.target: Target = target
        self.loss_weight: LossWeight = loss_weight
        self.pool_size = check_count("pool_size", pool_size)
        if chain_steps is None:
            chain_steps = default_chain_steps(steps)
        self.chain_steps = check_count("chain_steps", chain_steps)
        self.calibration_chains = check_count("calibration_chains", calibration_chains, low=2)
        self.variance: Variance = variance
        self.final_noise = final_noise
        self._mean_field = make_mean_field(
            coupling, self.shape, neighbourhood_radius, neighbourhood
        )
        dynamics = resolve_dynamics(
            steps,
            coupling,
            coupling_strength=coupling_strength,
            reference_strength=reference_strength,
            coupling_ratio=coupling_ratio,
            reference_ratio=reference_ratio,
            strength=strength,
            schedule=schedule,
            ramp_shape=ramp,
            total_time=total_time,
            noise_range=noise_range,
        )
        self.noise_std = StepTable(dynamics.noise_variance.sqrt())
        self.coupling_strength = StepTable(dynamics.coupling)
        self.reference_strength = StepTable(dynamics.reference)
        # What a jump adds up: the sums over the steps 1..t, from t = 0 on.
        self._elapsed, self._coupling_sums, self._reference_sums = (
            [0.0, *values.cumsum(0).tolist()]
            for values in (dynamics.noise_variance, dynamics.coupling, dynamics.reference)
        )

        self._chain_target = ChainTarget(dynamics, target, memory)
        self.scale = StepTable(1 / self._chain_target.rms)
        self._walk = self._chain_target.walk(self.reference_phase, self._mean_field)
        self._priors = KuramotoPriors(dynamics, self.reference_phase, self.shape)
        self.concentration = self._priors.concentration
        self.terminal_order = self._priors.order
        self.terminal_mismatch = self._priors.mismatch

    @classmethod
    def kind_of(cls, parameters: Mapping[str, Any]) -> Kind:
        """A control where no phase feels another one."""
        return "structured" if phases_interact(parameters) else "control"

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
        noise = self.noise_std[step] * standard_normal(state, generator)
        return wrap(state + self.drift(state, step) + noise)

    def start_chains(self, images: Tensor) -> Tensor:
        """Chains at t = 0, (B, P, C, H, W), from images: the state first, then what it remembers.

        P is 2, or 15 with the target "conditional"; see `kuramoto_target.ChainTarget`.
        """
        return self._chain_target.start(self.encode(images))

    def advance_chains(self, chains: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
        """One forward step of chains from `start_chains`.

        Args:
            chains: at t - 1, (B, P, C, H, W).
            step: t of each, (B,) int64 in 1..T.
            generator: source of the noise.

        Returns:
            The chains at t.
        """
        return self._walk(chains, step - 1, 1, generator)

    def estimate(self, chains: Tensor, step: Tensor) -> Tensor:
        """The target's estimate of -score at chains of `start_chains`, (B, C, H, W), per radian.

        Args:
            chains: at t >= 1, (B, P, C, H, W).
            step: t of each, (B,) int64.
        """
        return self._chain_target.estimate(chains, step)

    @torch.no_grad()
    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Run `calibration_chains` chains from t = 0 to T and measure them.

        The rms of the target at every t, for its scale, and where the chains end, for the priors.
        """
        # The targets' rms is a mean over pixels and needs fewer chains than the law of the ends.
        chains, squares = self.start_chains(images(min(_CHUNK, self.calibration_chains))), []
        for t in range(1, self.steps + 1):
            step = torch.full((len(chains),), t, dtype=torch.int64, device=chains.device)
            chains = self.advance_chains(chains, step, generator)
            squares.append(self.estimate(chains, step).square().mean())
        ends = EndStatistics()
        ends.add(chains[:, 0])
        for first in range(_CHUNK, self.calibration_chains, _CHUNK):
            state = self.encode(images(min(_CHUNK, self.calibration_chains - first)))
            for t in range(1, self.steps + 1):
                state = self.forward_step(state, t, generator)
            ends.add(state)
        if not self._chain_target.one_step:
            rms = torch.stack(squares).cpu().double().sqrt()
            # The score vanishes where noise has covered the circle; there is nothing to magnify.
            self.scale = StepTable(1 / rms.clamp_min(1e-3))
        self._priors.fit(ends, generator)

    def diagnostics(self, prior: str | None = None) -> dict[str, float]:
        """The fields of `terminal_mismatch`; those of the end states are named terminal_*."""
        return self._priors.diagnostics(self.check_prior(prior))

    def loss_weights(self) -> StepTable:
        """(T,) weights of the squared error of the prediction, mean 1; see `loss_weight`."""
        return loss_weights(self.loss_weight, self.scale, self.noise_std)

    def shard(self, workers: int) -> "KuramotoDiffusion":
        """With its part of the pool: `pool_size` counts the chains of all workers."""
        share = copy.copy(self)
        share.pool_size = -(-self.pool_size // workers)
        return share

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches from a pool of forward chains; see `chain_pool.ChainPool`."""
        weights = self.loss_weights()

        def visit(chains: Tensor, step: Tensor) -> TrainingBatch:
            estimate = self.estimate(chains, step)
            target = self.scale.at(step, estimate) * estimate
            return TrainingBatch(chains[:, 0].clone(), step, target, weights.at(step, target))

        return ChainPool(
            lambda count: self.start_chains(images(count)),
            lambda chains, step, count: self._walk(chains, step, count, generator),
            visit,
            steps=self.steps,
            batch_size=batch_size,
            pool_size=self.pool_size,
            chain_steps=self.chain_steps,
            generator=generator,
            pixels=math.prod(self.shape),
        )

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw phases from a prior, (count, C, H, W).

        Raises:
            RuntimeError: if the prior is one of end states and `fit` was not called.
            ValueError: if there is no such prior.
        """
        return self._priors.draw(self.check_prior(prior), count, generator)

    def prior_log_density(self, state: Tensor) -> Tensor:
        """Of the prior "von-mises"; arguments as for `PhaseDiffusion`."""
        away = state.cpu().double() - self.reference_phase
        return von_mises_log_density(away, self.concentration).flatten(1).sum(1)

    def is_made_again(self, to: int) -> bool:
        """By sigma_u, see `jumps.is_restarted`."""
        return is_restarted(math.sqrt(self._elapsed[to]))

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw theta_u given theta_t; the prediction is -scale_t score."""
        if jump.sampler not in ("ancestral", "restart"):
            return self.step_along_flow(state, jump, prediction)
        now, before = self._elapsed[jump.step], self._elapsed[jump.to]
        minus_score = prediction / self.scale[jump.step]
        mean = state - self._drift_over(state, jump) - (now - before) * minus_score
        if jump.to == 0 and not self.final_noise:
            return wrap(mean)
        variance = self.variance if jump.sampler == "ancestral" else "analytic"
        std = reverse_noise_std(variance, minus_score, now, before)
        return wrap(mean + std * standard_normal(state, generator))

    def flow_change(self, state: Tensor, at: int, jump: Jump, prediction: Tensor) -> Tensor:
        """The drift plus (sigma_t - sigma_u) sigma (-score), at phases and a step."""
        now, before, here = (math.sqrt(self._elapsed[t]) for t in (jump.step, jump.to, at))
        return self._drift_over(state, jump) + ((now - before) * here / self.scale[at]) * prediction

    def _drift_over(self, state: Tensor, jump: Jump) -> Tensor:
        """The drift at given phases, its strengths summed over the steps of a jump."""
        return phase_flow(
            state,
            coupling=self._coupling_sums[jump.step] - self._coupling_sums[jump.to],
            reference=self._reference_sums[jump.step] - self._reference_sums[jump.to],
            reference_phase=self.reference_phase,
            mean_field=self._mean_field,
        ).drift()
