"""What a trial takes from one that is done: its rows, its trained model, or a part of its training.

A trial has two identities, which its rows hold: what was trained (`trained_hash`) and how that was
scored (`scored_hash`). Who shares both may adopt the rows; who shares the first alone scores the
model again; who differs in the number of iterations alone (`lineage_hash`) trains on from where the
other has ended.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from kod_bench.inside import is_name
from kod_bench.visible import is_visible

#: ``row``: its rows are adopted. ``model``: its model is scored. ``part``: it is trained further.
Kind = Literal["row", "model", "part"]

_TRAINED = (
    *("process", "steps", "parameters", "dataset", "data_hash"),
    *("network", "training", "workers", "seed", "code"),
)

#: What of the evaluation changes no number.
_KEEPING = "keep_samples"


@dataclass(frozen=True)
class Reused:
    """A trial of another sweep that this one begins with.

    Attributes:
        kind: what is taken from it.
        sweep: where its sweep was when this one was planned.
        name: of its sweep, with its space: ``space/sweep``.
        trial: its id.
        iterations: that its model was trained.
        pruned_at: iteration at which early stopping gave it up; None: it did not.
        continued_from: iteration at which it was itself taken over, if it was trained on.
        weights: hash of its model's, if it is known.
        seconds: of training and scoring that need not be done again.
    """

    kind: Kind
    sweep: str
    name: str
    trial: str
    iterations: int
    pruned_at: int | None = None
    continued_from: int | None = None
    weights: str | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, said: dict[str, Any]) -> "Reused":
        """From a plan, which may come from anywhere.

        Raises:
            ValueError: if it says something else.
        """
        try:
            found = cls(**said)
        except TypeError as error:
            raise ValueError("reuse: not what a trial can take from another") from error
        texts = (found.sweep, found.name, found.trial, found.weights or "")
        if found.kind not in get_args(Kind) or not all(isinstance(each, str) for each in texts):
            raise ValueError("reuse: not what a trial can take from another")
        parts = found.name.split("/")
        if not all(map(is_visible, texts)) or not all(map(is_name, (*parts, found.trial))):
            raise ValueError("reuse: not names that can be shown")
        counts = [found.iterations]
        counts += [n for n in (found.pruned_at, found.continued_from) if n is not None]
        if len(parts) != 2 or any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("reuse: not a sweep's name and counts of iterations")
        if type(found.seconds) not in (int, float):
            raise ValueError("reuse: not seconds")
        return found

    @property
    def values(self) -> dict[str, Any]:
        """For a plan: without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def is_trained(self) -> bool:
        """Whether the model is scored as it is."""
        return self.kind != "part"

    @property
    def shown(self) -> str:
        """For a row: what was taken, and from which trial."""
        what = {"row": "rows", "model": "model", "part": f"iteration {self.iterations}"}[self.kind]
        return f"{what} of {self.name}/{self.trial}"


def trained_hash(values: dict[str, Any]) -> str:
    """Hash of what was trained: data, process, network, training, seed and code.

    Args:
        values: of a trial.
    """
    return _hash(_trained(values))


def lineage_hash(values: dict[str, Any]) -> str:
    """`trained_hash` without the number of iterations."""
    found = _trained(values)
    training = {key: value for key, value in found["training"].items() if key != "iterations"}
    return _hash(found | {"training": training})


def scored_hash(values: dict[str, Any]) -> str:
    """Hash of how a trained model was scored: ways, counts, extractor and code.

    Args:
        values: of a trial.
    """
    evaluation = {key: value for key, value in values["evaluation"].items() if key != _KEEPING}
    return _hash(
        {
            "evaluation": evaluation,
            "sampling": values["sampling"],
            "code": values["code"],
            "plugins": _plugins(values, of_extractor=True),
        }
    )


def _trained(values: dict[str, Any]) -> dict[str, Any]:
    found = {name: values[name] for name in _TRAINED}
    return found | {"plugins": _plugins(values, of_extractor=False)}


def _plugins(values: dict[str, Any], of_extractor: bool) -> list[dict[str, Any]]:
    every = values.get("plugins", [])
    return [each for each in every if (each.get("kind") == "extractor") == of_extractor]


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
