"""Text from files, for terminals and logs: nothing in it acts, and nothing in it hides."""

import logging
import re

#: Control characters, lone surrogates, and what turns the direction of the text around it.
#: Also what has no width, by which two names could look equal, but for the joiners of scripts.
ACTING = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069"
    r"\ufeff"
)
_ACTING = re.compile(f"[{ACTING}\ud800-\udfff]")

_WORD = re.compile(r"\S+")  # with quotes: a secret may have one
#: Of an address, also one that a path has made of it: ``s3:/KEY:SEC/RET@bucket``.
_SCHEME = re.compile(r"[A-Za-z0-9+.-]:/{1,3}")


def visible(text: str, keep: str = "\n\t") -> str:
    r"""The text with its control characters spelled out, as in ``\x1b[2J``, and no credentials.

    What stands before an ``@`` in an address becomes dots. Addresses with credentials are refused
    by `kod_bench.storage`; this is for those that no option expected, or a library's error quotes.

    Args:
        text: from anywhere.
        keep: characters that may act; of what has to be one line, none.
    """
    if "@" in text:
        text = _WORD.sub(lambda match: _without_credentials(match[0]), text)
    return _ACTING.sub(lambda match: match[0] if match[0] in keep else _spelled(match[0]), text)


def is_visible(text: str) -> bool:
    """Whether nothing in a text, which is to be a name, acts on a terminal."""
    return _ACTING.search(text) is None


def _without_credentials(word: str) -> str:
    begin, end = _SCHEME.search(word), word.rfind("@")
    return word if begin is None or end < begin.end() else f"{word[: begin.end()]}...{word[end:]}"


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class VisibleFormatter(logging.Formatter):
    """A formatter of log messages, some of which quote files."""

    def format(self, record: logging.LogRecord) -> str:
        """As usual, with control characters spelled out, and no credentials."""
        return visible(super().format(record))
