"""The end of a job that hangs: after some times what it is granted, with a word in its log on where it stood."""

import faulthandler

HANG = 4
"""A job is ended after so many times the minutes that it is granted: no machine is that slow."""


def end_if_it_hangs(minutes: int | None) -> None:
    """Has this process end with exit code 1 once `HANG` times `minutes` have gone by from now; None: never.

    `faulthandler` writes where each thread stood to stderr, and ends the process from a thread of its own: a framework that hangs in
    compiled code is ended, too.
    """
    if minutes:
        faulthandler.dump_traceback_later(HANG * minutes * 60, exit=True)
