"""Errors for people."""


class UsageError(Exception):
    """Something the user can mend. The message is one line: what, where, what is allowed.

    The command line prints it without a traceback and exits with status 2.
    """
