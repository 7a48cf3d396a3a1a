"""A block as one job: all cases of a seed and size in a row on one device (`--config runs=blocks`)."""

import shlex
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from levelfield.plan.budget import minutes
from levelfield.plan.proof import Proof
from levelfield.plan.starts import Starts
from levelfield.plan.untracked import Untracked
from levelfield.study.config import Block, Study
from levelfield.study.protocol import Case

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards
    from snakemake.rules import Rule
    from snakemake.workflow import Workflow


class Blocks:
    """The blocks of a study with the cases that are asked for."""

    def __init__(self, study: Study, folder: str, asked: dict[str, Case], starts: Starts, proof: Proof):
        self.study, self.folder, self.starts, self.proof = study, folder, starts, proof
        asked_of = [replace(block, cases=tuple(case for case in block.cases if case in asked)) for block in study.blocks]
        self.blocks: dict[str, Block] = {block.file: block for block in asked_of if block.cases}
        self.protocols = {case.name: case.protocol for case in study.expanded}

    def mark(self, block: Block) -> str:
        """The file that says that all runs of the block have finished."""
        return f"{self.folder}/blocks/{block.file}.done"

    def marks(self, seeds: set[int]) -> list[str]:
        return [self.mark(block) for block in self.blocks.values() if block.seed in seeds]

    def marks_with(self, cases: set[str], seed: int) -> list[str]:
        """Of the blocks of a seed that hold any of the cases."""
        return [self.mark(block) for block in self.blocks.values() if block.seed == seed and cases.intersection(block.cases)]

    def forget_untrue(self) -> None:
        """Takes away the marks of blocks of which a run is not there any more: it was deleted to be made anew."""
        for block in self.blocks.values():
            mark = Path(self.mark(block))
            if mark.exists() and not all(Path(run).exists() for run in self._runs_of(block)):
                mark.unlink(missing_ok=True)

    def _runs_of(self, block: Block) -> list[str]:
        return [f"{self.folder}/runs/{case}/seed-{block.seed}/run.json" for case in block.cases]

    def runs(self, wildcards: "Wildcards") -> list[str]:
        """What the runs of a block make, in its order."""
        return self._runs_of(self.blocks[wildcards.block])

    def case_files(self, wildcards: "Wildcards") -> list[str]:
        return [f"{self.folder}/cases/{case}.json" for case in self.blocks[wildcards.block].cases]

    def start_files(self, wildcards: "Wildcards") -> list[str]:
        block = self.blocks[wildcards.block]
        return list(dict.fromkeys(self.starts.file(case, block.seed) for case in block.cases))

    def parity_files(self, wildcards: "Wildcards") -> list[str]:
        return self.proof.of_block(self.blocks[wildcards.block].cases)

    def first_run(self, wildcards: "Wildcards") -> tuple[str, int]:
        block = self.blocks[wildcards.block]
        return block.cases[0], block.seed

    def minutes(self, wildcards: "Wildcards", attempt: int) -> int:
        """The time that a scheduler grants a block: what its runs are granted."""
        protocols = [self.protocols[case] for case in self.blocks[wildcards.block].cases]
        return attempt * sum(minutes(protocol, *self.study.sequences) for protocol in protocols)


def sha256_of_shell(rule: "Rule") -> str:
    """Of the command that a rule runs, so that another rule is made anew with it."""
    return sha256(rule.shellcmd.encode()).hexdigest()


def inner_arguments(workflow: "Workflow", replace: str | None) -> Untracked:
    """What the Snakemake inside a block is told as this one was: the Snakefile, what makes a run anew, containers.

    replace: what finished work is to be made anew, as its config says.
    """
    words, deployment = ["--snakefile", str(workflow.main_snakefile)], workflow.deployment_settings
    words += ["--rerun-triggers", *sorted(trigger.item_to_choice() for trigger in workflow.rerun_triggers)]
    if deployment.deployment_method:
        words += ["--software-deployment-method", *sorted(method.item_to_choice() for method in deployment.deployment_method)]
        words += [f"--apptainer-args={deployment.apptainer_args}"] if deployment.apptainer_args else []
        words += ["--apptainer-prefix", str(deployment.apptainer_prefix)] if deployment.apptainer_prefix else []
    words += ["--config", f"replace={replace}"] if replace else []
    return Untracked(shlex.join(words))
