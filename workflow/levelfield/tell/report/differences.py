"""Why a study's figures differ from those that were published: what the repeated programs do otherwise, read from its cases."""

from dataclasses import dataclass, fields

from levelfield import registry
from levelfield.study import published
from levelfield.study.departures import Departure
from levelfield.study.protocol import Case
from levelfield.study.published import Publication
from levelfield.tell.results import Results
from levelfield.tell.tables.learning import comparable


@dataclass(frozen=True)
class Program:
    """A case that repeats a published program, and all that it does otherwise than the study's protocol asks."""

    case: str
    side: str
    departures: dict[str, Departure]
    settings: dict[str, str]
    """Setting to its own value and the protocol's, `0.0001 instead of 0.001`."""


@dataclass(frozen=True)
class Differences:
    """A publication whose figures stand in this study's tables, and its programs, where the study repeats them."""

    publication: Publication
    programs: list[Program]


def differences(results: Results) -> Differences | None:
    """None where nothing was published of this study's models and data."""
    publication = published.of(results.study.expanded)
    if publication is None or not comparable(results, publication):
        return None
    programs = [
        _program(results, side, case)
        for case in results.study.expanded
        if publication.repeats(case) and (side := publication.side_of(case))
    ]
    return Differences(publication, programs)


def _program(results: Results, side: str, case: Case) -> Program:
    usual = results.study.protocol
    settings = {
        field.name.replace("_", " "): f"{getattr(case.protocol, field.name)} instead of {getattr(usual, field.name)}"
        for field in fields(usual)
        if field.name != "model" and getattr(case.protocol, field.name) != getattr(usual, field.name)
    }
    made = {name: registry.departure(case.protocol.model.name, name) for name in case.departures}
    return Program(case.name, side, made, settings)
