"""What became of jobs, as far as their files tell it while others are planned."""

from pathlib import Path


def failed_by_its_log(log: Path) -> bool:
    """Whether a job's log tells of a failure; a log that breaks off, of a job that was killed or is still running, tells of none."""
    if not log.is_file():
        return False
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any("Error" in line or "error" in line or line.startswith("levelfield ") for line in lines)
