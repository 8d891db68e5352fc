"""What a search space may say about its data set."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
)

from kod_bench.storage import is_uri

FOLDER_PREFIX = "folder:"
Augmentation = Literal["horizontal-flip", "vertical-flip", "rotate"]
SphereField = Literal["gaussian", "log-normal", "land-sea"]

# What an option means where a search space leaves it out. Mirror images of prints are not prints
# of the same population (left loops become right ones), so fingerprints are never flipped by
# default; CIFAR-10 is flipped as in the papers, and a texture seen from above has no left or top.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "fingerprints": {},
    "textures": {"scale": 1.0, "augment": ("horizontal-flip", "vertical-flip")},
    "terrain": {"scale": (1.0, 0.5, 0.25), "augment": ("horizontal-flip", "vertical-flip")},
    "cifar10": {"view": "whole", "color": "rgb", "augment": ("horizontal-flip",)},
    "sphere": {"view": "whole"},
}
_FOLDER_DEFAULTS: dict[str, Any] = {"view": "whole", "color": "rgb"}
DATASET_NAMES = tuple(_DEFAULTS)
#: Of the sphere, whose harmonics are dense matrices: half a gigabyte at this size.
MAX_SPHERE_SIZE = 64


def _check_name(name: str) -> str:
    if name in DATASET_NAMES:
        return name
    if name.startswith(FOLDER_PREFIX) and name != FOLDER_PREFIX:
        if is_uri(name.removeprefix(FOLDER_PREFIX)):
            raise ValueError(
                "must be a folder of this machine; images on an object store are named where the "
                "sweep is started, by --data-dir"
            )
        # Absolute, because the workers of a sweep run elsewhere.
        folder = Path(name.removeprefix(FOLDER_PREFIX)).expanduser().absolute()
        return f"{FOLDER_PREFIX}{folder}"
    raise ValueError(f"known: {', '.join(DATASET_NAMES)}, or {FOLDER_PREFIX}PATH")


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("an entry is given twice")
    return values


def _check_scale(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(tuple(value) if isinstance(value, list) else value)  # strict in JSON, too
    except ValidationError:  # pydantic's own would speak of each member of the union
        raise ValueError("must be a number above 0 and at most 1, or a list of such") from None


def _default(option: str, otherwise: Any) -> Any:
    """A field whose default depends on the data set's name, which is validated before it."""

    def choose(validated: dict[str, Any]) -> Any:
        name = validated.get("name", "")
        known = _FOLDER_DEFAULTS if name.startswith(FOLDER_PREFIX) else _DEFAULTS.get(name, {})
        return known.get(option, otherwise)

    return Field(default_factory=choose)


DatasetName = Annotated[str, AfterValidator(_check_name)]
_Scale = Annotated[float, Field(gt=0, le=1)]
_Scales = Annotated[tuple[_Scale, ...], Field(min_length=1), AfterValidator(_check_distinct)]


class SyntheticOptions(BaseModel, extra="forbid", frozen=True):
    """How many synthetic images stand in where there are no real ones.

    Attributes:
        fingers: Number of different fingers.
        impressions: Number of prints of each finger.
        seed: Draws other fingers; results with different seeds are different data sets.
    """

    fingers: int = Field(default=40, ge=2, le=10_000)
    impressions: int = Field(default=4, ge=1, le=100)
    seed: int = Field(default=0, ge=0)


class SphereOptions(BaseModel, extra="forbid", frozen=True):
    """Which maps of the sphere are drawn where there is no folder of them.

    Attributes:
        field: "gaussian" and "log-normal" are random; "land-sea" is the Earth's land, turned.
        spectral_index: alpha of a random field: its power falls as (l + 1)^-alpha with degree l.
        count: Number of maps, both sides of the split together.
        seed: Draws other maps; results with different seeds are different data sets.
    """

    field: SphereField = "gaussian"
    spectral_index: float = Field(default=3.0, ge=0, le=10)
    count: int = Field(default=2000, ge=2, le=100_000)
    seed: int = Field(default=0, ge=0)


class DatasetOptions(BaseModel, extra="forbid", frozen=True):
    """Which images to prepare, and how. Defaults that are not said here depend on the data set.

    Attributes:
        name: The data set; `folder:PATH` is any folder of images.
        image_size: Height and width of the prepared images in pixels; of a map of the sphere the
            height, and half the width.
        view: "patches" cuts squares at a known scale; "whole" shrinks each image to one square.
        scale: Patches only: the image is shrunk by this factor before patches are cut. At 0.5, a
            500 dpi print has about 4.5 pixels from ridge to ridge. Several factors give patches
            at each of them.
        color: "gray" is one channel of luma; "rgb" is three channels, equal ones for gray images.
        augment: What training may do to an image at random, each time it is drawn: mirror it
            left to right or top to bottom, or turn it by quarters of a circle.
        test_share: Share of the groups (fingers), rounded up, that is held out for testing. Of no
            concern where the data come divided into `train` and `test`.
        max_patches_per_image: Patches only: keep at most so many, drawn evenly and reproducibly.
        synthetic: Used only where there is no folder of real images.
        sphere: Of data set `sphere`, likewise.
    """

    name: DatasetName
    image_size: int = Field(ge=8, le=512)
    view: Literal["patches", "whole"] = _default("view", "patches")
    scale: Annotated[_Scale | _Scales, WrapValidator(_check_scale)] = _default("scale", 0.5)
    color: Literal["gray", "rgb"] = _default("color", "gray")
    augment: Annotated[tuple[Augmentation, ...], AfterValidator(_check_distinct)] = _default(
        "augment", ()
    )
    test_share: float = Field(default=0.2, gt=0, le=0.5)
    max_patches_per_image: int | None = Field(default=None, ge=1)
    synthetic: SyntheticOptions = SyntheticOptions()
    sphere: SphereOptions = SphereOptions()

    @field_validator("image_size", "view", "color", "augment")
    @classmethod
    def _check_sphere(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("name") != "sphere":
            return value
        if info.field_name == "image_size" and value > MAX_SPHERE_SIZE:
            raise ValueError(
                f"maps of the sphere have at most {MAX_SPHERE_SIZE} rows: the matrices of their "
                "harmonics take 32 image_size^4 bytes"
            )
        if info.field_name == "view" and value != "whole":
            raise ValueError("maps of the sphere are not cut: view must be whole")
        if info.field_name == "color" and value != "gray":
            raise ValueError("maps of the sphere have one channel: color must be gray")
        if info.field_name == "augment" and "rotate" in value:
            raise ValueError("maps of the sphere are not square: only flips are possible")
        return value

    @property
    def on_sphere(self) -> bool:
        """Whether the images are maps of the sphere."""
        return self.name == "sphere"

    @property
    def image_shape(self) -> tuple[int, int]:
        """Height and width of the prepared images in pixels."""
        return self.image_size, self.image_size * (2 if self.on_sphere else 1)

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales at which patches are cut."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @property
    def folder(self) -> Path | None:
        """The folder that the name itself says, if it does."""
        if not self.name.startswith(FOLDER_PREFIX):
            return None
        return Path(self.name.removeprefix(FOLDER_PREFIX))
