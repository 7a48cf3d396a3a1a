"""What became of jobs, as far as their logs tell it."""

import re
from pathlib import Path

from levelfield.errors import ELSEWHERE

OWN_REASON = re.compile(r"levelfield [a-z-]+: ")
"""How the line begins in which a command says why it ended: a `UserError`'s. What a framework says of a device is another node's luck."""
AGAIN = ("then run the same again", ELSEWHERE)
"""How that line ends where the disk or the machine is at fault, which another attempt may find mended."""


def failure_in(text: str) -> str | None:
    """The last line of a log that tells of a failure; None where there is none, as of a job that was killed or still runs."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if "Error" in line or "error" in line or line.startswith("levelfield ")]
    return told[-1] if told else None


def failed_by_its_log(log: Path) -> bool:
    """Whether a job's log tells of a failure."""
    return log.is_file() and failure_in(log.read_text(encoding="utf-8", errors="replace")) is not None


def failed_for_good_by(log: Path) -> str | None:
    """The reason of its own with which a command ended, by its log: another attempt would end the same. None where it left none."""
    if not log.is_file():
        return None
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    told = [line for line in lines if OWN_REASON.match(line) and not line.endswith(AGAIN)]
    return told[-1] if told else None
