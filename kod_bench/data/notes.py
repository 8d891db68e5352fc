"""Warnings about many files in one line."""

from collections.abc import Sequence

_NAMED = 3


def counted_note(verb: str, noun: str, names: Sequence[str]) -> tuple[str, ...]:
    """One warning that counts, and names the first few; none where there is nothing to count."""
    if not names:
        return ()
    return (f"{verb} {len(names)} {noun}{'s' if len(names) > 1 else ''}: {counted_names(names)}",)


def counted_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
