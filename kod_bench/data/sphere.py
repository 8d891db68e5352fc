"""Maps of the sphere on a Gauss-Legendre grid: built-in fields, or a folder of `.npy` files."""

from collections.abc import Iterable
from pathlib import Path

from kod_bench.data import sphere_fields
from kod_bench.data.archives import is_archive
from kod_bench.data.errors import DataError
from kod_bench.data.options import DatasetOptions
from kod_bench.data.spec import DatasetSpec, Source, SourceImage
from kod_bench.data.sphere_fields import FloatArray, Land
from kod_bench.data.sphere_maps import MapFolderSource

_CHUNK = 100  # maps per unit


class FieldSource:
    """The built-in fields, `_CHUNK` per unit."""

    parallel = False  # one matrix product for many maps, and one matrix for all
    split_rule = ""
    notes: tuple[str, ...] = ()

    def __init__(self, options: DatasetOptions) -> None:
        self.name = f"{options.name}-{options.sphere.field}"
        self.title = f"built-in {options.sphere.field} fields on the sphere"
        self.units = -(-options.sphere.count // _CHUNK)
        self._options = options.sphere
        self._degrees = options.image_size
        self._land: Land | None = None

    def identity(self) -> dict[str, object]:
        """How the maps are drawn, and from which land."""
        drawn = self._options.drawn
        if self._options.field == "land-sea":
            del drawn["spectral_index"]
            return {"sphere": drawn, "land": sphere_fields.land_digest()}
        return {"sphere": drawn}

    def unpack(self, folder: object) -> None:
        """Read the Earth's land, where it is asked for."""
        if self._options.field == "land-sea":
            self._land = Land.load(self._degrees)

    def read(self, unit: int) -> Iterable[SourceImage]:
        """Some of the maps."""
        first = unit * _CHUNK
        count = min(_CHUNK, self._options.count - first)
        maps = sphere_fields.draw_maps(self._options, self._degrees, first, count, self._land)
        return [SourceImage(str(first + i + 1), each) for i, each in enumerate(maps)]


def known_spectrum(dataset: str, options: DatasetOptions) -> FloatArray | None:
    """The angular power C_l that a built-in set's maps have, in gray levels squared.

    Args:
        dataset: the name that the set goes by in rows.
        options: that it was made with.

    Returns:
        Degrees 0..L-1; None for a user's maps, and for what is no map.
    """
    if not options.on_sphere or dataset != f"{options.name}-{options.sphere.field}":
        return None
    degrees = options.image_size
    land = Land.load(degrees) if options.sphere.field == "land-sea" else None
    return sphere_fields.known_power(options.sphere, degrees, land)


def _open(options: DatasetOptions, folder: Path | None, cache_dir: Path) -> Source:
    if folder is None:
        return FieldSource(options)
    if is_archive(folder):
        raise DataError(
            f"archive {folder}: dataset {options.name} needs a folder of .npy files; unpack it"
        )
    return MapFolderSource(options, folder, cache_dir)


SPEC = DatasetSpec(
    subject="map",
    group_noun="maps",
    layout=".npy files of latitudes x longitudes; folders train and test are the split",
    licence="built-in fields: free; land: global-land-mask, MIT, from NOAA's GLOBE",
    without_folder=lambda _: "built in: gaussian, log-normal or land-sea fields",
    open_special=_open,
)
