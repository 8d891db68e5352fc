"""Names of files, whose length file systems count in bytes and not in characters."""

#: Of one name, on the file systems of Linux and macOS.
MAX_NAME_BYTES = 255


def cut_to_bytes(text: str, most: int) -> str:
    """The beginning of a text that has at most so many bytes in UTF-8, of whole characters."""
    return text.encode()[:most].decode(errors="ignore")
