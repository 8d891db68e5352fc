"""Warnings about many files in one line."""

from collections.abc import Mapping, Sequence

_NAMED = 3


def counted_note(verb: str, noun: str, names: Sequence[str], which: str = "") -> tuple[str, ...]:
    """One warning that counts, and names the first few; none where there is nothing to count."""
    if not names:
        return ()
    plural = "s" if len(names) > 1 else ""
    what = f"{noun}{plural}{which and f' {which}'}"
    return (f"{verb} {len(names)} {what}: {counted_names(names)}",)


def counted_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def remark_notes(remarks: Mapping[str, int]) -> list[str]:
    """Remarks with a place {images}, and of how many images each is true => sentences."""
    return [
        remark.format(images=f"{count} image{'s' if count > 1 else ''}")
        for remark, count in remarks.items()
    ]
