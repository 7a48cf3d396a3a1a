"""What the Snakefile asks of a study: paths, the slices of settings that each rule uses, the order of runs."""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from levelfield.commit import commit
from levelfield.data.origin import origin_of, own_file, recorded, refuse_another, tracked
from levelfield.errors import UserError
from levelfield.host import HOST_ID, host_id
from levelfield.measure.gpu import visible
from levelfield.measure.locks import ELSEWHERE, HELD
from levelfield.plan import finished, sessions
from levelfield.plan.blocks import Blocks
from levelfield.plan.budget import minutes
from levelfield.plan.exchange import Exchange
from levelfield.plan.future import pulled_back
from levelfield.plan.proof import Proof
from levelfield.plan.starts import Starts
from levelfield.plan.untracked import Untracked
from levelfield.study.config import Study, read_study
from levelfield.study.doubled import refuse_doubled_keys
from levelfield.study.protocol import Case

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards
    from snakemake.rules import Rule
    from snakemake.workflow import Workflow

PACKAGE = Path(__file__).resolve().parents[1]
NEED_THE_DEVICE = ("train", "block", "parity", "evaluate_others")
"""The rules whose jobs run on a GPU where the study has one; of the first two a study runs one."""
USUAL = "config/config.yaml"
"""The config that the Snakefile takes, others before it."""
CATEGORIES = {
    "1 Verdict": ("ranking", "models", "departures", "leaderboard", "unfinished", "comparisons"),
    "2 Learning": ("loss", "accuracy", "validation", "training", "published", "parting"),
    "4 Provenance": ("parity", "gradients", "parameters", "exchange"),
}


def refuse_unnamed(config: dict[str, Any], files: Sequence[Path | str]) -> None:
    """Raises WorkflowError where somebody gives a config of their own that names no study: USUAL comes in beneath it, and under
    the name that stands there it would replace that study's page.

    config: what was given, before USUAL comes in. files: those that `--configfile` names. `--config` alone may change single keys
    of the usual study; with `cases` in it, it is another one.
    """
    if "study" not in config and (files or "cases" in config):
        named = ", ".join(map(str, files)) or "--config"
        raise WorkflowError(
            f"{named}: study: missing, so that it would pass for the study that {USUAL} names, and replace its page: write "
            "`study: <name>`, as its folder in results/ shall be called"
        )


def refuse_torn_paths(*folders: Path) -> None:
    """Raises UserError for a folder that a list of folders (PATH, PYTHONPATH) would tear apart: jobs would run another checkout's code,
    under this one's commit."""
    for folder in folders:
        if os.pathsep in str(folder):
            raise UserError(
                f"{folder}: a {os.pathsep!r} in the path of the checkout or its environment ends a folder in PATH and PYTHONPATH: rename or "
                "move the checkout, and `make setup` there"
            )


class Plan:
    """A study seen from the rules: every string here is a path or a JSON text, as a command line needs it."""

    def __init__(
        self,
        study: Study,
        steps: str = "here",
        replace: str | None = None,
        runs: str = "single",
        workflow: "Workflow | None" = None,
        gpu: str = "asked",
    ):
        self.study, self.steps, self.replace, self.in_blocks = study, steps, replace, runs == "blocks"
        self.workflow, self.asks_for_gpu = workflow, gpu == "asked"
        self.folder = f"results/{study.study}"
        self.downloads = "results/.downloads"
        self.cases: dict[str, Case] = {case.name: case for case in study.expanded}
        # those that the study is not done without: all but those that are accepted as failing
        self.asked = {name: case for name, case in self.cases.items() if name not in study.accepted}
        self.seeds = study.seeds
        self.starts = Starts(study, self.folder)
        self.proof = Proof(study, self.folder, self.asked, self.starts)
        self.blocks = Blocks(study, self.folder, self.asked, self.starts, self.proof)
        self.exchange = Exchange(self.folder, self.cases, self.asked, self.seeds[0], self.blocks if self.in_blocks else None)

    @classmethod
    def read(cls, config: dict[str, Any], files: list[str], workflow: "Workflow | None" = None) -> "Plan":
        """The plan of Snakemake's config, or one line that says what is wrong with it, before anything runs.

        workflow: Snakemake's own.
        From here on `python` in a rule is the one that runs Snakemake, be its environment activated or not.
        """
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        steps, replacing, runs = config.pop("steps", "here"), config.pop("replace", None), config.pop("runs", "single")
        gpu = config.pop("gpu", "asked")
        try:
            refuse_torn_paths(PACKAGE.parent, Path(sys.executable).parent)
            for file in files:
                refuse_doubled_keys(Path(file))
            if gpu not in ("asked", "unasked"):
                raise UserError(
                    f"gpu: found {gpu!r}: `asked` has each job ask the cluster for its cards, `unasked` is for one that gives them by partition or "
                    "whole node, or has none"
                )
            if steps not in ("here", "jobs"):
                raise UserError(
                    f"steps: found {steps!r}: `here` runs the light steps where Snakemake runs, `jobs` on the cluster"
                )
            if runs not in ("single", "blocks"):
                raise UserError(
                    f"runs: found {runs!r}: `single` makes each run a job, `blocks` all cases of a seed and size together"
                )
            if replacing not in (None, "data", "runs"):
                raise UserError(
                    f"replace: found {replacing!r}: `data` replaces a study's data, and with it its starts and runs; `runs` makes finished "
                    "runs anew that are out of date"
                )
            own = [str(file) for file in files if Path(file).resolve() != Path(USUAL).resolve()]
            plan = cls(read_study(config, own[0] if own else f"{USUAL} or --config"), steps, replacing, runs, workflow, gpu)
            if replacing != "data":
                refuse_another(Path(plan.folder), plan.study.data, Path(plan.downloads))
            _ = plan.data_tracked  # a file that is not there is said now
            plan.blocks.forget_untrue()
            if workflow is None or workflow.is_main_process:
                finished.keep_whole(Path(f"{plan.folder}/runs/{case}/seed-{seed}/run.json") for case, seed in plan.study.runs)
            for folder in (plan.folder, "results/.images"):
                pulled_back(Path(folder))  # the clock may have been set back since
            return plan
        except UserError as error:
            raise WorkflowError(str(error)) from None

    @property
    def shell_prefix(self) -> str:
        """Set before every command, inside a container, too: the checkout's code runs, and knows its commit and, where a container has
        no network to tell it by, its host. `told FILE` writes a log and shows it: where it cannot (a full disk, a terminal that is gone),
        the command goes on, and its own end decides."""
        variables = {"PYTHONPATH": str(PACKAGE.parent), "LEVELFIELD_COMMIT": commit() or "", HOST_ID: host_id()}
        # Snakemake formats the prefix: a brace of a path is doubled
        quoted = {name: shlex.quote(value).replace("{", "{{").replace("}", "}}") for name, value in variables.items()}
        exported = "".join(f"export {name}={value}; " for name, value in quoted.items())
        return f"set -euo pipefail; {exported}told() (trap '' PIPE; tee \"$1\" || true); "

    @property
    def study_json(self) -> str:
        return self.study.model_dump_json()

    @property
    def data_files(self) -> list[str]:
        """The own files and folders that the data is made from. They are no inputs of a rule: their content decides, by its
        checksum, and not their place or age."""
        data = self.study.data
        own = [own_file(data)[0], data.validation_file, data.tokenizer]
        return [] if data.kind == "synthetic" else [str(path) for path in own if path]

    @property
    def visible(self) -> list[str]:
        """Paths beyond the working folder that jobs use: containers must see them. `results` may be a link to another disk."""
        locks = [os.environ[ELSEWHERE]] if os.environ.get(ELSEWHERE) else []
        return [str(PACKAGE.parent), *self.data_files, "results", tempfile.gettempdir(), *locks]

    @cached_property
    def data_tracked(self) -> str:
        """What the data depends on. Where it is the same, nothing is made anew."""
        return tracked(self.study.data, origin_of(self.study.data, Path(self.downloads)))

    @property
    def data_json(self) -> Untracked:
        """The config's `data` with its paths, as the command needs it. A study that was made from what stands in for IMDB stays
        with it."""
        told = json.loads(self.study.data.model_dump_json(exclude_none=True))
        made = None if self.replace == "data" else recorded(Path(self.folder))
        if made and made.kind == "snippets" and self.study.data.kind == "imdb":
            told = {key: told[key] for key in ("train", "validation") if key in told} | {"source": "snippets"}
        told |= {"outputs": self.study.outputs}
        return Untracked(json.dumps(told))

    def case_json(self, wildcards: "Wildcards") -> str:
        return json.dumps(asdict(self.cases[wildcards.case]))

    @cached_property
    def _rank(self) -> dict[tuple[str, int], int]:
        return {run: len(self.study.runs) - index for index, run in enumerate(self.study.runs)}

    def priority(self, wildcards: "Wildcards") -> int:
        """Runs go block after block, the cases of a block in an order drawn for it, so that drift and noise favour none."""
        return self._rank[wildcards.case, int(wildcards.seed)]

    def block_priority(self, wildcards: "Wildcards") -> int:
        return self._rank[self.blocks.first_run(wildcards)]

    def minutes(self, wildcards: "Wildcards", attempt: int) -> int:
        """The time that a scheduler grants a run: the next attempt gets as much again."""
        protocol = self.cases[wildcards.case].protocol
        return attempt * minutes(protocol, *self.study.sequences)

    def threads(self, cores: int | None) -> int:
        """Of a run or a block on this machine: all cores, so that one runs at a time; with several GPUs a share of them, so that one
        runs on each. A cluster's profile sets them itself, and has no `cores`."""
        # a block holds its cards already, and its runs follow each other
        cards = 1 if self.study.device == "cpu" or HELD in os.environ else len(visible())
        return max(1, (cores or 1) // max(1, cards))

    @property
    def starts_runs(self) -> bool:
        """Whether this is the Snakemake that a person started: not a job of it, nor the one inside a block."""
        return HELD not in os.environ and (self.workflow is None or self.workflow.is_main_process)

    @cached_property
    def begun(self) -> set[int]:
        """The seeds of the sessions that have begun, or begin with this start of Snakemake; a job of it adds none."""
        folder = Path(self.folder)
        return set(sessions.begun(folder, self.study)[0] if self.starts_runs else sessions.recorded(folder, self.study))

    def submitted_to_the_device(self) -> "list[Rule]":
        """The rules that need the device and have jobs to run."""
        assert self.workflow is not None
        jobs = self.workflow.dag.needrun_jobs()
        found = {job.rule.name: job.rule for job in jobs if job.rule.name in NEED_THE_DEVICE}
        return [found[name] for name in NEED_THE_DEVICE if name in found]

    def before_running(self) -> None:
        """What is refused before the first job: another Snakemake on this study, and to replace what has finished."""
        if self.workflow is None or not self.workflow.is_main_process:
            return
        try:
            if HELD not in os.environ:
                finished.take(self.folder)
            if not self.replace:
                dag = self.workflow.dag
                finished.refuse_to_replace(self.folder, ((job, dag.reason(job)) for job in dag.needrun_jobs()))
        except UserError as error:
            raise WorkflowError(str(error)) from None

    def tell_session(self) -> None:
        """Says which session the study asks for next, and what it waits for."""
        if told := sessions.begun(Path(self.folder), self.study)[1]:
            logger.warning(told)

    def each_run(self, file: str) -> list[str]:
        """The path of `file` in the folder of every run that is asked for, of the sessions that have begun."""
        asked = [(case, seed) for case, seed in self.study.runs if case in self.asked and seed in self.begun]
        return [f"{self.folder}/runs/{case}/seed-{seed}/{file}" for case, seed in asked]

    @property
    def each_finished(self) -> list[str]:
        """What says that the runs have finished: a mark a block where they go in blocks, else their own records."""
        if not self.in_blocks:
            return self.each_run("run.json")
        return self.blocks.marks(self.begun)

    def category(self, wildcards: "Wildcards") -> str:
        """Where a figure or table stands in Snakemake's report, whose categories are sorted by name."""
        return next((title for title, names in CATEGORIES.items() if wildcards.name in names), "3 Speed")

    @cached_property
    def tell_sha256(self) -> str:
        """Hash of the code that tells results: as it changes, tables and figures are made anew, which costs seconds."""
        files = [*sorted((PACKAGE / "tell").rglob("*.*")), PACKAGE / "study/published.py", PACKAGE / "study/asked.py"]
        return sha256(b"".join(f.read_bytes() for f in files if f.is_file() and f.suffix != ".pyc")).hexdigest()
