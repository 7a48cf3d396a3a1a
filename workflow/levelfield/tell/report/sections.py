"""The page's sections in the reader's order: which charts and tables each one shows, and what it says about them."""

from dataclasses import dataclass, field, replace
from typing import Any

from altair.typing import ChartType

from levelfield.tell.figures import comparisons, data, learning, models, proof, scaling, speed, validation
from levelfield.tell.figures.theme import Look, Panel
from levelfield.tell.results import Results
from levelfield.tell.tables.table import Table

PAGE = Look(page=True)


@dataclass
class Chart:
    """A chart as the page shows it; `spec` is Vega-Lite's."""

    id: str
    title: str
    caption: str
    values: str
    spec: dict[str, Any]
    wide: bool = False
    """Whether it scrolls sideways on a phone rather than shrinks."""


@dataclass
class Section:
    id: str
    title: str
    lead: str
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    switches: bool = False
    """Whether the switches of cases stand here."""
    folded: list[Table] = field(default_factory=list)
    """Tables for who wants to know more: closed at first."""


def charted(identity: str, made: ChartType | None, wide: bool = False) -> list[Chart]:
    if made is None:
        return []
    spec = made.to_dict()
    told = spec.pop("usermeta")
    return [Chart(identity, told["title"], told["caption"].partition("\n")[2], told["values"], spec, wide)]


def _panel(identity: str, title: str, caption: str, made: Panel) -> Chart:
    """A panel of a figure of several: on the page each is a chart of its own, so that they stack on a phone."""
    return charted(identity, PAGE.finish(made.properties(width="container"), title, f"\n{caption}"))[0]


def _panels(identity: str, title: str, caption: str, made: list[Panel], results: Results) -> list[Chart]:
    """One panel, or one a model."""
    if len(made) == 1:
        return [_panel(identity, title, caption, made[0])]
    parts = enumerate(zip(results.by_model, made, strict=True))
    return [_panel(f"{identity}-{place}", f"{title}: {model}", caption, panel) for place, (model, panel) in parts]


def _remarks_first(board: Table, results: Results) -> Table:
    """The leaderboard with its remarks beside the case, where runs did not finish: a phone shows the first columns alone."""
    if len(results.finished) == len(results.runs):
        return board
    shown = board.shown.copy()
    shown.insert(1, "remarks", shown.pop("remarks"))
    return replace(board, shown=shown)


def picture(results: Results) -> list[Chart]:
    """The one picture beside the verdict: the answer to the question that the study can answer."""
    found = charted("verdict-chart", models.models(results, PAGE), wide=True) or [
        replace(one, id="verdict-chart") for one in _worth(results)[:1]
    ]
    return found or charted("verdict-chart", comparisons.ranking(results, PAGE) or speed.throughput(results, PAGE))


def sections(results: Results, tables: dict[str, Table]) -> list[Section]:
    """All sections that this study has something to show in."""

    def chosen(*names: str) -> list[Table]:
        return [tables[name] for name in names if name in tables]

    found = [
        Section(
            "leaderboard", "Leaderboard",
            "One row a case. Press a heading to sort by it. Runs that failed or are missing stand in the table as such.",
            tables=[_remarks_first(tables["leaderboard"], results), *chosen("comparisons")], folded=chosen("unfinished"),
        ),
        Section(
            "tables", "Loss and accuracy by epoch",
            "Means over the seeds, beside what was published of the same model where the data are the same.",
            tables=chosen("training", "validation", "published", "parting"), folded=chosen("parameters"),
        ),
        Section(
            "learning", "Learning",
            "How loss and accuracy moved. Lines are means over the seeds, faint ones single seeds; each next case's line is thinner, "
            "so that those beneath show where they coincide. Point at a line for its values.",
            charts=[
                *_panels("loss", learning.TITLES["loss"], learning.explained(results), learning.panels(results, PAGE, "loss"), results),
                *_panels("accuracy", learning.TITLES["accuracy"], learning.explained(results), learning.panels(results, PAGE, "accuracy"), results),
                *_panels("validation-accuracy", "Validation accuracy", validation.explained(results), validation.panels(results, PAGE, "accuracy"), results),
                *_panels("validation-loss", "Validation loss", validation.explained(results), validation.panels(results, PAGE, "loss"), results),
            ],
            switches=True,
        ),
        Section(
            "time", "Where the time goes",
            "One run from the start of its process to its record. Training speed is judged by the training part alone.",
            charts=charted("time-chart", speed.time(results, PAGE)), tables=chosen("performance", "devices"),
        ),
        Section(
            "speed", "Speed and memory", "Throughput, latency, memory and energy of training. A figure that was not measured is left out.",
            charts=[
                *charted("throughput", speed.throughput(results, PAGE)), *charted("latency", speed.latency(results, PAGE)),
                *charted("memory", speed.memory(results, PAGE)), *charted("energy", speed.energy(results, PAGE)),
            ],
        ),
        Section(
            "models", "Over all models", "How near to the fastest each case stays, whichever model is trained.",
            charts=charted("profile", models.profile(results, PAGE)),
        ),
        Section(
            "scaling", "Growth with size", "Throughput, latency and memory as batches or sequences grow.",
            charts=[
                _panel(f"scaling-{row}-{place}", f"{title} against {words}", "line: mean over seeds; dots: single seeds", panel)
                for row, (words, panels) in enumerate(scaling.panels(results, PAGE).items())
                for place, (title, panel) in enumerate(panels.items())
            ],
        ),
        Section(
            "parity", "Parity",
            "Before anything was timed, each case had to compute the same function, gradient and update as a float64 reference, "
            "from the same start, within these bounds.",
            charts=[
                *charted("parity-chart", proof.parity(results, PAGE), wide=True),
                *charted("exchange-chart", proof.exchange(results, PAGE), wide=True),
            ], folded=chosen("parity", "gradients"),
        ),
        Section(
            "departures", tables["departures"].title.partition(":")[0] if "departures" in tables else "",
            "A departure is one named difference from the protocol. Each is compared with the matched case of the same backend.",
            charts=_worth(results), tables=chosen("departures"),
        ),
        Section(
            "data", "The data", f"{results.data['title']}: what was trained on, before any training.",
            charts=[
                replace(_panel(f"data-{name}", data.TITLES[name], data.EXPLAINED[name], panel), values=data.values(results.data, name))
                for name, panel in data.panels(results.data).items()
            ],
        ),
    ]  # fmt: skip
    return [section for section in found if section.charts or section.tables or section.folded]


def _worth(results: Results) -> list[Chart]:
    made = {measure: comparisons.worth_panel(results, PAGE, measure) for measure in comparisons.WORTH}
    return [
        _panel(
            f"worth-{measure.replace('_', '-')}",
            f"Worth in {comparisons.WORTH[measure][0]}",
            comparisons.WORTH_EXPLAINED,
            panel,
        )
        for measure, panel in made.items()
        if panel is not None
    ]
