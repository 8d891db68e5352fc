"""A sweep of a search space that is written in the test, of images as they are now."""

from pathlib import Path

from kod_bench.data import load_dataset
from kod_bench.results import provenance
from kod_bench.storage import Location
from kod_bench.sweeps.plan.make import make_trials
from kod_bench.sweeps.plan.sweep import Sweep
from kod_bench.sweeps.space import load_space
from kod_bench.sweeps.store.create import create_sweep


def plan_sweep(
    text: str, folder: Path, results: Location | None = None, data_dir: Path | None = None
) -> Sweep:
    """Plan the laptop profile of a space, none of whose trials is run.

    Args:
        text: of the space.
        folder: where its file is written; made if it is not there.
        results: where the sweep goes; by default `results` in the folder.
        data_dir: where its images are, if they are not built in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "space.yaml"
    path.write_text(text)
    space = load_space(path, "laptop")
    dataset = load_dataset(space.options.dataset, data_dir)
    return create_sweep(
        space,
        make_trials(space, dataset.content_hash),
        results_dir=results or folder / "results",
        data_dir=data_dir,
        provenance=provenance.collect(),
    )
