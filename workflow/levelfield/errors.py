"""Errors that a person can mend: shown as one line, without a traceback."""


class UserError(Exception):
    """What was found, what was expected, what to type."""
