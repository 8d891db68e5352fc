"""What a running trial says of itself."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Status:
    """What a running trial says of itself. `done` of `total` counts the phase's own steps."""

    phase: str  # preparing, training, sampling or scoring
    done: int = 0
    total: int = 0
    loss: float | None = None
    speed: float | None = None  # steps of the phase per second
    seconds_left: float | None = None  # of the phase

    def to_json(self) -> str:
        """As Ray carries it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Status":
        """Invert `to_json`."""
        return cls(**json.loads(text))


Report = Callable[[Status], None]
