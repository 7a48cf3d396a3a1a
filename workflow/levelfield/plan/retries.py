"""Which failed jobs are tried again (`retries` of a profile): those that another attempt may mend, and no others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.logging import logger

from levelfield.plan.finished import whole
from levelfield.plan.outcome import failed_for_good_by

if TYPE_CHECKING:
    from snakemake.jobs import Job


class Retries:
    """Tells of the jobs that need the device whether one has failed for good, by what it left; to be made before the first starts.

    A job that left no reason was ended from outside (preempted, out of time or memory, its node died), and is tried again.
    """

    def __init__(self, folder: str):
        """folder: of the study."""
        self.folder = Path(folder)
        left = [*self.folder.glob("runs/*/seed-*/failure.json"), *self.folder.glob("logs/parity/*.log")]
        left += self.folder.glob("logs/exchange/*.log")
        self.before = {file: _version(file) for file in left}
        """What earlier starts left: a job that dies before it begins leaves it as it was."""

    def attach(self, scheduler: Any) -> None:
        """Has Snakemake's scheduler ask before it tries a job again: 9.27 tries as often as the job's rule says at that moment."""
        handle = scheduler._handle_error

        def handled(job: "Job", *arguments: Any, **options: Any) -> None:
            times = 0 if job.is_group() else job.rule.restart_times
            reason = self.reason(job) if times else None
            if reason is None:
                handle(job, *arguments, **options)
                return
            logger.info(f"Job {job.jobid} ({job.rule.name}) would fail again, and is not tried again: {reason}")
            job.rule.restart_times = 0
            try:
                handle(job, *arguments, **options)
            finally:
                job.rule.restart_times = times

        scheduler._handle_error = handled

    def reason(self, job: "Job") -> str | None:
        """Why a job that failed would fail again; None where another attempt may mend it."""
        if job.rule.name == "train":
            return self._of_run(Path(str(job.output[0])))
        if job.rule.name == "block":
            return self._of_block([Path(str(run)) for run in job.params.runs])
        if job.rule.name in ("parity", "evaluate_others"):
            log = Path(str(job.log[0]))
            return failed_for_good_by(log) if self._is_new(log) else None
        return None

    def _of_run(self, record: Path) -> str | None:
        failure = record.with_name("failure.json")
        try:
            told = json.loads(failure.read_text(encoding="utf-8"))
            return str(told["error"]) if told.get("for_good") and self._is_new(failure) else None
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def _of_block(self, records: list[Path]) -> str | None:
        """Of a block all of whose missing runs failed for good, were it that their parity could not be measured."""
        missing = [record for record in records if not whole(record.parent) or record.with_name("failure.json").exists()]
        reasons = [self._of_run(record) or self._unproven(record.parent.parent.name) for record in missing]
        told = [f"{record.parent.parent.name}: {reason}" for record, reason in zip(missing, reasons, strict=True) if reason]
        return "; ".join(told) if missing and len(told) == len(missing) else None

    def _unproven(self, case: str) -> str | None:
        proven = (self.folder / "parity" / f"{case}.json").exists()
        log = self.folder / "logs" / "parity" / f"{case}.log"
        return failed_for_good_by(log) if not proven and self._is_new(log) else None

    def _is_new(self, file: Path) -> bool:
        return self.before.get(file) != _version(file)


def _version(file: Path) -> tuple[int, int] | None:
    """Another one whenever the file was written; None where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
