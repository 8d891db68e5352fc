"""Samples as files: a folder of PNGs, one .npz or .npy, or one picture; nothing is resized.

Beside them lies a JSON that says what they were drawn from. It is written last: what it stands
beside is whole. Until then what was drawn lies in OUT.unfinished, too, from where the same command
goes on if it was interrupted.
"""

import contextlib
import errno
import fcntl
import fnmatch
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import kod_bench
from kod_bench.atomic import LEFTOVERS, atomic_write
from kod_bench.errors import UsageError, one_line
from kod_bench.models.drawable import Drawable, Drawing
from kod_bench.sampling import shard_index
from kod_bench.sweeps.plan.make import current_code
from kod_bench.sweeps.trial.grid import write_grid

#: Of a file that holds all samples. Anything else is a folder.
SUFFIXES = (".npz", ".npy", ".png")
ABOUT_FILE = "samples.json"
#: A picture of more is no picture: a folder shows them better.
MOST_IN_GRID = 4096

_OURS = re.compile(r"\d{6,}\.(png|npy)|samples\.json")
_KINDS: dict[int, str] = {1: "L", 3: "RGB"}


def is_one_file(out: Path) -> bool:
    """Whether samples go into one file, by its name."""
    return out.suffix.lower() in SUFFIXES


def check_output(out: Path, count: int, overwrite: bool) -> None:
    """Refuse a place that samples cannot be put, before any is drawn.

    Args:
        out: file or folder.
        count: of the samples.
        overwrite: whether earlier samples there may be replaced. Other files are never removed.

    Raises:
        UsageError: naming it and the reason.
    """
    check_on_disk(out)
    aside = unfinished_path(out)
    for path in aside.iterdir() if aside.is_dir() else [aside] if aside.exists() else []:
        if not _is_aside(path):
            raise UsageError(
                f"--out {out}: needs {aside}, where {path.name} is no shard of samples"
            )
    if is_one_file(out):
        if out.is_dir():
            raise UsageError(f"--out {out}: is a folder; name a file")
        for path in (out, about_path(out)):
            if path.exists() and not overwrite:
                what = "is" if path == out else f"{path.name} is"
                raise UsageError(f"--out {out}: {what} there already; --overwrite replaces it")
        if not out.parent.is_dir():
            raise UsageError(f"--out {out}: the folder {out.parent} does not exist")
        if out.suffix.lower() == ".png" and count > MOST_IN_GRID:
            raise UsageError(
                f"--out {out}: a picture shows {MOST_IN_GRID} samples at most, not {count}; name a "
                "folder or an .npz"
            )
        return
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder, or a file {', '.join(SUFFIXES)}")
    interrupted = aside.is_dir() and not about_path(out).exists()
    check_contents(
        out,
        overwrite or interrupted,
        lambda name: _OURS.fullmatch(name) is not None,
        shown=f"--out {out}",
        earlier="earlier samples",
        stranger="no earlier sample",
    )


def check_contents(
    folder: Path,
    overwrite: bool,
    is_ours: Callable[[str], bool],
    *,
    shown: str,
    earlier: str,
    stranger: str,
) -> None:
    """Refuse a folder that holds anything, but for what may be replaced.

    Args:
        folder: there, or not yet.
        overwrite: whether what is ours may be replaced; nothing else ever is.
        is_ours: whether a name is of something that this package writes there.
        shown: the folder, in messages.
        earlier: what is ours, likewise.
        stranger: what anything else is not.

    Raises:
        UsageError: naming what is there.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if names and not overwrite:
        raise UsageError(
            f"{shown}: is not empty (it holds {names[0]}); name another folder, or let {earlier} "
            "in it be replaced with --overwrite"
        )
    if others := [name for name in names if not is_ours(name)]:
        raise UsageError(
            f"{shown}: holds {others[0]}, which is {stranger}; --overwrite removes nothing else: "
            "name another folder"
        )


def check_on_disk(out: Path) -> None:
    """Refuse an address, which as a path would be a folder called ``s3:``.

    Raises:
        UsageError: naming it.
    """
    if out.parts and out.parts[0] in ("s3:", "gs:"):
        raise UsageError(f"{out}: is no place on a disk; write there, and copy it to the store")


def about_path(out: Path) -> Path:
    """Where the JSON of samples lies: of a.npz it is not that of a.png."""
    return out.with_name(f"{out.name}.json") if is_one_file(out) else out / ABOUT_FILE


def unfinished_path(out: Path) -> Path:
    """Where samples lie as they are drawn, until all are where they should be."""
    return out.with_name(f"{out.name}.unfinished")


def write_samples(
    out: Path, model: Drawable, drawing: Drawing, on_call: Callable[[], None] = lambda: None
) -> None:
    """Draw samples and put them where `check_output` has found room for them.

    What an earlier call with equal arguments drew before it was interrupted is not drawn again.

    Args:
        out: file or folder; the folder is made.
        model: that is drawn from.
        drawing: its samples.
        on_call: called after each evaluation of the network.

    Raises:
        UsageError: if it cannot be written, say that the disk is full, or somebody else is writing
            there.
        FloatingPointError: if samples are not finite.
    """
    aside = unfinished_path(out)
    drawing.set_aside(aside)
    batches = drawing.batches(on_call)
    try:
        if is_one_file(out):
            _write_file(out, model, drawing, batches)
            _write_about(out, model, drawing)
        else:
            out.mkdir(parents=True, exist_ok=True)
            with _alone_in(out):
                for path in sorted(out.iterdir()):
                    if _OURS.fullmatch(path.name):
                        path.unlink()
                _write_each(out, drawing.count, batches)
                _write_about(out, model, drawing)
        _remove_shards(aside)
    except OSError as error:
        reason = error.strerror or one_line(error)
        done = drawing.kept + drawing.drawn
        raise UsageError(
            f"--out {out}: cannot be written ({reason}), after {done} of {drawing.count} samples"
        ) from error


def _remove_shards(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if _is_aside(path):
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody has put a file there
            folder.rmdir()


def _is_aside(path: Path) -> bool:
    return shard_index(path.name) is not None or fnmatch.fnmatchcase(path.name, LEFTOVERS)


def _write_file(out: Path, model: Drawable, drawing: Drawing, batches: Iterable[Tensor]) -> None:
    suffix = out.suffix.lower()
    if suffix == ".png":
        write_grid(out, torch.cat(list(batches)))
        return
    channels, height, width = model.shape
    shape = (drawing.count, height, width, channels)
    kind = np.dtype(np.uint8 if model.values == "intensities" else np.float32)
    with atomic_write(out) as file:
        if suffix == ".npy":
            _write_array(file, shape, kind, batches)
            return
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            archive.open("arr_0.npy", "w", force_zip64=True) as member,
        ):
            _write_array(member, shape, kind, batches)


def _write_array(
    file: IO[bytes], shape: tuple[int, ...], kind: "np.dtype[Any]", batches: Iterable[Tensor]
) -> None:
    """An array in NumPy's format, batch by batch: fifty thousand images are never in memory."""
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in batches:
        file.write(batch.permute(0, 2, 3, 1).contiguous().numpy().tobytes())


def _write_each(out: Path, count: int, batches: Iterable[Tensor]) -> None:
    digits = max(6, len(str(count - 1)))  # names sort as numbers do
    number = 0
    for batch in batches:
        for image in batch:
            # Not each by itself to the disk: that it is all there is said by the JSON, at the end.
            suffix = "png" if image.dtype == torch.uint8 else "npy"
            with (out / f"{number:0{digits}d}.{suffix}").open("xb") as file:
                if suffix == "png":
                    to_picture(image).save(file, format="PNG")
                else:  # angles have no gray
                    np.save(file, image.permute(1, 2, 0).squeeze(2).contiguous().numpy())
            number += 1


def to_picture(image: Tensor) -> Image.Image:
    """(C, H, W) uint8 pixels as they are, gray for one channel.

    Raises:
        UsageError: if there are neither one nor three channels.
    """
    if len(image) not in _KINDS:
        raise UsageError(f"images of {len(image)} channels are no pictures; write an .npz or .npy")
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy())


def _write_about(out: Path, model: Drawable, drawing: Drawing) -> None:
    said = {
        "from": model.about(),
        "way": asdict(drawing.way),
        "count": drawing.count,
        "seed": drawing.seed,
        "batch_size": drawing.size,
        "kept": drawing.kept,
        "drawn": drawing.drawn,
        "drawn_by": current_code(),
        "kod_bench": kod_bench.__version__,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with atomic_write(about_path(out)) as file:
        file.write((json.dumps(said, indent=2) + "\n").encode())


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, by a lock that leaves no file in it.

    Raises:
        UsageError: if another process holds it.
        OSError: if it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    f"--out {folder}: another kod-bench is writing samples there"
                ) from error
            # A file system without locks: names that are there already are met below.
        yield
    finally:
        os.close(descriptor)
