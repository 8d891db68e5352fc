"""The sweep whose models `sample` and `export` read here."""

from tests.trained import trained, trained_once

__all__ = ["trained", "trained_once"]
