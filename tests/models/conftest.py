"""The sweep whose models these tests draw from."""

from tests.trained import trained, trained_once

__all__ = ["trained", "trained_once"]
