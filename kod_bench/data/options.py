"""What a search space may say about its data set."""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

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

from kod_bench.data.angle_options import (
    ANGLE_KINDS,
    ANGLES_PREFIX,
    AngleFileOptions,
    AngleKind,
    FlowOptions,
    OrientationOptions,
    Values,
    XyOptions,
    has_built_in_angles,
    shrinking,
)
from kod_bench.data.sphere_options import SphereOptions
from kod_bench.errors import UsageError
from kod_bench.plugins import Plugin, PluginError, find_plugin, plugin_names
from kod_bench.storage import is_uri, local_path

FOLDER_PREFIX = "folder:"
Augmentation = Literal["horizontal-flip", "vertical-flip", "rotate"]

# What an option means where a search space leaves it out. Mirror images of prints are not prints
# of the same population (left loops become right ones), so fingerprints are never flipped by
# default; CIFAR-10 is flipped as in the papers, and a texture seen from above has no left or top.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "fingerprints": {},
    "textures": {"scale": 1.0, "augment": ("horizontal-flip", "vertical-flip")},
    "terrain": {"scale": (1.0, 0.5, 0.25), "augment": ("horizontal-flip", "vertical-flip")},
    "cifar10": {"view": "whole", "color": "rgb", "augment": ("horizontal-flip",)},
    "sphere": {"view": "whole"},
    "xy": {"view": "whole", "scale": 1.0},
    "orientation": {},
    "flow": {"view": "whole", "scale": 1.0},
}
_FOLDER_DEFAULTS: dict[str, Any] = {"view": "whole", "color": "auto"}
_ANGLES_DEFAULTS: dict[str, Any] = {"view": "whole", "scale": 1.0}
#: Options that there were not always, and what they mean where they are left out.
_LATER: dict[str, Any] = {
    "group": None,
    "dpi": "auto",
    "value_range": None,
    "xy": XyOptions().model_dump(),
    "orientation": OrientationOptions().model_dump(),
    "flow": FlowOptions().model_dump(),
    "angles": AngleFileOptions().model_dump(),
}
DATASET_NAMES = tuple(_DEFAULTS)
#: Options whose defaults a data set has of its own, and what they are otherwise.
_OWN_DEFAULTS: dict[str, Any] = {"view": "patches", "scale": 0.5, "color": "gray", "augment": ()}
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
    for prefix in (FOLDER_PREFIX, ANGLES_PREFIX):
        if not name.startswith(prefix) or name == prefix:
            continue
        if is_uri(name.removeprefix(prefix)):
            raise ValueError(
                "must be a folder of this machine; images on an object store are named where the "
                "sweep is started, by --data-dir"
            )
        # Absolute, because the workers of a sweep run elsewhere.
        try:
            folder = local_path(name.removeprefix(prefix)).absolute()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return f"{prefix}{folder}"
    known = ", ".join(dataset_names())
    raise ValueError(f"known: {known}, {FOLDER_PREFIX}PATH or {ANGLES_PREFIX}PATH")


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
            return _plugged_defaults(plugin).get(option, _OWN_DEFAULTS[option])
        if name.startswith(ANGLES_PREFIX):
            known = _ANGLES_DEFAULTS
        else:
            known = _FOLDER_DEFAULTS if name.startswith(FOLDER_PREFIX) else _DEFAULTS.get(name, {})
        return known.get(option, _OWN_DEFAULTS[option])

    return Field(default_factory=choose)


@functools.cache
def _plugged_defaults(plugin: Plugin) -> Mapping[str, Any]:
    """What a plug-in's data set has its options be where a search space leaves them out.

    Raises:
        PluginError: if it cannot be imported, or one of them is no option, or not allowed.
    """
    found = plugin.load()
    said = getattr(found, "defaults", None)
    if not isinstance(said, Mapping):
        raise PluginError(f"{plugin.shown}: {plugin.reference} is no DatasetSpec, but {found!r}")
    if unknown := sorted(set(said) - set(_OWN_DEFAULTS)):
        raise PluginError(
            f"{plugin.shown}: has a default for {', '.join(unknown)}; allowed: "
            f"{', '.join(_OWN_DEFAULTS)}"
        )
    # All of them given, so that none is asked for here again.
    try:
        options = DatasetOptions.model_validate(
            {"name": plugin.name, "image_size": 32, **_OWN_DEFAULTS, **said}
        )
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise PluginError(f"{plugin.shown}: its default {first['loc'][0]}: {message}") from error
    return {name: getattr(options, name) for name in said}


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
        xy: Of data set `xy`.
        orientation: Of data set `orientation`.
        flow: Of data set `flow`.
        angles: Of `angles:PATH`, a folder of arrays of angles.
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
    xy: XyOptions = XyOptions()
    orientation: OrientationOptions = OrientationOptions()
    flow: FlowOptions = FlowOptions()
    angles: AngleFileOptions = Field(default=AngleFileOptions(), validate_default=True)

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

    @field_validator("image_size", "view", "color", "value_range", "augment")
    @classmethod
    def _check_angles(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.data.get("name", ""))
        if not has_built_in_angles(name):
            return value
        if info.field_name == "image_size" and name in ("xy", "flow") and value % 2:
            raise ValueError(f"fields of {name} have an even side")
        if info.field_name == "view" and name in ("xy", "flow") and value != "whole":
            raise ValueError(f"fields of {name} are not cut: view must be whole")
        if info.field_name == "color" and value != "gray":
            raise ValueError("a field of angles has one channel: color must be gray")
        if info.field_name == "value_range" and value is not None:
            raise ValueError("angles have a range of their own: leave value_range out")
        if info.field_name == "augment" and "rotate" in value and name != "xy":
            raise ValueError("rotate turns fields and not their angles: only flips are possible")
        if info.field_name == "view" and name == "orientation" and value != "patches":
            raise ValueError("orientation is cut into patches: view must be patches")
        return value

    @field_validator("scale")
    @classmethod
    def _check_shrunk(cls, value: Any, info: ValidationInfo) -> Any:
        if has_built_in_angles(str(info.data.get("name", ""))):
            for scale in value if isinstance(value, tuple) else (value,):
                shrinking(scale)
        return value

    @field_validator("angles")
    @classmethod
    def _check_mirrored(cls, value: AngleFileOptions, info: ValidationInfo) -> AngleFileOptions:
        name = str(info.data.get("name", ""))
        if value != AngleFileOptions() and not name.startswith(ANGLES_PREFIX):
            raise ValueError("is of data sets angles:PATH: leave it out")
        if name.startswith(ANGLES_PREFIX) and info.data.get("augment") and value.kind is None:
            kinds = ", ".join(get_args(AngleKind))
            raise ValueError(f"kind must be said where augment mirrors fields: {kinds}")
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
    def values(self) -> Values:
        """What the numbers of the prepared images are."""
        return "angles" if _is_angles(self.name) else "intensities"

    @property
    def angle_kind(self) -> AngleKind | None:
        """What becomes of an angle where its field is mirrored; None where nobody says."""
        return ANGLE_KINDS.get(self.name, self.angles.kind)

    @property
    def changes(self) -> tuple[str, ...]:
        """What training does to an image at random, by the names of `training.ShuffledImages`."""
        kind = self.angle_kind or "internal"
        if self.values == "intensities" or kind == "internal":
            return self.augment
        return tuple(f"{change} {kind}" for change in self.augment)

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
        for prefix in (FOLDER_PREFIX, ANGLES_PREFIX):
            if self.name.startswith(prefix):
                return Path(self.name.removeprefix(prefix))
        return None


def _is_angles(name: str) -> bool:
    if (plugin := find_plugin("dataset", name, DATASET_NAMES)) is not None:
        return bool(getattr(plugin.load(), "values", "intensities") == "angles")
    return has_built_in_angles(name)
