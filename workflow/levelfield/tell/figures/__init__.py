"""The figures of a study: which there are, and writing them as SVG and PNG."""

import re
from collections.abc import Callable
from pathlib import Path

from altair.typing import ChartType

from levelfield.records import write_whole
from levelfield.tell.figures import comparisons, data, learning, models, proof, scaling, speed, validation
from levelfield.tell.figures.theme import Look, render
from levelfield.tell.results import Results

Figure = Callable[[Results, Look], ChartType | None]

OBLIGATORY: dict[str, Figure] = {
    "loss": learning.loss,
    "accuracy": learning.accuracy,
    "validation": validation.validation,
    "throughput": speed.throughput,
    "time": speed.time,
    "memory": speed.memory,
}
"""Made for every study, whatever its runs came to."""
OPTIONAL: dict[str, Figure] = {
    "latency": speed.latency,
    "energy": speed.energy,
    "scaling": scaling.scaling,
    "parity": proof.parity,
    "exchange": proof.exchange,
    "ranking": comparisons.ranking,
    "models": models.models,
    "profile": models.profile,
    "departures": comparisons.worth,
    "data": data.data,
}
"""Made where the study has their data; they return None where it has not."""
FORMER: dict[str, Figure] = {"standing": lambda results, look: None}
"""Names that figures had in earlier versions: their files go."""


def write_figures(folder: Path) -> list[Path]:
    """Writes `figures/<name>.svg` and `.png` of the study in `folder`, removes those of figures it no longer has."""
    results, out, written = Results.read(folder), Path(folder) / "figures", []
    for name, figure in (OBLIGATORY | OPTIONAL | FORMER).items():
        chart = figure(results, Look())
        if chart is None:
            for old in out.glob(f"{name}.*"):
                old.unlink()
            continue
        svg, png = render(chart)
        write_whole(out / f"{name}.svg", renumbered(svg).encode())
        write_whole(out / f"{name}.png", png)
        written += [out / f"{name}.svg", out / f"{name}.png"]
    return written


def renumbered(svg: str) -> str:
    """Vega numbers gradients and clips over the life of a process; here each file counts its own, whatever was drawn before."""
    names = dict.fromkeys(re.findall(r"\b(?:gradient_|clip)\d+\b", svg))
    numbers = {name: f"{name.rstrip('0123456789')}{index}" for index, name in enumerate(names)}
    return re.sub(r"\b(?:gradient_|clip)\d+\b", lambda found: numbers[found[0]], svg)
