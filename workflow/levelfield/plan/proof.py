"""What parity is measured from: the reference trajectories of a study, their seed, and the file of each case."""

import json
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from levelfield.plan.outcome import failed_by_its_log
from levelfield.plan.starts import Starts
from levelfield.study.config import Study
from levelfield.study.data import SEEDS
from levelfield.study.protocol import Case, Protocol, reference_of

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards


class Proof:
    """Proof before timing, where the study asks for it."""

    def __init__(self, study: Study, folder: str, asked: dict[str, Case], starts: Starts):
        self.study, self.folder, self.asked, self.starts = study, folder, asked, starts
        self.protocols = {case.name: case.protocol for case in study.expanded}

    def _file(self, case: str) -> str:
        return f"{self.folder}/parity/{case}.json"

    def of_case(self, wildcards: "Wildcards") -> list[str]:
        return [self._file(wildcards.case)] if self.study.parity else []

    def each(self) -> list[str]:
        return [self._file(case) for case in self.asked] if self.study.parity else []

    def of_block(self, cases: tuple[str, ...]) -> list[str]:
        """Of all its cases, but those whose proof was tried and is not there: they hold up no other."""
        return [
            self._file(case)
            for case in (cases if self.study.parity else ())
            if Path(self._file(case)).exists() or not failed_by_its_log(Path(f"{self.folder}/logs/parity/{case}.log"))
        ]

    @cached_property
    def seed(self) -> int:
        """The seed of which parity is measured: the study's first, or the one that it was measured of before others were named."""
        for file in sorted(Path(self.folder, "parity").glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged: it is made anew
                seed = json.loads(file.read_text(encoding="utf-8"))["seed"]
                if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < SEEDS:
                    return seed
        return self.study.seeds[0]

    def start(self, wildcards: "Wildcards") -> str:
        """The start of a case's parity."""
        return self.starts.file(wildcards.case, self.seed)

    @cached_property
    def _references(self) -> dict[str, Protocol]:
        return dict(reference_of(protocol) for protocol in self.protocols.values())

    def reference_json(self, wildcards: "Wildcards") -> str:
        return json.dumps(asdict(self._references[f"reference-{wildcards.digest}"]))

    def reference_start(self, wildcards: "Wildcards") -> str:
        return self.starts.file_for(self._references[f"reference-{wildcards.digest}"], self.seed)

    def reference(self, wildcards: "Wildcards") -> str:
        """The trajectory that a case is measured against: that of parity's seed and the case's sizes."""
        return f"{self.folder}/parity/{reference_of(self.protocols[wildcards.case])[0]}.npz"
