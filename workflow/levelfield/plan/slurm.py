"""Slurm's queue: what a job is called in it, whether jobs of an earlier start are still there, and whether a run asks for its GPU."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

if TYPE_CHECKING:
    from snakemake.rules import Rule

PREFIX = "levelfield_"
"""The jobs' names begin with it (`slurm-jobname-prefix` of the profile); the plugin finds its jobs by the rest, its own number."""
ANSWER_SECONDS, COMMENT_SECONDS = 30, 10
GPU = ("gpu", "gpu_model", "gres", "tres_per_task", "slurm_extra", "constraint")
"""Resources of Snakemake's Slurm plugin that tell which GPU is wanted; a constraint alone asks for none."""
GPU_OPTION = re.compile(
    r"(?<![\w-])(?:--gres[= ]\S*\bgpu\b\S*|--tres-per-\w+[= ]\S*\bgpu\b\S*|--gpus(?:-per-\w+)?[= ]\S+|-G[= ]?\S+)"
)
"""An option of `sbatch` that asks for GPUs; a reservation or a partition may be called after them, and asks for none."""
UNREAD = "Slurm's queue cannot be read, so jobs of an earlier start cannot be ruled out"


@dataclass(frozen=True)
class Job:
    """A job that waits or runs, as `squeue` tells it."""

    number: str
    user: str
    state: str
    what: str
    folder: Path
    """Where Snakemake submitted it."""

    def __str__(self) -> str:
        return f"{self.number} ({self.what}, {self.state.lower()}, of {self.user})"


def jobs() -> list[Job]:
    """This project's other jobs in the queue, of all users. Raises WorkflowError where there is no Slurm, or no answer."""
    if not shutil.which("squeue"):
        raise WorkflowError(
            "this machine has no `squeue`, so it submits nothing to Slurm: type this on the cluster's login node, load its module, "
            "or leave out `--profile workflow/profiles/slurm` to run here"
        )
    command = ["squeue", "--noheader", "--format=%j|%i|%u|%T|%Z|%k"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=ANSWER_SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        raise WorkflowError(f"{UNREAD}: no answer in {ANSWER_SECONDS} s; try again when the controller is less busy") from None
    except (OSError, subprocess.CalledProcessError) as error:
        told = " ".join((getattr(error, "stderr", "") or "").split()) or str(error)
        raise WorkflowError(f"{UNREAD}: {told}") from None
    found = []
    for line in done.stdout.splitlines():
        name, number, user, state, folder, what = (line.split("|", 5) + [""] * 5)[:6]
        if name.startswith(PREFIX) and number != os.environ.get("SLURM_JOB_ID"):
            found.append(Job(number, user, state, what, Path(folder)))
    return found


def before_submitting(
    executor: str, settings: Any, study: str, device: str, rules: "Iterable[Rule]", devices: int = 1, asks: bool = True
) -> None:
    """All that is refused before anything is submitted. executor: Snakemake's, of which Slurm's alone is known here.

    settings: the executor's. study: folder of the study. device: as in its config. rules: Snakemake's that are about to be submitted and
    need the device. devices: the most that one of its runs trains on. asks: False on a cluster that gives cards by partition or whole
    nodes, or has none (`gpu=unasked`). Raises WorkflowError.
    """
    if executor == "slurm":
        refuse_arrays(settings.array_jobs)
        refuse_another_prefix(settings.jobname_prefix)
        refuse_odd_paths(sys.executable, str(Path.cwd()))
        resources = {rule.name: {name: resource.raw for name, resource in rule.resources.items()} for rule in rules}
        if asks:
            refuse_without_gpu(device, resources)
            for rule, asked in resources.items():
                refuse_too_few_gpus(device, devices, asked, rule)
        refuse_to_run_twice(study)
    else:
        logger.warning(
            f"The executor {executor!r} is not asked for jobs of an earlier start: see to it that none of them is left "
            "before you start this study again."
        )


def refuse_another_prefix(prefix: str | None) -> None:
    """Raises WorkflowError where the jobs would be called so that the next start does not find them. prefix: of the plugin."""
    if not f"{prefix or ''}_".startswith(PREFIX):
        raise WorkflowError(
            f"the jobs' names would begin with {prefix!r}, and an earlier start's jobs are found by `{PREFIX}`. Nothing was submitted. "
            "Add `--slurm-jobname-prefix levelfield`, or use `--profile workflow/profiles/slurm`, which sets it"
        )


def refuse_odd_paths(python: str, folder: str) -> None:
    """Raises WorkflowError for a path that a job's command does not hold as it is. python: the program. folder: the working one.

    Version 9 of Snakemake's interface for executors writes Python's path into the command without quotes, and all others between
    quotes; version 2.8.0 of the Slurm plugin puts the whole between double ones.
    """
    if re.search(r"""[\s$`"'\\;&|<>()*?\[\]{}!#]""", python):
        odd, why = python, "it has a blank, or another letter that a shell reads as its own"
        way = "use an environment whose path has plain letters and digits alone, or move the checkout, and `make setup` there"
    elif found := re.search(r'[$`"\\]', folder):
        odd, why, way = folder, f"it has a `{found[0]}`", "rename or move the checkout"
    else:
        return
    raise WorkflowError(f"a job of Slurm cannot be told the path {odd}: {why}. Nothing was submitted. Way out: {way}")


def refuse_arrays(rules: str | None) -> None:
    """Raises WorkflowError where jobs would be submitted as an array. rules: those of the plugin's `slurm-array-jobs`.

    In version 2.8.0 each job of an array runs a Snakemake whose goal are the files of the array's first job. One that ends
    before that, and more than `latency-wait` earlier, fails, and its own finished files count as missing.
    """
    if rules:
        raise WorkflowError(
            f"slurm-array-jobs: {rules}: with the Slurm plugin's arrays a run that ends before its array's first one fails, and is "
            "done again. Nothing was submitted. Leave the option out; for few submissions, `--config runs=blocks` makes one job "
            "of all cases of a seed and size"
        )


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
    """Inside a Slurm job: tells the queue, in the job's comment, which rule, case and seed it runs."""
    job, asked = os.environ.get("SLURM_JOB_ID"), "--target-jobs"
    if job and asked in sys.argv and shutil.which("scontrol"):
        what = sys.argv[sys.argv.index(asked) + 1]
        with suppress(OSError, subprocess.TimeoutExpired):  # a busy controller: the queue tells less, and the job goes on
            subprocess.run(
                ["scontrol", "update", f"JobId={job}", f"Comment={what}"], capture_output=True, timeout=COMMENT_SECONDS
            )


def _options(resources: Mapping[str, Any]) -> list[str]:
    """What a rule's resources ask Slurm for GPUs with, but for the plugin's own `gpu` and `gpu_model`."""
    named = [str(resources.get(name) or "") for name in ("gres", "tres_per_task")]
    return [text for text in named if re.search(r"\bgpu\b", text)] + GPU_OPTION.findall(str(resources.get("slurm_extra") or ""))


def asks_for_gpu(resources: Mapping[str, Any]) -> bool:
    """Whether a rule's resources ask Slurm for a GPU in one of the ways that its plugin knows.

    The plugin asks for one GPU where a `gpu_model` stands alone.
    """
    count = resources.get("gpu")
    if count is None or count == "":
        count = int(bool(resources.get("gpu_model")))
    return count not in (0, "0") or bool(_options(resources))


def refuse_without_gpu(device: str, resources: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises WorkflowError where what is to run on a GPU would be submitted without one.

    resources: of each rule that needs the device, as they stand in the end. A `--set-resources` of the command line replaces all
    that a profile sets, of every rule. `device: cpu` needs none; with `auto` a run would use the CPU in silence.
    """
    lacking = [rule for rule, asked in resources.items() if not asks_for_gpu(asked)]
    if device == "cpu" or not lacking:
        return
    told = next((asked for asked in resources.values() if asks_for_gpu(asked)), {})
    whole = ", ".join(f"{name}: {told[name]}" for name in GPU if told.get(name)) or "gpu: 1"
    all_rules = dict.fromkeys([*resources, "parity", "evaluate_others"])
    raise WorkflowError(
        f"the runs would be submitted without a GPU, and nothing was submitted: the study says `device: {device}`, but the resources "
        f"of {_listed(lacking)} hold none. `--set-resources` on the command line replaces all that a profile sets, of every rule: set "
        f"them in the profile, or repeat them for each of {_listed(all_rules)} ({whole}). `device: cpu` in the study runs without a GPU; where the cluster gives cards unasked, by partition or whole node, "
        "or has none, add `--config gpu=unasked`"
    )


def _listed(rules: Iterable[str]) -> str:
    return ", ".join(f"`{rule}`" for rule in rules)


def gpus_asked(resources: Mapping[str, Any]) -> int | None:
    """How many GPUs a rule's resources ask Slurm for; None where that is not a plain number."""
    count = str(resources.get("gpu") or "")
    if count.isdigit() and int(count):
        return int(count)
    if resources.get("gpu_model") and not count:
        return 1
    asked = r"(?:\bgpu[:=]|(?:-G|--gpus(?:-per-\w+)?)[= ]?)['\"]?(\w[\w.:=-]*)"
    found = re.search(asked, " ".join(_options(resources)))
    last = re.split("[:=]", found[1])[-1] if found else ""
    if not last:
        return None
    # a type may begin with a digit (2080ti), and stands for one card where no count follows
    return int(last) if last.isdigit() else 1


def refuse_too_few_gpus(device: str, devices: int, resources: Mapping[str, Any], rule: str = "train") -> None:
    """Raises WorkflowError where a run on several GPUs would be submitted with fewer."""
    asked = gpus_asked(resources)
    if device != "cpu" and asked is not None and 0 < asked < devices:
        raise WorkflowError(
            f"the study has runs on {devices} devices, and its runs would be submitted with {asked} GPU{'s' * (asked > 1)} each: "
            f"nothing was submitted. In the profile write `gpu: {devices}` for the rules `{rule}`, `parity` and `evaluate_others`, or, of single runs, an "
            f"expression that asks as many as each case needs: `gpu: \"{devices} if 'devices={devices}' in wildcards.case else 1\"`"
        )
