"""What a search space may say about its data set."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    field_validator,
    model_serializer,
)

from kod_bench.data.plugged import OWN_DEFAULTS, plugged_defaults
from kod_bench.errors import UsageError
from kod_bench.plugins import find_plugin, plugin_names
from kod_bench.storage import local_path

FOLDER_PREFIX = "folder:"
Augmentation = Literal["horizontal-flip", "vertical-flip", "rotate"]
SphereField = Literal["gaussian", "log-normal", "land-sea"]
SphereGridName = Literal["gauss-legendre", "cells", "poles", "driscoll-healy", "mcewen-wiaux"]

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
_FOLDER_DEFAULTS: dict[str, Any] = {"view": "whole", "color": "auto"}
#: Options that there were not always, and what they mean where they are left out.
_LATER: dict[str, Any] = {"group": None, "dpi": "auto", "value_range": None}
DATASET_NAMES = tuple(_DEFAULTS)
#: Pixels per inch that a scan can have.
MIN_DPI, MAX_DPI = 50, 10_000
#: Of the sphere, whose harmonics are dense matrices: half a gigabyte at this size.
MAX_SPHERE_SIZE = 64


def dataset_names() -> tuple[str, ...]:
    """What a search space can name: the data sets of this package, then the installed plug-ins."""
    return (*DATASET_NAMES, *plugin_names("dataset", DATASET_NAMES))


def _check_name(name: str) -> str:
    if find_plugin("dataset", name, DATASET_NAMES) is not None or name in DATASET_NAMES:
        return name
    if name.startswith(FOLDER_PREFIX) and name != FOLDER_PREFIX:
        # Absolute, because the workers of a sweep run elsewhere.
        try:
            folder = local_path(name.removeprefix(FOLDER_PREFIX)).absolute()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return f"{FOLDER_PREFIX}{folder}"
    raise ValueError(f"known: {', '.join(dataset_names())}, or {FOLDER_PREFIX}PATH")


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("an entry is given twice")
    return values


def _check_scale(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(tuple(value) if isinstance(value, list) else value)  # strict in JSON, too
    except ValidationError:  # pydantic's own would speak of each member of the union
        raise ValueError("must be a number above 0 and at most 1, or a list of such") from None


def _check_group(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return expression


def _check_dpi(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:  # pydantic's own would speak of each member of the union
        raise ValueError(
            f"must be auto, ignore, or a whole number from {MIN_DPI} to {MAX_DPI}"
        ) from None


def _check_range(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        found = check(tuple(value) if isinstance(value, list) else value)  # strict in JSON, too
    except ValidationError:
        found = ()
    if found is None or found == "auto" or (found and found[0] < found[1]):
        return found
    raise ValueError("must be auto, or two numbers [LOW, HIGH], LOW below HIGH")


def _default(option: str) -> Any:
    """A field whose default depends on the data set's name, which is validated before it."""

    def choose(validated: dict[str, Any]) -> Any:
        name = validated.get("name", "")
        if (plugin := find_plugin("dataset", name, DATASET_NAMES)) is not None:
            return plugged_defaults(plugin).get(option, OWN_DEFAULTS[option])
        known = _FOLDER_DEFAULTS if name.startswith(FOLDER_PREFIX) else _DEFAULTS.get(name, {})
        return known.get(option, OWN_DEFAULTS[option])

    return Field(default_factory=choose)


DatasetName = Annotated[str, AfterValidator(_check_name)]
_Scale = Annotated[float, Field(gt=0, le=1)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
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
    """Maps of the sphere: which are drawn without a folder of them, and how a folder's files lie.

    Attributes:
        field: "gaussian" and "log-normal" are random; "land-sea" is the Earth's land, turned.
        spectral_index: alpha of a random field: its power falls as (l + 1)^-alpha with degree l.
        count: Number of maps, both sides of the split together.
        seed: Draws other maps; results with different seeds are different data sets.
        grid: Of files: where their rows are, see `data.sphere_grids`; None for what their shape
            and their values say.
        flip: Of files: "latitude" for rows from south to north.
        fill: Of files: the number that stands for a missing value, or "nan"; each map's mean takes
            its place. "none" says that every number is a value. None refuses what looks missing.
    """

    field: SphereField = "gaussian"
    spectral_index: float = Field(default=3.0, ge=0, le=10)
    count: int = Field(default=2000, ge=2, le=100_000)
    seed: int = Field(default=0, ge=0)
    grid: SphereGridName | None = None
    flip: Literal["latitude"] | None = None
    fill: Annotated[float, Field(allow_inf_nan=False)] | Literal["nan", "none"] | None = None

    @field_validator("fill", mode="wrap")
    @classmethod
    def _check_fill(cls, value: Any, check: Callable[[Any], Any]) -> Any:
        if isinstance(value, float) and math.isnan(value):  # YAML's .nan, which JSON has not
            return "nan"
        try:
            return None if value is None else check(value)
        except ValidationError:  # pydantic's own would speak of each member of the union
            raise ValueError("must be a finite number, nan or none") from None

    @model_serializer(mode="wrap")
    def _without_unsaid(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All options, but of those about files, which came later, what is said alone.

        Trials are known by the hash of their options: a plan from before stays what it is.
        """
        found: dict[str, Any] = dump(self)
        unsaid = {key for key in ("grid", "flip", "fill") if found.get(key) is None}
        return {key: value for key, value in found.items() if key not in unsaid}

    @property
    def drawn(self) -> dict[str, Any]:
        """What built-in maps depend on."""
        return self.model_dump(include={"field", "spectral_index", "count", "seed"})


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
        color: "gray" is one channel of luma; "rgb" is three channels, equal ones for gray images;
            "auto" is "gray" if all images are gray but for the rounding of their files.
        value_range: What becomes black and what white, of files that hold more than 8 bits or
            floating-point numbers; others are read as they are. Left out, the upper 8 of 16 bits
            are kept. "auto" is the lowest and the highest value of all these files.
        augment: What training may do to an image at random, each time it is drawn: mirror it
            left to right or top to bottom, or turn it by quarters of a circle.
        test_share: Share of the groups (fingers), rounded up, that is held out for testing. Of no
            concern where the data come divided into `train` and `test`.
        group: A regular expression, searched in each image's path below the data folder. Images in
            which its groups match the same belong together (a finger, a surface), and share a side
            of the split. None: as the names of public collections say.
        dpi: Patches of fingerprints only: resolution of the scans whose files say none. "auto"
            takes them for 500 dpi if all the others are. Scans that differ are brought to the
            lowest; "ignore" takes all pixels as they are.
        max_patches_per_image: Patches only: keep at most so many, drawn evenly and reproducibly.
        synthetic: Used only where there is no folder of real images.
        sphere: Of data set `sphere`: its built-in maps, and how files of maps are read.
    """

    name: DatasetName
    image_size: int = Field(ge=8, le=512)
    view: Literal["patches", "whole"] = _default("view")
    scale: Annotated[_Scale | _Scales, WrapValidator(_check_scale)] = _default("scale")
    color: Literal["auto", "gray", "rgb"] = _default("color")
    value_range: Annotated[
        tuple[_Finite, _Finite] | Literal["auto"] | None, WrapValidator(_check_range)
    ] = None
    augment: Annotated[tuple[Augmentation, ...], AfterValidator(_check_distinct)] = _default(
        "augment"
    )
    test_share: float = Field(default=0.2, gt=0, le=0.5)
    group: Annotated[str, Field(min_length=1), AfterValidator(_check_group)] | None = None
    dpi: Annotated[
        Literal["auto", "ignore"] | Annotated[int, Field(ge=MIN_DPI, le=MAX_DPI)],
        WrapValidator(_check_dpi),
    ] = "auto"
    max_patches_per_image: int | None = Field(default=None, ge=1)
    synthetic: SyntheticOptions = SyntheticOptions()
    sphere: SphereOptions = SphereOptions()

    @field_validator("image_size", "view", "color", "value_range", "augment")
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
        if info.field_name == "value_range" and value is not None:
            raise ValueError("maps of the sphere are scaled by their own lowest and highest value")
        if info.field_name == "augment" and "rotate" in value:
            raise ValueError("maps of the sphere are not square: only flips are possible")
        return value

    @field_validator("dpi")
    @classmethod
    def _check_scans(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "auto" and info.data.get("name", "fingerprints") != "fingerprints":
            raise ValueError("only fingerprints are scans of a known size: leave dpi out")
        return value

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """All options, but those that came later only where they are not their default.

        Caches and trials are known by the hash of their options: what was made before there was an
        option stays what it is.
        """
        found: dict[str, Any] = dump(self)
        return {k: v for k, v in found.items() if k not in _LATER or v != _LATER[k]}

    @property
    def known_range(self) -> tuple[float, float] | None:
        """The range that is said in numbers, if it is."""
        return self.value_range if isinstance(self.value_range, tuple) else None

    @property
    def is_settled(self) -> bool:
        """Whether no `auto` is left, which only the images can say."""
        return "auto" not in (self.color, self.value_range)

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
