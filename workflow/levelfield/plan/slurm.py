"""Slurm's queue: what a job is called in it, and whether jobs of an earlier start are still there."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from snakemake.exceptions import WorkflowError

PREFIX = "levelfield_"
"""The jobs' names begin with it (`slurm-jobname-prefix` of the profile); the plugin finds its jobs by the rest, its own number."""
ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Job:
    """A job that waits or runs, as `squeue` tells it."""

    number: str
    user: str
    state: str
    what: str
    folder: Path
    """Where Snakemake submitted it."""

    def __str__(self):
        return f"{self.number} ({self.what}, {self.state.lower()}, of {self.user})"


def jobs() -> list[Job]:
    """This project's other jobs in the queue, of all users. Raises WorkflowError where Slurm does not answer."""
    command = ["squeue", "--noheader", "--format=%j|%i|%u|%T|%Z|%k"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", "") or "").strip() or f"no answer in {ANSWER_SECONDS} s"
        raise WorkflowError(f"Slurm's queue cannot be read, so jobs of an earlier start cannot be ruled out: {told}") from None
    found = []
    for line in done.stdout.splitlines():
        name, number, user, state, folder, what = line.split("|", 5)
        if name.startswith(PREFIX) and number != os.environ.get("SLURM_JOB_ID"):
            found.append(Job(number, user, state, what, Path(folder)))
    return found


def refuse_to_run_twice(study: str) -> None:
    """Raises WorkflowError while the queue has jobs that write where this study's would, be it from another checkout.

    A killed Snakemake leaves its jobs running, and another person's may feed them: the same run submitted once more would
    write into the same folder. study: folder of the study, whose parent may be a link to a shared disk.
    """
    results = Path(study).parent
    before = [job for job in jobs() if (job.folder / results).resolve() == results.resolve()]
    if before:
        shown = ", ".join(map(str, before[:5])) + (f" and {len(before) - 5} more" if len(before) > 5 else "")
        raise WorkflowError(
            f"an earlier start still has {len(before)} jobs in Slurm's queue that write into {results.resolve()}: {shown}. "
            "Nothing was submitted. If a Snakemake still feeds them, leave it at work; if it was killed, wait until they have "
            f"ended, or `scancel {' '.join(job.number for job in before)}`, and start again: what they finish is kept."
        )


def name_this_job() -> None:
    """Inside a Slurm job: tells the queue, in the job's comment, which rule, case and seed it runs.

    The plugin does so itself for single jobs; for the jobs of an array it knows the first one's alone.
    """
    here, asked = os.environ, "--target-jobs"
    job = here.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_JOB_ID" in here:  # the array's last job has the number of the whole
        job = f"{here['SLURM_ARRAY_JOB_ID']}_{here['SLURM_ARRAY_TASK_ID']}"
    if job and asked in sys.argv and shutil.which("scontrol"):
        what = sys.argv[sys.argv.index(asked) + 1]
        subprocess.run(["scontrol", "update", f"JobId={job}", f"Comment={what}"], capture_output=True, timeout=ANSWER_SECONDS)
