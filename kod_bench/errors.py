"""Errors for people."""


class UsageError(Exception):
    """Something the user can mend. The message is one line: what, where, what is allowed.

    The command line prints it without a traceback and exits with status 2.
    """


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks, named by its type if it has none."""
    message = " ".join(str(error).split())
    return message or type(error).__name__
