"""The one table of data sets; beside it, those of plug-ins.

To add one to this package: a module with a `SPEC`, a line here, one in options.
"""

from pathlib import Path

from kod_bench.data import (
    angle_files,
    any_folder,
    cifar10,
    fingerprints,
    flow,
    orientation,
    sphere,
    terrain,
    textures,
    xy,
)
from kod_bench.data.angle_options import ANGLES_PREFIX
from kod_bench.data.archives import ArchivedSource, is_archive
from kod_bench.data.errors import DataError
from kod_bench.data.folders import FolderSource
from kod_bench.data.options import DatasetOptions
from kod_bench.data.plugged import plugged_spec
from kod_bench.data.spec import DatasetSpec, Source
from kod_bench.plugins import find_plugin

DATASETS: dict[str, DatasetSpec] = {
    "fingerprints": fingerprints.SPEC,
    "textures": textures.SPEC,
    "terrain": terrain.SPEC,
    "cifar10": cifar10.SPEC,
    "sphere": sphere.SPEC,
    "xy": xy.SPEC,
    "orientation": orientation.SPEC,
    "flow": flow.SPEC,
}


def find_spec(name: str) -> DatasetSpec:
    """What is particular about a data set; any `folder:PATH` has the same, any `angles:PATH` too.

    Raises:
        kod_bench.plugins.PluginError: It is a plug-in that cannot be used.
    """
    if (plugin := find_plugin("dataset", name, DATASETS)) is not None:
        return plugged_spec(plugin)
    if name.startswith(ANGLES_PREFIX):
        return angle_files.SPEC
    return DATASETS.get(name, any_folder.SPEC)


def plugin_source(name: str) -> str | None:
    """Hash of the source that a data set comes from, if it is a plug-in."""
    plugin = find_plugin("dataset", name, DATASETS)
    return None if plugin is None else plugin.source


def open_source(options: DatasetOptions, data_dir: Path | None, cache_dir: Path) -> Source:
    """Where the images that the options ask for come from.

    Args:
        options: Which images.
        data_dir: A folder of images, or an archive of one.
        cache_dir: The folder of prepared images.

    Raises:
        DataError: There are none, or two folders are named.
    """
    if options.folder is not None and data_dir is not None:
        raise DataError(
            f"dataset {options.name} names its folder, but {data_dir} is named as well; leave out "
            "one of them (--data-dir, $KOD_BENCH_DATA)"
        )
    folder = options.folder or data_dir
    special = find_spec(options.name).open_special(options, folder, cache_dir)
    if special is not None:
        _check_own_name(options.name, special)
        return special
    if folder is None:
        raise DataError(f"dataset {options.name} needs a folder of images")
    # Rows must not pass a folder of JPEG files off as the published CIFAR-10.
    name = f"{options.name}-folder" if options.name == "cifar10" else options.name
    if options.folder is not None:
        name = f"folder-{options.folder.name}"
    if is_archive(folder):
        return ArchivedSource(options, folder, name, cache_dir)
    return FolderSource(options, folder, name, cache_dir)


def _check_own_name(name: str, source: Source) -> None:
    """Refuse a plug-in's source whose images would pass in rows for another data set's."""
    if plugin_source(name) is None or source.name == name or source.name.startswith(f"{name}-"):
        return
    raise DataError(
        f"dataset {name}: its source calls itself {source.name!r}; it must be {name} or "
        f"begin with {name}-"
    )
