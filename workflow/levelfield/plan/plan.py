"""What the Snakefile asks of a study: paths, the slices of settings that each rule uses, the order of runs."""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
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
from levelfield.models.base import Weight, weights_of
from levelfield.plan import finished, sessions
from levelfield.plan.budget import minutes
from levelfield.plan.future import pulled_back
from levelfield.plan.outcome import failed_by_its_log
from levelfield.study.config import Block, Study, read_study
from levelfield.study.protocol import Case, Protocol, digest, reference_of

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards
    from snakemake.rules import Rule
    from snakemake.workflow import Workflow

PACKAGE = Path(__file__).resolve().parents[1]
CATEGORIES = {
    "1 Verdict": ("ranking", "models", "departures", "leaderboard", "unfinished", "comparisons"),
    "2 Learning": ("loss", "accuracy", "validation", "training", "published", "parting"),
    "4 Provenance": ("parity", "gradients", "parameters", "exchange"),
}


class Untracked:
    """A param that Snakemake does not compare with that of the last time: where things lie, not what they are."""

    def __init__(self, text: str):
        self.text = text

    def __str__(self) -> str:
        return self.text


class Plan:
    """A study seen from the rules: every string here is a path or a JSON text, as a command line needs it."""

    def __init__(
        self,
        study: Study,
        steps: str = "here",
        replace: str | None = None,
        runs: str = "single",
        workflow: "Workflow | None" = None,
    ):
        self.study, self.steps, self.replace, self.in_blocks = study, steps, replace, runs == "blocks"
        self.workflow = workflow
        self.folder = f"results/{study.study}"
        self.downloads = "results/.downloads"
        self.cases: dict[str, Case] = {case.name: case for case in study.expanded}
        self.seeds = study.seeds
        self.blocks = {block.file: block for block in self._blocks()}

    @classmethod
    def read(cls, config: dict[str, Any], files: list[str], workflow: "Workflow | None" = None) -> "Plan":
        """The plan of Snakemake's config, or one line that says what is wrong with it, before anything runs.

        workflow: Snakemake's own.
        From here on `python` in a rule is the one that runs Snakemake, be its environment activated or not.
        """
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        steps, replacing, runs = config.pop("steps", "here"), config.pop("replace", None), config.pop("runs", "single")
        try:
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
            own = [str(file) for file in files if Path(file).name != "config.yaml"]
            plan = cls(read_study(config, own[0] if own else "--config"), steps, replacing, runs, workflow)
            if replacing != "data":
                refuse_another(Path(plan.folder), plan.study.data, Path(plan.downloads))
            _ = plan.data_tracked  # a file that is not there is said now
            plan.forget_untrue()
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
        exported = "".join(f"export {name}={shlex.quote(value)}; " for name, value in variables.items())
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
    def data_json(self) -> "Untracked":
        """The config's `data` with its paths, as the command needs it. A study that was made from what stands in for IMDB stays
        with it."""
        told = json.loads(self.study.data.model_dump_json(exclude_none=True))
        made = None if self.replace == "data" else recorded(Path(self.folder))
        if made and made.kind == "snippets" and self.study.data.kind == "imdb":
            told = {key: told[key] for key in ("train", "validation") if key in told} | {"source": "snippets"}
        told |= {"outputs": {case.protocol.model.name: case.protocol.model.outputs for case in self.study.expanded}}
        return Untracked(json.dumps(told))

    @cached_property
    def _starts(self) -> dict[str, Protocol]:
        """Each kind of start by its name: cases whose weights have the same shapes and distributions share one.

        Its protocol has the settings that the initial weights and the order depend on, the rest as by default: batch size is
        none of them, length only where a model's weights depend on it. Named by the model; by a digest, too, where a study has
        it in several sizes.
        """
        found: dict[tuple[str, tuple[tuple[str, Weight], ...]], Protocol] = {}
        for case in self.study.expanded:
            p = case.protocol
            key = (p.model.name, tuple(weights_of(p).items()))
            mine = Protocol(model=p.model, vocabulary=p.vocabulary, length=p.length, epochs=p.epochs)
            if key not in found or found[key].epochs < p.epochs:
                found[key] = replace(found.get(key, mine), epochs=p.epochs)
        names = [name for name, _ in found]
        return {
            name if names.count(name) == 1 else f"{name}-{digest([name, repr(weights)])[:8]}": protocol
            for (name, weights), protocol in found.items()
        }

    def _start_of(self, protocol: Protocol) -> str:
        mine = weights_of(protocol)
        return next(n for n, p in self._starts.items() if p.model.name == protocol.model.name and weights_of(p) == mine)

    @cached_property
    def start_names(self) -> list[str]:
        return list(self._starts)

    def start_json(self, wildcards: "Wildcards") -> str:
        return json.dumps(asdict(self._starts[wildcards.model]))

    def start_of(self, wildcards: "Wildcards") -> str:
        """The start of a case and a seed."""
        return f"{self.folder}/start/{self._start_names[wildcards.case]}/seed-{wildcards.seed}.npz"

    @cached_property
    def _start_names(self) -> dict[str, str]:
        return {name: self._start_of(case.protocol) for name, case in self.cases.items()}

    def case_json(self, wildcards: "Wildcards") -> str:
        return json.dumps(asdict(self.cases[wildcards.case]))

    @cached_property
    def _rank(self) -> dict[tuple[str, int], int]:
        return {run: len(self.study.runs) - index for index, run in enumerate(self.study.runs)}

    def priority(self, wildcards: "Wildcards") -> int:
        """Runs go block after block, the cases of a block in an order drawn for it, so that drift and noise favour none."""
        return self._rank[wildcards.case, int(wildcards.seed)]

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

    def _blocks(self) -> Iterator[Block]:
        """The blocks with the cases that are asked for."""
        for block in self.study.blocks:
            cases = tuple(case for case in block.cases if case in self.asked)
            if cases:
                yield replace(block, cases=cases)

    def block_mark(self, block: Block) -> str:
        """The file that says that all runs of the block have finished."""
        return f"{self.folder}/blocks/{block.file}.done"

    def forget_untrue(self) -> None:
        """Takes away the marks of blocks of which a run is not there any more: it was deleted to be made anew."""
        for block in self.blocks.values():
            mark = Path(self.block_mark(block))
            if mark.exists() and not all(Path(run).exists() for run in self._runs_of(block)):
                mark.unlink(missing_ok=True)

    def _runs_of(self, block: Block) -> list[str]:
        return [f"{self.folder}/runs/{case}/seed-{block.seed}/run.json" for case in block.cases]

    def block_runs(self, wildcards: "Wildcards") -> list[str]:
        """What the runs of a block make, in its order."""
        return self._runs_of(self.blocks[wildcards.block])

    def block_cases(self, wildcards: "Wildcards") -> list[str]:
        return [f"{self.folder}/cases/{case}.json" for case in self.blocks[wildcards.block].cases]

    def block_starts(self, wildcards: "Wildcards") -> list[str]:
        block = self.blocks[wildcards.block]
        names = dict.fromkeys(self._start_names[case] for case in block.cases)
        return [f"{self.folder}/start/{name}/seed-{block.seed}.npz" for name in names]

    def block_parity(self, wildcards: "Wildcards") -> list[str]:
        """Of all its cases, but those whose proof was tried and is not there: they hold up no other."""
        cases = self.blocks[wildcards.block].cases if self.study.parity else ()
        files = {case: f"{self.folder}/parity/{case}.json" for case in cases}
        return [
            file
            for case, file in files.items()
            if Path(file).exists() or not failed_by_its_log(Path(f"{self.folder}/logs/parity/{case}.log"))
        ]

    def block_priority(self, wildcards: "Wildcards") -> int:
        block = self.blocks[wildcards.block]
        return self._rank[block.cases[0], block.seed]

    def inner_arguments(self, wildcards: "Wildcards") -> "Untracked":
        """What the Snakemake inside a block is told as this one was: the Snakefile, what makes a run anew, containers."""
        assert self.workflow is not None
        words, deployment = ["--snakefile", str(self.workflow.main_snakefile)], self.workflow.deployment_settings
        words += ["--rerun-triggers", *sorted(trigger.item_to_choice() for trigger in self.workflow.rerun_triggers)]
        if deployment.deployment_method:
            words += [
                "--software-deployment-method",
                *sorted(method.item_to_choice() for method in deployment.deployment_method),
            ]
            words += [f"--apptainer-args={deployment.apptainer_args}"] if deployment.apptainer_args else []
            words += ["--apptainer-prefix", str(deployment.apptainer_prefix)] if deployment.apptainer_prefix else []
        words += ["--config", f"replace={self.replace}"] if self.replace else []
        return Untracked(shlex.join(words))

    def sha256_of_shell(self, rule: "Rule") -> str:
        """Of the command that a rule runs, so that another rule is made anew with it."""
        return sha256(rule.shellcmd.encode()).hexdigest()

    def block_minutes(self, wildcards: "Wildcards", attempt: int) -> int:
        """The time that a scheduler grants a block: what its runs are granted."""
        protocols = [self.cases[case].protocol for case in self.blocks[wildcards.block].cases]
        return attempt * sum(minutes(protocol, *self.study.sequences) for protocol in protocols)

    def parity_of(self, wildcards: "Wildcards") -> list[str]:
        return [f"{self.folder}/parity/{wildcards.case}.json"] if self.study.parity else []

    @cached_property
    def _references(self) -> dict[str, Protocol]:
        return dict(reference_of(case.protocol) for case in self.study.expanded)

    def reference_json(self, wildcards: "Wildcards") -> str:
        return json.dumps(asdict(self._references[f"reference-{wildcards.digest}"]))

    def reference_of(self, wildcards: "Wildcards") -> str:
        """The trajectory that a case is measured against: that of parity's seed and the case's sizes."""
        return f"{self.folder}/parity/{reference_of(self.cases[wildcards.case].protocol)[0]}.npz"

    @cached_property
    def parity_seed(self) -> int:
        """The seed of which parity is measured: the study's first, or the one that it was measured of before others were named."""
        for file in sorted(Path(self.folder, "parity").glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):  # damaged: it is made anew
                return int(json.loads(file.read_text(encoding="utf-8"))["seed"])
        return self.seeds[0]

    def parity_start(self, wildcards: "Wildcards") -> str:
        """The start of a case's parity."""
        return f"{self.folder}/start/{self._start_names[wildcards.case]}/seed-{self.parity_seed}.npz"

    def reference_start(self, wildcards: "Wildcards") -> str:
        """The same for a reference trajectory."""
        name = self._start_of(self._references[f"reference-{wildcards.digest}"])
        return f"{self.folder}/start/{name}/seed-{self.parity_seed}.npz"

    @property
    def starts_runs(self) -> bool:
        """Whether this is the Snakemake that a person started: not a job of it, nor the one inside a block."""
        return HELD not in os.environ and (self.workflow is None or self.workflow.is_main_process)

    @cached_property
    def begun(self) -> set[int]:
        """The seeds of the sessions that have begun, or begin with this start of Snakemake; a job of it adds none."""
        folder = Path(self.folder)
        return set(sessions.begun(folder, self.study)[0] if self.starts_runs else sessions.recorded(folder, self.study))

    def before_running(self) -> None:
        """What is refused before the first job: another Snakemake on this study, and to replace what has finished."""
        if self.workflow is None or not self.workflow.is_main_process:
            return
        try:
            if HELD not in os.environ:
                finished.hold(self.folder)
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
        return [self.block_mark(block) for block in self.blocks.values() if block.seed in self.begun]

    def category(self, wildcards: "Wildcards") -> str:
        """Where a figure or table stands in Snakemake's report, whose categories are sorted by name."""
        return next((title for title, names in CATEGORIES.items() if wildcards.name in names), "3 Speed")

    @cached_property
    def asked(self) -> dict[str, Case]:
        """The cases that the study is not done without: all but those that are accepted as failing."""
        return {name: case for name, case in self.cases.items() if name not in self.study.accepted}

    def each_parity(self) -> list[str]:
        return [f"{self.folder}/parity/{case}.json" for case in self.asked] if self.study.parity else []

    def exchanged_weights(self, wildcards: "Wildcards") -> list[str]:
        """The first seed's weights of every matched case that computes the same function as this one."""
        mine = _function(self.cases[wildcards.case])
        names = [name for name, case in self.asked.items() if case.matched and _function(case) == mine]
        return [f"{self.folder}/runs/{name}/seed-{self.seeds[0]}/weights.npz" for name in names]

    def exchanged_inputs(self, wildcards: "Wildcards") -> list[str]:
        """The same as a rule's input: where runs go in blocks, no rule makes weights by themselves."""
        weights = self.exchanged_weights(wildcards)
        if not self.in_blocks:
            return weights
        for file in map(Path, weights):
            if file.with_name("run.json").exists() and not file.exists():
                raise WorkflowError(
                    f"{file} is not there, though its run has finished: delete {file.parent} to have it made anew"
                )
        names = {Path(file).parts[-3] for file in weights}
        blocks = [block for block in self.blocks.values() if block.seed == self.seeds[0] and names.intersection(block.cases)]
        return [self.block_mark(block) for block in blocks]

    @property
    def each_exchange(self) -> list[str]:
        return [f"{self.folder}/exchange/{name}.json" for name, case in self.asked.items() if case.matched]

    @property
    def exchange_if_asked(self) -> list[str]:
        """The matrix of `snakemake exchange`, once that was typed: the page shows it from then on."""
        file = f"{self.folder}/exchange.json"
        return [file] if Path(file).exists() else []

    @cached_property
    def tell_sha256(self) -> str:
        """Hash of the code that tells results: as it changes, tables and figures are made anew, which costs seconds."""
        files = [*sorted((PACKAGE / "tell").rglob("*.*")), PACKAGE / "study/published.py", PACKAGE / "study/asked.py"]
        return sha256(b"".join(f.read_bytes() for f in files if f.is_file() and f.suffix != ".pyc")).hexdigest()


def _function(case: Case) -> Protocol:
    """The part of a protocol that what the model computes of a review depends on; the rest is set to the defaults."""
    shaping = ("model", "vocabulary", "length", "padding", "truncation", "precision")
    return Protocol(**{name: getattr(case.protocol, name) for name in shaping})
