"""What a data set is, in tables: counts, pixels, and how well Kuramoto chains forget it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from rich.table import Table
from rich.text import Text

from kod_bench.data import ImageDataset
from kod_bench.data.statistics import pixel_statistics
from kod_bench.diffusion import KuramotoDiffusion, TerminalMismatch
from kod_bench.evaluation.angles import AngleStatistics, energy, vortex_density
from kod_bench.training import ShuffledImages, derive_seed
from kod_bench.visible import visible

Coupling = Literal["global", "local"]
_MEASURED = 10_000
COUPLINGS: tuple[Coupling, ...] = ("global", "local")


@dataclass(frozen=True)
class MeasuredMismatch:
    """The terminal mismatch of one process on a data set."""

    coupling: Coupling
    steps: int
    mismatch: TerminalMismatch


def measure_mismatch(
    dataset: ImageDataset, coupling: Coupling, steps: int, chains: int, augment: Sequence[str]
) -> MeasuredMismatch:
    """Run forward chains from training images and compare their ends with the von Mises prior.

    The matched prior, which is the default, imitates these very ends; what is asked here is how far
    they are from where chains end that have forgotten their image. With 512 chains, the ends are
    those in the rows (`terminal_*`) of a trial with seed 0 and default parameters.

    Args:
        dataset: The data set.
        coupling: Of `COUPLINGS`.
        steps: T.
        chains: How many.
        augment: As in training.
    """
    channels, height, width = dataset.train.shape[1:]
    process = KuramotoDiffusion(
        shape=(channels, height, width),
        steps=steps,
        coupling=coupling,
        calibration_chains=chains,
        reading="angle" if dataset.values == "angles" else "intensity",
        target="path",  # every target has the same chains; this one is cheap
    )
    generator = torch.Generator().manual_seed(derive_seed(0, "fit"))
    process.fit(ShuffledImages(dataset.train, generator, augment), generator)
    return MeasuredMismatch(coupling, steps, process.terminal_mismatch["von-mises"])


def summary_table(dataset: ImageDataset) -> Table:
    """Counts and statistics of the pixels."""
    details = dataset.details
    train_groups, test_groups, noun = details.groups
    table = _table(dataset.name, "", "training", "test")
    table.add_row("images", f"{len(dataset.train)}", f"{len(dataset.test)}")
    table.add_row(noun, f"{train_groups}", f"{test_groups}")
    for name, (train, test) in details.classes.items():
        # Names of folders, which may hold anything: neither escapes nor rich's markup act.
        table.add_row(Text(f"  class {visible(name, keep='')}"), f"{train}", f"{test}")
    if dataset.values == "angles":
        _add_angles(table, dataset)
        return table
    train_pixels, test_pixels = (
        pixel_statistics(side.numpy()) for side in (dataset.train, dataset.test)
    )
    for label, name, form in (
        ("lowest pixel", "lowest", "d"),
        ("highest pixel", "highest", "d"),
        ("mean pixel", "mean", ".1f"),
        ("standard deviation", "deviation", ".1f"),
        ("white share (pixels at 255)", "white_share", ".2%"),
        ("mean phase, rad", "mean_phase", "+.3f"),
        ("order of all pixels |z|", "order", ".3f"),
    ):
        row = [format(getattr(side, name), form) for side in (train_pixels, test_pixels)]
        table.add_row(label, *row)
    return table


def _add_angles(table: Table, dataset: ImageDataset) -> None:
    """What fields of angles are like, of the first `_MEASURED` on each side."""
    sides = [AngleStatistics.of(side[:_MEASURED]) for side in (dataset.train, dataset.test)]
    for label, values, form in (
        ("vortices per plaquette", [vortex_density(side) for side in sides], ".4f"),
        ("energy -<cos> of neighbours", [energy(side) for side in sides], "+.4f"),
        ("order |z| of a field", [float(side.order.mean()) for side in sides], ".3f"),
    ):
        table.add_row(label, *(format(value, form) for value in values))


def summary_lines(dataset: ImageDataset) -> list[str]:
    """Where the images came from, what was left out, how they were divided."""
    details = dataset.details
    channels, height, width = dataset.train.shape[1:]
    skipped = ", ".join(f"{count} {reason}" for reason, count in details.skipped.items())
    return [
        f"images   {width}x{height}, {channels} channel{'s' if channels > 1 else ''}",
        f"hash     {dataset.content_hash}",
        f"source   {dataset.source}: {details.images} images used, {details.duplicates} duplicates "
        f"dropped, skipped: {skipped or 'none'}",
        f"split    {details.split}",
        f"licence  {dataset.licence}",
    ]


def mismatch_table(measured: Sequence[MeasuredMismatch], chains: int) -> Table:
    """How far the ends of forward chains are from the prior that sampling starts from."""
    table = _table(
        f"Terminal mismatch of the Kuramoto process, {chains} chains (in brackets: the prior)",
        *("coupling", "T", "phase", "order", "phase spread", "order spread"),
    )
    for each in measured:
        found = each.mismatch
        table.add_row(
            each.coupling,
            f"{each.steps}",
            f"{found.phase:+.3f}",
            f"{found.order:.3f} ({found.prior_order:.3f})",
            f"{found.phase_spread:.3f} ({found.prior_phase_spread:.3f})",
            f"{found.order_spread:.3f} ({found.prior_order_spread:.3f})",
        )
    return table


MISMATCH_NOTE = """\
phase: mean direction of the chains' ends from the reference phase, in radians (the prior's is 0);
order: |z| of one image. In brackets: draws of the von Mises prior, where chains end that have
forgotten their image. The matched prior, the default, imitates the chains' own ends instead."""


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=Text(visible(title, keep="")), title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
