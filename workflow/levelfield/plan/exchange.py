"""Whose weights a case evaluates when trained weights are exchanged (`snakemake exchange`)."""

from pathlib import Path
from typing import TYPE_CHECKING

from snakemake.exceptions import WorkflowError

from levelfield.plan.blocks import Blocks
from levelfield.study.protocol import Case, Protocol

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards


class Exchange:
    """The weights of the study's first seed, of matched cases alone.

    blocks: where the runs go in blocks.
    """

    def __init__(self, folder: str, cases: dict[str, Case], asked: dict[str, Case], seed: int, blocks: Blocks | None):
        self.folder, self.cases, self.seed, self.blocks = folder, cases, seed, blocks
        self.matched = {name: case for name, case in asked.items() if case.matched}

    def weights(self, wildcards: "Wildcards") -> list[str]:
        """Of every matched case that computes the same function as this one."""
        mine = _function(self.cases[wildcards.case])
        names = [name for name, case in self.matched.items() if _function(case) == mine]
        return [f"{self.folder}/runs/{name}/seed-{self.seed}/weights.npz" for name in names]

    def inputs(self, wildcards: "Wildcards") -> list[str]:
        """The same as a rule's input: where runs go in blocks, no rule makes weights by themselves."""
        weights = self.weights(wildcards)
        if self.blocks is None:
            return weights
        for file in map(Path, weights):
            if file.with_name("run.json").exists() and not file.exists():
                raise WorkflowError(
                    f"{file} is not there, though its run has finished: delete {file.parent} to have it made anew"
                )
        return self.blocks.marks_with({Path(file).parts[-3] for file in weights}, self.seed)

    @property
    def each(self) -> list[str]:
        return [f"{self.folder}/exchange/{name}.json" for name in self.matched]

    @property
    def if_asked(self) -> list[str]:
        """The matrix, once `snakemake exchange` was typed: the page shows it from then on."""
        file = f"{self.folder}/exchange.json"
        return [file] if Path(file).exists() else []


def _function(case: Case) -> Protocol:
    """The part of a protocol that what the model computes of a review depends on; the rest is set to the defaults."""
    shaping = ("model", "vocabulary", "length", "padding", "truncation", "precision")
    return Protocol(**{name: getattr(case.protocol, name) for name in shaping})
