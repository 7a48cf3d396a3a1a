"""The containers that a study's rules run in: what the Snakefile asks. Only `--sdm apptainer` puts rules into containers."""

import os
import re
import shlex
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

from levelfield import registry
from levelfield.errors import UserError
from levelfield.images import images
from levelfield.study.config import Study

if TYPE_CHECKING:
    from snakemake.iocontainers import Wildcards

ANALYSIS = "analysis"


class Containers:
    """Answers in the forms that directives take: paths for `container:`, lists for `input:`, a command line's end for the rest.

    Where Snakemake was not given `--sdm apptainer`, `container:` is None and the inputs are empty.
    """

    def __init__(self, study: Study, deployment: Iterable[DeploymentMethod], visible: list[str]):
        """visible: paths that jobs use, wherever they are. Raises WorkflowError where the container runtime is missing, or an
        image that the config names."""
        self.study, self.used = study, DeploymentMethod.APPTAINER in deployment
        if self.used:
            try:
                bind(images.runtime(), visible)
            except UserError as error:
                raise WorkflowError(str(error)) from None
            self.files()  # what is wrong with them is said before anything runs

    @cached_property
    def all(self) -> dict[str, images.Image]:
        """The study's images by name; of a case that is accepted as failing none is needed."""
        asked = [case for case in self.study.expanded if case.name not in self.study.accepted]
        names = dict.fromkeys([*(registry.backend(case.backend).image for case in asked), ANALYSIS])
        return {name: self._image(name) for name in names}

    def _image(self, name: str) -> images.Image:
        settings = self.study.images
        own = settings.ready.get(name)
        try:
            return images.ready(name, own) if own else images.built(name, settings.kind, settings.base)
        except UserError as error:
            raise WorkflowError(str(error)) from None

    def _of(self, wildcards: "Wildcards") -> images.Image:
        backend = next(case.backend for case in self.study.expanded if case.name == wildcards.case)
        return self.all[registry.backend(backend).image]

    def of_case(self, wildcards: "Wildcards") -> str | None:
        """`container:` of a rule with the wildcard `case`."""
        return self._of(wildcards).file if self.used else None

    def inputs_of_case(self, wildcards: "Wildcards") -> list[str]:
        """`input:` of the same rule: its image must be there, and a new one means a new run."""
        return [self._of(wildcards).file] if self.used else []

    def inputs_of_block(self, wildcards: "Wildcards") -> list[str]:
        """The same of a rule with the wildcard `block`: the images of all its cases."""
        if not self.used:
            return []
        block = next(block for block in self.study.blocks if block.file == wildcards.block)
        cases = [case for case in block.cases if case not in self.study.accepted]
        backends = {case.name: case.backend for case in self.study.expanded}
        return list(dict.fromkeys(self.all[registry.backend(backends[case]).image].file for case in cases))

    def analysis(self, wildcards: "Wildcards | None" = None) -> str | None:
        """`container:` of a rule that needs no framework."""
        return self.all[ANALYSIS].file if self.used else None

    def none(self, wildcards: "Wildcards") -> None:
        """`container:` of the rule that makes them."""

    @property
    def analysis_inputs(self) -> list[str]:
        return [self.all[ANALYSIS].file] if self.used else []

    @property
    def analysis_call(self) -> str:
        """What goes before a command that is not a rule's, to run it where the rules run that need no framework."""
        if not self.used:
            return ""
        return f'{images.runtime()} exec --home "$PWD" {self.analysis()} env PYTHONPATH="$PYTHONPATH"'

    def files(self, wildcards: "Wildcards | None" = None) -> list[str]:
        """All images of the study, whether rules run in them or not."""
        return [image.file for image in self.all.values()]

    def arguments(self, wildcards: "Wildcards") -> str:
        """What `levelfield images build` is told to make the image of the wildcards `name`, `kind` and `hash`."""
        image = self.all[wildcards.name]
        if image.kind == "ready":
            assert image.source is not None
            return shlex.join([image.name, "--ready", image.source])
        return shlex.join([image.name, "--kind", image.kind, *(["--base", image.source] if image.source else [])])


def bind(runtime: str, paths: list[str]) -> None:
    """Lets containers see `paths` at their own places; of itself, Snakemake shows a job its working folder alone.

    A path behind a symbolic link is there under both names: commands use the one that was typed. What a site's module binds
    stays: Apptainer reads SINGULARITY_BIND only where its own variable is not set.
    """
    variable = f"{runtime.upper()}_BIND"
    site = [os.environ.get(name, "") for name in dict.fromkeys((variable, "SINGULARITY_BIND"))]
    known = [part for parts in site for part in parts.split(",") if part]
    wanted, here = [], Path.cwd().resolve()
    for path in (Path(path) for path in paths if Path(path).exists()):
        real, named = path.resolve(), Path(os.path.abspath(path))
        wanted += [real] if named == real or named.is_relative_to(here) else [real, named]
    if odd := next((str(path) for path in wanted if re.search(r"[,:^]|\s$", str(path))), None):
        # Apptainer 1.4.5 takes a list apart at each of these, and puts escaped ones together wrongly where more follows
        raise UserError(f"a container cannot be shown {odd!r}: rename it without `,`, `:`, `^` or a blank at its end")
    os.environ[variable] = ",".join(dict.fromkeys(known + [str(path) for path in wanted]))
