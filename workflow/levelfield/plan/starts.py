"""Which initial weights and order of examples a study needs, and which of them a case starts from."""

import json
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from levelfield.models.base import Weight, weights_of
from levelfield.study.config import Study
from levelfield.study.protocol import Protocol, digest

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards


class Starts:
    """The kinds of start of a study: cases whose weights have the same shapes and distributions share one."""

    def __init__(self, study: Study, folder: str):
        self.study, self.folder = study, folder

    @cached_property
    def _kinds(self) -> dict[str, Protocol]:
        """Each kind of start by its name.

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

    @cached_property
    def names(self) -> list[str]:
        return list(self._kinds)

    def json(self, wildcards: "Wildcards") -> str:
        """The protocol of a kind of start."""
        return json.dumps(asdict(self._kinds[wildcards.model]))

    @cached_property
    def _name_of_case(self) -> dict[str, str]:
        return {case.name: self._name_of(case.protocol) for case in self.study.expanded}

    def _name_of(self, protocol: Protocol) -> str:
        mine = weights_of(protocol)
        return next(n for n, p in self._kinds.items() if p.model.name == protocol.model.name and weights_of(p) == mine)

    def file(self, case: str, seed: int) -> str:
        return f"{self.folder}/start/{self._name_of_case[case]}/seed-{seed}.npz"

    def file_for(self, protocol: Protocol, seed: int) -> str:
        """The same for a protocol that has no case: that of a reference trajectory."""
        return f"{self.folder}/start/{self._name_of(protocol)}/seed-{seed}.npz"

    def of_run(self, wildcards: "Wildcards") -> str:
        """The start of a case and a seed."""
        return self.file(wildcards.case, int(wildcards.seed))
