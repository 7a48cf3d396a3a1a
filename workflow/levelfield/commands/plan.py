"""Tell what a study would ask of a Slurm cluster (jobs, GPU hours, queue) and what it could show. Submits nothing."""

import json
import shutil
import subprocess
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from levelfield.errors import UserError
from levelfield.plan import sessions
from levelfield.plan.budget import minutes
from levelfield.study.config import Study, read_study
from levelfield.study.doubled import parsed
from levelfield.study.protocol import Case
from levelfield.tell.results import Results
from levelfield.tell.tables.families import foreseen

ANSWER_SECONDS = 30


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", default=Path("config/article.yaml"), metavar="config/<study>.yaml")
    parser.add_argument(
        "--profile", type=Path, default=Path("workflow/profiles/slurm"), metavar="DIR", help="the cluster's profile"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="results/<study>",
        help="earlier results, whose spread tells what this study could show (default: its own, else the committed ones)",
    )


def run(args: Namespace) -> None:
    study = read_study(read_config(args.config), str(args.config))
    profile = read_config(args.profile / "config.yaml")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    folder = Path("results") / study.study
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("case", "runs to do", "finished", "parity to do", "granted, min", "took, min"):
        name = heading == "case"
        grid.add_column(heading, justify="left" if name else "right", no_wrap=name, min_width=max(map(len, heading.split())))
    jobs, granted, expected, unknown = 0, 0.0, 0.0, 0
    in_blocks = _pairs(profile.get("config")).get("runs") == "blocks"
    cases = [case for case in study.expanded if case.name not in study.accepted]
    for case in cases:
        finished = _took(folder, case, study.seeds)
        took = [seconds for seconds in finished if seconds is not None]
        runs = len(study.seeds) - len(finished)
        proofs = int(study.parity and not (folder / "parity" / f"{case.name}.json").exists())
        limit = minutes(case.protocol, *study.sequences)
        grid.add_row(
            case.name, str(runs), str(len(finished)), str(proofs), str(limit), f"{median(took) / 60:.1f}" if took else ""
        )
        jobs += proofs if in_blocks else runs + proofs
        granted += (runs + proofs) * limit / 60
        expected += runs * median(took) / 3600 if took else 0
        unknown += runs if not took else 0
    accepted = f", and {len(study.accepted)} accepted as failing" if study.accepted else ""
    console.print(
        f"study {study.study}: {len(cases)} {'case' if len(cases) == 1 else 'cases'}, {len(cases) * len(study.seeds)} runs{accepted}"
    )
    console.print(grid)
    if study.sessions > 1:
        console.print("\n".join(sessions.told(folder, study)))
    if in_blocks:
        jobs += sum(map(len, sessions.missing_blocks(folder, study)))
    asked = _asked(profile)
    console.print(f"{jobs} jobs, each with {asked}; at most {profile.get('jobs', 'all')} in the queue at once")
    console.print(f"at most {granted:.1f} hours of a GPU, if every job took all it is granted")
    if expected:
        console.print(
            f"{expected:.1f} hours by the finished runs of the same cases" + (f", {unknown} runs unknown" if unknown else "")
        )
    for line in _could_show(study, args.results):
        console.print(line)
    console.print("what exactly would run: snakemake -n --profile " + str(args.profile))
    console.print(_queue(profile))


def read_config(file: Path) -> dict[str, Any]:
    """The content of a YAML file of keys; raises UserError that names the file for anything else, or where a key stands twice."""
    try:
        found = parsed(file, file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} is not there: run this in the checkout, or name the file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: found {type(found).__name__}, where keys with values are expected: see config/README.md")
    return found


def _took(folder: Path, case: Case, seeds: list[int]) -> list[float | None]:
    """Seconds that each finished run of the case took, container start apart; None of a machine that cannot tell."""
    files, found = [folder / "runs" / case.name / f"seed-{seed}" / "run.json" for seed in seeds], []
    for file in files:
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):  # not there yet, or damaged
            seconds = json.loads(file.read_text(encoding="utf-8"))["times"]["process_seconds"]
            if seconds is None or (isfinite(seconds) and seconds >= 0):  # of text: TypeError
                found.append(None if seconds is None else float(seconds))
    return found


def _could_show(study: Study, named: Path | None) -> list[str]:
    """What the study's blocks could show, by the spread of earlier results of such a study."""
    own = Path("results") / study.study
    places = [named] if named else [own, *sorted(Path("results/reference").glob(f"*/{study.study}"))]
    found = next((place for place in places if named or (place / "runs.parquet").is_file()), None)
    if found is None:
        return ["what it could show: unknown before a first result; --results names one of such a study"]
    return foreseen(Results.read(found), study) or [f"what it could show: {found} has too few clean pairs to tell"]


def _pairs(told: Any) -> dict[str, Any]:
    """Keys with values in either form that a profile may have: YAML's, or `key=value` as on the command line; empty where there
    is nothing, and where it is neither."""
    if isinstance(told, dict):
        return {str(key): value for key, value in told.items()}
    words = told if isinstance(told, list) else told.split() if isinstance(told, str) else []
    return {key: value for key, _, value in (str(word).partition("=") for word in words)}


def _of_train(told: Any) -> dict[str, Any]:
    """What `set-resources` says of the rule `train`: under its name, or in words `train:key=value`."""
    found = _pairs(told)
    words = {name.removeprefix("train:"): value for name, value in found.items() if name.startswith("train:")}
    return words | _pairs(found.get("train"))


def _resources(profile: dict[str, Any]) -> dict[str, Any]:
    return _pairs(profile.get("default-resources")) | _of_train(profile.get("set-resources"))


def _asked(profile: dict[str, Any]) -> str:
    resources = _resources(profile)
    gpu = resources.get("gres") or " ".join(
        str(part) for part in (resources.get("gpu", 0), resources.get("gpu_model", "GPU")) if part
    )
    threads = _pairs(profile.get("set-threads")).get("train") or 1
    parts = [gpu, f"{threads} threads", f"{resources.get('mem_mb', 'default')} MB"]
    if "runtime" in resources:
        parts.append(f"{resources['runtime']} min by the profile")
    return ", ".join(parts)


def _queue(profile: dict[str, Any]) -> str:
    """The partition that the runs would wait in, as Slurm tells it now."""
    named = _resources(profile).get("slurm_partition")
    partition = None if named is None else str(named)
    if not shutil.which("sinfo"):
        return f"queue: {partition or 'Slurm’s default partition'}; no Slurm on this machine to ask"
    chosen = [f"--partition={partition}"] if partition else []
    nodes = [line.split("|") for line in _asked_of_slurm("sinfo", "--format=%P|%D|%T|%l|%G", *chosen) if line.count("|") == 4]
    partition = partition or next((name.rstrip("*") for name, *_ in nodes if "*" in name), None)
    wanted = (partition or "").split(",")  # Slurm takes the first of several that is free
    found = {name.rstrip("*") for name, *_ in nodes}
    if unknown := [name for name in wanted if name not in found]:
        raise UserError(f"Slurm has no partition {unknown[0]!r}; `sinfo` lists them, the profile's `slurm_partition` names one")
    told = []
    for name in wanted:
        lines = [line for line in nodes if line[0].rstrip("*") == name]
        states = ", ".join(f"{count} {state} ({gres})" for _, count, state, _, gres in lines)
        told.append(f"partition {name}, limit {lines[0][3]}; nodes: {states}")
    jobs = _asked_of_slurm("squeue", "--format=%T", f"--partition={partition}")
    return f"queue: {'; '.join(told)}; jobs: {jobs.count('RUNNING')} running, {jobs.count('PENDING')} waiting"


def _asked_of_slurm(*command: str) -> list[str]:
    shown = " ".join(command)
    try:
        done = subprocess.run(
            [command[0], "--noheader", *command[1:]],
            capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=ANSWER_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(f"`{shown}` gave no answer in {ANSWER_SECONDS} s: try again when the controller is less busy") from None
    except OSError as error:
        raise UserError(f"`{shown}` cannot be run: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
        raise UserError(f"no Slurm answered `{command[0]}`: {said.removeprefix(f'{command[0]}: ')}")
    return done.stdout.splitlines()
