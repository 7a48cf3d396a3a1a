"""The end of what hangs: of a job after some times what it is granted, with a word in its log on where it stood, and of a process that
it started."""

import faulthandler
import subprocess
from contextlib import suppress
from typing import Any

HANG = 4
"""A job is ended after so many times the minutes that it is granted: no machine is that slow."""


KILL_SECONDS = 10.0
"""For a process to be gone that was killed: one in a call into a driver that hangs cannot be ended, and is not waited for."""


def killed(process: subprocess.Popen[Any]) -> bool:
    """Kills a process; returns whether it is gone within KILL_SECONDS."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)
    return process.poll() is not None


def end_if_it_hangs(minutes: int | None) -> None:
    """Has this process end with exit code 1 once `HANG` times `minutes` have gone by from now; None: never.

    `faulthandler` writes where each thread stood to stderr, and ends the process from a thread of its own: a framework that hangs in
    compiled code is ended, too.
    """
    if minutes:
        faulthandler.dump_traceback_later(HANG * minutes * 60, exit=True)
