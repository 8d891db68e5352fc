"""A sweep as data: its plan, frozen before the first trial starts, and where its files are.

A sweep's folder::

    sweep.yaml              the search space, resolved, and where it came from; written last
    signature.json          says to its user, and to nobody else, whose plan it is
    trials.jsonl            the trials, see `trials_file`; sweep.yaml has the hash of its beginning
    trials/<trial>/         checkpoints, samples, history, log, pictures; row.parquet last
    cache/                  reference features shared by the trials
    report/                 tables and pictures over the rows

Where a strategy chooses by results, the trials that it chooses are added to ``trials.jsonl`` before
they run (`kod_bench.sweeps.store.growth`); what is in ``sweep.yaml`` stays.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kod_bench.storage import Location, ObjectFolder
from kod_bench.sweeps.plan.trial import Trial
from kod_bench.sweeps.space import Pruner, ResourceOptions

#: 1 had all trials in full in sweep.yaml.
FORMATS = (1, 2)
TRIALS_FILE = "trials.jsonl"
SWEEP_FILE = "sweep.yaml"
LOCK_FILE = "lock"

#: Of the names of rehearsals: the newest sweep of a space is none of them.
REHEARSAL_ENDING = "-rehearsal"


@dataclass(frozen=True)
class Growth:
    """What is needed to add trials to a plan, frozen with it.

    Attributes:
        study: name of the study, as programs that read it show it.
        code: version and hash of the code that made the plan.
        evaluation: the scoring options of every trial.
        hashes: of the images, by the data set's options as canonical JSON.
        total: how many trials there will be in the end.
        frozen_bytes: length of the trials' file when the plan was made.
        source: the search space's file.
        profile: of the space.
        resolved: what file, profile and changes say together.
    """

    study: str
    code: str
    evaluation: dict[str, Any]
    hashes: dict[str, str]
    total: int
    frozen_bytes: int
    source: str
    profile: str
    resolved: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk, or on an object store with a working copy on disk.

    Attributes:
        folder: of the sweep; of this node's working copy, if the sweep is on an object store.
        space: its search space's name.
        profile: of the space.
        data_dir: where its images are; None for built-in ones.
        resources: what each trial occupies.
        trials: the plan.
        remote: where the sweep really is, if not in `folder`; see `kod_bench.sweeps.store.mirror`.
        growth: how trials are added; None for a plan that is complete.
        early_stopping: how trials are pruned; None: they are not.
        stopping_metric: by which column, whose low values are good; None for the data's own, see
            `kod_bench.sweeps.search.early_stopping.rung_metric`.
        permissions: options of `resume` by which the user who runs it here lets it import what is
            not this package's; nothing that the plan says.
        donors: where the sweeps lie now whose trials are reused, by where they were; likewise.
        rehearsal: of which trials these are a rehearsal, as `kod_bench.sweeps.rehearsal` writes it;
            None: they are trials.
    """

    folder: Path
    space: str
    profile: str
    data_dir: Location | None
    resources: ResourceOptions
    trials: tuple[Trial, ...]
    remote: ObjectFolder | None = None
    growth: Growth | None = None
    early_stopping: Pruner | None = None
    stopping_metric: str | None = None
    permissions: tuple[str, ...] = ()
    donors: Mapping[str, Location] = field(default_factory=dict)
    rehearsal: Mapping[str, Any] | None = None

    @property
    def total(self) -> int:
        """How many trials there will be, those that are yet to be chosen included."""
        return len(self.trials) if self.growth is None else max(self.growth.total, len(self.trials))

    def workers_of(self, trial: Trial) -> int:
        """How many processes work on a trial: as many as train it, where it is trained."""
        return trial.workers if trial.model_of is None else self.resources.workers_per_trial

    @property
    def location(self) -> Location:
        """Where the sweep is, for a person or for another machine."""
        return self.folder.resolve() if self.remote is None else self.remote

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name  # the folder may be given as "."

    @property
    def shown(self) -> str:
        """Where the sweep is, as its user would name it."""
        return str(self.folder if self.remote is None else self.remote)

    @property
    def resume_command(self) -> str:
        """What a user types to go on with the sweep."""
        return f"kod-bench resume {shlex.join((self.shown, *self.permissions))}"

    @property
    def code(self) -> str:
        """Version and source hash of the code that made the plan."""
        return self.trials[0].code if self.growth is None else self.growth.code

    @property
    def trials_folder(self) -> Path:
        """Where the trials' folders are."""
        return self.folder / "trials"

    def trial_folder(self, trial: Trial) -> Path:
        """Where a trial writes."""
        return self.trials_folder / trial.id
