"""What became of jobs, as far as their logs tell it."""

from pathlib import Path


def failure_in(text: str) -> str | None:
    """The last line of a log that tells of a failure; None where there is none, as of a job that was killed or still runs."""
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if "Error" in line or "error" in line or line.startswith("levelfield ")]
    return told[-1] if told else None


def failed_by_its_log(log: Path) -> bool:
    """Whether a job's log tells of a failure."""
    return log.is_file() and failure_in(log.read_text(encoding="utf-8", errors="replace")) is not None
