"""Slurm's queue: what a job is called in it, whether jobs of an earlier start are still there, and whether a run asks for its GPU."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

if TYPE_CHECKING:
    from snakemake.rules import Rule

PREFIX = "levelfield_"
"""The jobs' names begin with it (`slurm-jobname-prefix` of the profile); the plugin finds its jobs by the rest, its own number."""
ANSWER_SECONDS, COMMENT_SECONDS = 30, 10
GPU = ("gpu", "gres", "slurm_extra", "tres_per_task")
"""Resources of Snakemake's Slurm plugin that may ask for a GPU."""
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


def before_submitting(executor: str, settings: Any, study: str, device: str, rule: "Rule", devices: int = 1) -> None:
    """All that is refused before anything is submitted. executor: Snakemake's, of which Slurm's alone is known here.

    settings: the executor's. study: folder of the study. device: as in its config. rule: Snakemake's, that times runs:
    `train` or `block`. devices: the most that one of its runs trains on. Raises WorkflowError.
    """
    if executor == "slurm":
        refuse_arrays(settings.array_jobs)
        resources = {name: resource.raw for name, resource in rule.resources.items()}
        refuse_without_gpu(device, resources, sys.argv, rule.name)
        refuse_too_few_gpus(device, devices, resources, rule.name)
        refuse_to_run_twice(study)
    else:
        logger.warning(
            f"The executor {executor!r} is not asked for jobs of an earlier start: see to it that none of them is left "
            "before you start this study again."
        )


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


def asks_for_gpu(resources: Mapping[str, Any]) -> bool:
    """Whether a rule's resources ask Slurm for a GPU in one of the ways that its plugin knows."""
    told = {name: resources.get(name) for name in GPU}
    counted = told["gpu"] not in (None, "", 0, "0")
    return counted or any("gpu" in str(told[name] or "") for name in ("gres", "slurm_extra", "tres_per_task"))


def refuse_without_gpu(device: str, resources: Mapping[str, Any], arguments: list[str], rule: str = "train") -> None:
    """Raises WorkflowError where runs that are to be timed on a GPU would be submitted without one.

    resources: those of the rule, as they stand in the end. A `--set-resources train:…` of the command line replaces all
    that the profile sets for the rule, its GPU too. arguments: the command line, whose profile tells with `device: auto` what
    was meant; `device: cpu` needs none.
    """
    if device == "cpu" or asks_for_gpu(resources):
        return
    profile = _profile(arguments)
    meant = (profile.get("set-resources") or {}).get(rule) or {}
    if device == "cuda" or asks_for_gpu({**(profile.get("default-resources") or {}), **meant}):
        whole = ", ".join(f"{name}: {value}" for name, value in meant.items()) or "gpu: 1"
        raise WorkflowError(
            "the runs would be submitted without a GPU, and nothing was submitted: "
            + ("the study says `device: cuda`" if device == "cuda" else "the profile asks for one")
            + f", but the resources of the rule `{rule}` hold none. `--set-resources` on the command line replaces all that the "
            f"profile sets for a rule: change the profile instead, or repeat all of it ({whole}); `device: cpu` in the study runs "
            "without a GPU"
        )


def gpus_asked(resources: Mapping[str, Any]) -> int | None:
    """How many GPUs a rule's resources ask Slurm for; None where that is not a plain number."""
    if str(resources.get("gpu") or "").isdigit():
        return int(resources["gpu"])
    told = " ".join(str(resources.get(name) or "") for name in GPU[1:])
    found = re.search(r"gpus?(?:-per-\w+)?(?:[:=][a-zA-Z][\w.-]*)?[:=](\d+)", told)
    return int(found[1]) if found else None


def refuse_too_few_gpus(device: str, devices: int, resources: Mapping[str, Any], rule: str = "train") -> None:
    """Raises WorkflowError where a run on several GPUs would be submitted with fewer."""
    asked = gpus_asked(resources)
    if device != "cpu" and asked is not None and 0 < asked < devices:
        raise WorkflowError(
            f"the study has runs on {devices} devices, and its runs would be submitted with {asked} GPU{'s' * (asked > 1)} each: "
            f"nothing was submitted. In the profile write `gpu: {devices}` for the rules `{rule}`, `parity` and `evaluate_others`, or, of single runs, an "
            f"expression that asks as many as each case needs: `gpu: \"{devices} if 'devices={devices}' in wildcards.case else 1\"`"
        )


def _profile(arguments: list[str]) -> dict[str, Any]:
    """The content of the profile that the command line, or SNAKEMAKE_PROFILE, names; empty where there is none."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--profile=") else [word])]
    named = words[words.index("--profile") + 1] if "--profile" in words[:-1] else os.environ.get("SNAKEMAKE_PROFILE")
    file = Path(named) / "config.yaml" if named else None
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file and file.is_file() else {}
