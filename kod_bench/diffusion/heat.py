"""Inverse heat dissipation: images that blur as if their brightness were heat."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kod_bench.diffusion.batches import IndependentBatches
from kod_bench.diffusion.checks import check_choice, check_count, check_number, check_pair
from kod_bench.diffusion.constants import DeviceConstant, StepTable, linear_ramp
from kod_bench.diffusion.cosine_transform import CosineTransform
from kod_bench.diffusion.jumps import Jump
from kod_bench.diffusion.pixels import PixelDiffusion
from kod_bench.diffusion.process import ImageSource, TrainingBatch, standard_normal
from kod_bench.diffusion.readings import PIXEL_ANGLE_READINGS, Reading

Schedule = Literal[
    "half-width",
    "mnist",
    "mnist-small",
    "cifar10",
    "afhq-64",
    "afhq-256",
    "ffhq-128",
    "ffhq-256",
    "lsun-church",
]
LevelWeight = Literal["pixel", "unit"]


@dataclass(frozen=True)
class ReleasedSchedule:
    """What the authors of a study chose.

    Attributes:
        image_size: pixels.
        steps: K, their number of levels.
        blur_max: standard deviation of the blur at the last one, in pixels.
    """

    image_size: int
    steps: int
    blur_max: float


#: The schedules released with arXiv 2206.13397; all begin at a blur of 0.5 pixels.
RELEASED_SCHEDULES: dict[str, ReleasedSchedule] = {
    "mnist": ReleasedSchedule(28, 100, 20.0),
    "mnist-small": ReleasedSchedule(28, 50, 20.0),
    "cifar10": ReleasedSchedule(32, 200, 24.0),
    "afhq-64": ReleasedSchedule(64, 200, 32.0),
    "afhq-256": ReleasedSchedule(256, 200, 128.0),
    "ffhq-128": ReleasedSchedule(128, 200, 128.0),
    "ffhq-256": ReleasedSchedule(256, 200, 128.0),
    "lsun-church": ReleasedSchedule(128, 400, 64.0),
}
_FIRST_BLUR = 0.5

#: delta / sigma, as in the authors' training runs.
_DELTA_RATIO = 1.25

#: Cosine modes that the last blur leaves less of are not kept for the prior.
_NEGLIGIBLE = 1e-7
#: Images blurred at once while fitting.
_CHUNK = 256


class HeatDissipation(PixelDiffusion):
    r"""Inverse heat dissipation model (arXiv 2206.13397).

    State: the image in [0, 1]. Level k is the image under the heat equation with insulated edges,
    when a point has become a Gaussian of standard deviation b_k pixels, plus a little noise:

        u_k = F_k u_0 + sigma eps,      F_k = V^T exp(-lambda b_k^2 / 2) V
        lambda_nm = pi^2 (n^2 / H^2 + m^2 / W^2),   V the orthonormal DCT-II

    b_0 = 0, and b_1..b_T grow in a constant ratio. `forward_step` is the Markov chain that has
    these laws at every level: it blurs u_{k-1} and replaces the noise that the blur has taken away.

    The network at (u_k, k) predicts F_{k-1} u_0 - u_k, blur and noise of one level, in units of its
    root mean square c_k, which `fit` measures. With the weight "pixel", proportional to c_k^2, the
    loss is the paper's, the unweighted error in pixels, up to a factor.

    The sampler "ancestral" adds noise of standard deviation delta to the mean,

        u_{k-1} = u_k + c_k prediction + delta eps

    and returns the last mean without; "noiseless" adds none at any level, and draws flat images
    (the paper's figure of delta = 0). Levels can be skipped: a cosine mode of F_{k-1} u_0 times
    exp(lambda (b_{k-1}^2 - b_j^2) / 2) is that of F_j u_0, so the mean goes on by linearity, by a
    share w = S / (S + sigma^2) of it, where S is the mean square of the mode at level k - 1 over
    training images: what the noise hides is not magnified.

    The prior "blurred" is a kernel density of the last level: a blurred training image plus noise
    of delta, as any other level has when the sampler comes to it.

    `as_released` is what the authors' code does instead: level T is never trained, and sampling
    starts from images that are blurred but have no noise.

    Args:
        shape: (C, H, W).
        steps: T, the levels (K).
        schedule: "half-width", from 0.5 pixels to half of the longer side, as most released ones;
            or the range of one in `RELEASED_SCHEDULES`, which also says its own T and image size.
        blur_range: b_1 and b_T in pixels instead.
        noise_std: sigma.
        delta: noise of the sampler; default 1.25 sigma.
        level_weight: "pixel" or "unit", the same for every level.
        prior_images: how many training images `fit` keeps for the prior. It keeps those cosine
            modes that are left at the last level, for "half-width" 4 x 4 per channel, whatever the
            size: 0.5 MB per channel for 8,192 images.
        as_released: see above.
        reading: what images hold and how it is read, see `kod_bench.diffusion.readings`:
            "intensity"; or angles, on the "circle", whose cosines and sines are each such an image,
            or as the number "angle".

    Attributes:
        blur: b_k, a `StepTable`.
        noise_std, delta: the two noises.

    Raises:
        ValueError: if a parameter is out of range.
    """

    structured = True
    angle_readings = PIXEL_ANGLE_READINGS
    samplers = ("ancestral", "noiseless")
    priors = ("blurred",)

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        steps: int,
        schedule: Schedule = "half-width",
        blur_range: tuple[float, float] | None = None,
        noise_std: float = 0.01,
        delta: float | None = None,
        level_weight: LevelWeight = "pixel",
        prior_images: int = 8192,
        as_released: bool = False,
        reading: Reading = "intensity",
    ) -> None:
        super().__init__(shape, steps, reading)
        check_choice("schedule", schedule, Schedule)
        check_choice("level_weight", level_weight, LevelWeight)
        self.level_weight: LevelWeight = level_weight
        self.noise_std = check_number("noise_std", noise_std, 0, open_low=True)
        self.delta = (
            _DELTA_RATIO * self.noise_std if delta is None else check_number("delta", delta, 0)
        )
        self.prior_images = check_count("prior_images", prior_images)
        self.as_released = as_released
        if as_released and steps < 2:
            raise ValueError("as_released never trains level T: steps must be at least 2, got 1")
        if blur_range is None:
            last = max(*shape[1:], 2) / 2
            if schedule != "half-width":
                last = RELEASED_SCHEDULES[schedule].blur_max
            first = _FIRST_BLUR
        else:
            if schedule != "half-width":
                raise ValueError(
                    f"blur_range is {blur_range} but schedule is {schedule!r}; leave one of them "
                    "out"
                )
            first, last = check_pair("blur_range", blur_range)
            check_number("blur_range", first, 0, open_low=True)
            check_number("blur_range", last, first)
        self.blur = StepTable(linear_ramp(math.log(first), math.log(last), steps).exp())
        # Of a mode: exp(-lambda time), separately for rows and columns.
        self._time = torch.cat([torch.zeros(1).double(), self.blur.values.square() / 2])
        self._transform = CosineTransform(*shape[1:])
        self._factors = [
            DeviceConstant(torch.exp(-self._time.unsqueeze(1) * rate))
            for rate in self._transform.rates
        ]
        #: From one level to the next.
        self._kept = [
            DeviceConstant(torch.exp(-self._time.diff().unsqueeze(1) * rate))
            for rate in self._transform.rates
        ]
        self._power: Tensor | None = None
        self._gains: dict[tuple[int, int], DeviceConstant] = {}
        self._scale: StepTable | None = None
        self._blurred = DeviceConstant(torch.zeros(0, self.state_shape[0], 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        """What is read of images in [-1, 1], (B, C, H, W), to [0, 1]."""
        return (self.planes_of(images) + 1) / 2

    def decode(self, state: Tensor) -> Tensor:
        """States to images, clamped to [-1, 1]."""
        self.check_states(state)
        return self.image_from(2 * state - 1)

    def modes(self, state: Tensor) -> Tensor:
        """Cosine coefficients of states, (B, C, H, W)."""
        return self._transform.modes(state)

    def from_modes(self, modes: Tensor) -> Tensor:
        """Invert `modes`."""
        return self._transform.from_modes(modes)

    def dissipate(self, state: Tensor, level: int | Tensor) -> Tensor:
        """F_k u_0.

        Args:
            state: u_0, (B, C, H, W).
            level: k in 0..T, or each sample's own, (B,) int64.
        """
        return self.from_modes(self._left(level, state) * self.modes(state))

    def _left(self, level: int | Tensor, like: Tensor) -> Tensor:
        """What of each mode is left at a level, (H, W) or (B, 1, H, W)."""
        return self._product(self._factors, level, like)

    @staticmethod
    def _product(tables: list[DeviceConstant], entry: int | Tensor, like: Tensor) -> Tensor:
        rows, columns = (each.on(like.device, like.dtype)[entry] for each in tables)
        product = rows.unsqueeze(-1) * columns.unsqueeze(-2)
        return product if isinstance(entry, int) else product.unsqueeze(1)

    def _decay(self, duration: float) -> Tensor:
        """(H, W) float64: what is left of each mode after a time, in squared pixels."""
        rows, columns = self._transform.rates
        return torch.exp(-duration * (rows.unsqueeze(1) + columns))

    @torch.no_grad()
    def fit(self, images: ImageSource, generator: torch.Generator) -> None:
        """Measure the mean square of every mode, and blur `prior_images` images for the prior."""
        kept = [int((each.values[-1] >= _NEGLIGIBLE).sum()) for each in self._factors]
        power = torch.zeros(self.shape[1:], dtype=torch.float64)
        blurred = []
        for first in range(0, self.prior_images, _CHUNK):
            state = self.encode(images(min(_CHUNK, self.prior_images - first)))
            modes = self.modes(state)
            power += modes.square().mean(1).sum(0).cpu().double()
            low = (self._left(self.steps, modes) * modes)[..., : kept[0], : kept[1]]
            blurred.append(low.cpu())
        self._power, self._gains = power / self.prior_images, {}
        self._blurred = DeviceConstant(torch.cat(blurred))
        squares = []
        for step in range(1, self.steps + 1):
            lost = self._decay(float(self._time[step - 1])) - self._decay(float(self._time[step]))
            squares.append((self._power * lost.square()).mean() + self.noise_std**2)
        self._scale = StepTable(torch.stack(squares).sqrt())

    @property
    def scale(self) -> StepTable:
        """c_k, the root mean square of what the network predicts, in units of brightness.

        Raises:
            RuntimeError: if `fit` was not called.
        """
        if self._scale is None:
            raise RuntimeError(
                "heat dissipation is measured on training images: call fit(images, generator) first"
            )
        return self._scale

    @property
    def trained_levels(self) -> int:
        """The last level that is trained: T, or T - 1 as released."""
        return self.steps - 1 if self.as_released else self.steps

    def training_batches(
        self, images: ImageSource, batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """Yield batches with k uniform on the trained levels, independent between samples."""
        check_count("batch_size", batch_size)
        weights = torch.ones(self.steps, dtype=torch.float64)
        if self.level_weight == "pixel":
            weights = self.scale.values.square()
            weights = weights / weights[: self.trained_levels].mean()
        scale, table = self.scale, StepTable(weights)

        def draw() -> TrainingBatch:
            modes = self.modes(self.encode(images(batch_size)))
            step = torch.randint(
                1,
                self.trained_levels + 1,
                (batch_size,),
                generator=generator,
                device=generator.device,
            )
            noise = self.noise_std * standard_normal(modes, generator)
            state = self.from_modes(self._left(step, modes) * modes) + noise
            sharper = self.from_modes(self._left(step - 1, modes) * modes)
            target = (sharper - state) / scale.at(step, state)
            return TrainingBatch(state, step, target, table.at(step, state))

        return IndependentBatches(draw)

    def prior_modes(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Centres of the prior's kernels: (N, C, h, w), the lowest modes; the others are zero.

        Raises:
            RuntimeError: if `fit` was not called.
        """
        if not len(self._blurred.values):
            raise RuntimeError(
                "the prior 'blurred' is made of training images: call fit(images, generator) "
                "before prior()"
            )
        return self._blurred.on(device, dtype)

    def prior(self, count: int, generator: torch.Generator, prior: str | None = None) -> Tensor:
        """Draw blurred images with noise, (count, *state_shape).

        Raises:
            RuntimeError: if `fit` was not called.
            ValueError: if there is no such prior.
        """
        self.check_prior(prior)
        device = generator.device
        centres = self.prior_modes(device, torch.float32)
        chosen = torch.randint(len(centres), (count,), generator=generator, device=device)
        low = centres[chosen]
        modes = torch.zeros(count, *self.state_shape, device=device)
        modes[..., : low.shape[2], : low.shape[3]] = low
        state = self.from_modes(modes)
        if self.as_released:
            return state
        return state + self.delta * standard_normal(state, generator)

    def forward_step(self, state: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Draw u_k given u_{k-1}, for level k in 1..T."""
        self.check_states(state)
        self.check_step(step)
        kept = self._product(self._kept, step - 1, state)
        noise = self.noise_std * standard_normal(state, generator)
        if step > 1:  # before, there is none: all of it is new
            noise = (1 - kept.square()).sqrt() * noise
        return self.from_modes(kept * self.modes(state) + noise)

    def mean(self, state: Tensor, step: int, prediction: Tensor) -> Tensor:
        """F_{k-1} u_0 by the network's prediction at (u_k, k)."""
        return state + self.scale[step] * prediction.to(state.dtype)

    def step_back(
        self, state: Tensor, jump: Jump, prediction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw u_j given u_k. No noise at the end."""
        mean = self.mean(state, jump.step, prediction)
        if jump.to < jump.step - 1:
            sharpening = self._sharpening(jump.step - 1, jump.to, mean)
            mean = self.from_modes(sharpening * self.modes(mean))
        if jump.to == 0 or jump.sampler == "noiseless":
            return mean
        return mean + self.delta * standard_normal(state, generator)

    def _sharpening(self, level: int, to: int, like: Tensor) -> Tensor:
        """(H, W) gains of the modes from F_level u_0 to F_to u_0, see the class."""
        if self._power is None:
            raise RuntimeError("call fit(images, generator) before levels are skipped")
        if (level, to) not in self._gains:
            left, then = (self._decay(float(self._time[each])) for each in (level, to))
            seen = self._power * left.square() + self.noise_std**2
            # (then / left - 1) S / (S + sigma^2), without dividing by what has vanished.
            gain = 1 + self._power * left * (then - left) / seen
            self._gains[level, to] = DeviceConstant(gain)
        return self._gains[level, to].on(like.device, like.dtype)
