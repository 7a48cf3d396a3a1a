"""How every figure looks: colours, sizes, titles; and how it becomes SVG and PNG, without a browser.

Colours are those of Okabe and Ito (Color Universal Design, 2008), told apart by readers of all kinds of colour vision.
Its black is left out, since it vanishes on a dark page, and its yellow, since it vanishes on a white one; a grey is added.
"""

import json
import math
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import altair as alt
import vl_convert
from altair.typing import ChartType

from levelfield.tell.results import Results

# Altair refuses more than 5,000 rows of a chart. Here a chart has a few rows a case and at most one a run, `curves.POINTS` of
# curves, squares for `proof.MOST` cases: files stay small
alt.data_transformers.disable_max_rows()

CASE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A8F98")
DASHES = ([1, 0], [6, 3], [2, 2], [10, 3, 2, 3], [12, 4])
"""With more cases than colours, the colours come again with the next dash."""
PART_COLOURS = ("#BBBBBB", "#999933", "#88CCEE", "#44AA99", "#DDCC77", "#DDDDDD")
"""For parts of one bar, which are no cases: from Tol's muted scheme, so that no part looks like a case."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first is inside vl-convert: text is laid out alike on every machine."""
WIDTH = 640
"""Of the plot itself: about 800 px with axis and labels, the width of a README."""
LONGEST = 40
"""Characters of a name in a chart: of a longer one the middle is left out, since names of one study end unlike each other."""
LINE = 130
"""Characters of a line beneath a title."""
ROW = 26
"""Height of a bar's row."""
HIDDEN = "hidden"
"""The charts' parameter that names the cases which a reader switched off; empty in a file."""
SHOWN = f"indexof({HIDDEN}, datum.case) < 0"
"""Vega's expression for a row of a case that is switched on."""
Panel = alt.LayerChart | alt.FacetChart
"""What `alt.layer` gives: a whole figure, or a panel of one that has several."""


@dataclass(frozen=True)
class Palette:
    """Colours of what is not data."""

    text: str
    faint: str
    grid: str
    background: str


FILE = Palette(text="#1b1f24", faint="#57606a", grid="#e4e7eb", background="#ffffff")
PAGE = Palette(text="var(--text)", faint="var(--faint)", grid="var(--grid)", background="transparent")
"""The page's own colours: its style sheet sets them, so that charts follow its theme, and paper's, without being drawn anew."""


def config(palette: Palette) -> dict[str, Any]:
    """Vega-Lite's configuration; text of 12 px and more."""
    return {
        "background": palette.background,
        "font": FONT,
        "view": {"stroke": None},
        "title": {
            "anchor": "start", "color": palette.text, "fontSize": 16, "fontWeight": 600, "offset": 12,
            "subtitleColor": palette.faint, "subtitleFontSize": 12.5, "subtitlePadding": 5,
        },
        "axis": {
            "labelColor": palette.faint, "titleColor": palette.text, "gridColor": palette.grid, "domainColor": palette.grid,
            "tickColor": palette.grid, "labelFontSize": 12, "titleFontSize": 12.5, "titleFontWeight": 400, "labelLimit": 260,
        },
        "legend": {
            "labelColor": palette.text, "titleColor": palette.faint, "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": 400, "orient": "top", "columns": 4, "labelLimit": 300, "symbolStrokeWidth": 2.5, "symbolSize": 140,
            "symbolOpacity": 1, "symbolBaseFillColor": palette.text, "symbolBaseStrokeColor": palette.text,
            "symbolLimit": 1000,  # Vega's own is 30: further cases would have no entry
        },
        "header": {"labelColor": palette.text, "titleColor": palette.text, "labelFontSize": 12.5},
        "text": {"color": palette.text, "fontSize": 12},
        "rule": {"color": palette.faint},
        "point": {"color": palette.text},
    }  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Where a chart will be seen: in a file, or on the page, which has a legend, a width and a title of its own."""

    page: bool = False

    @property
    def width(self) -> int | str:
        return "container" if self.page else WIDTH

    def legend(self, **options: Any) -> alt.Legend | None:
        """The legend of the cases; on the page the switches are the legend."""
        return None if self.page else alt.Legend(title=None, **options)

    def finish(self, chart: ChartType, title: str, subtitle: str, values: str = "") -> ChartType:
        """Adds the title and the parameter that switches cases off; the page writes titles itself, from `usermeta`.

        `values`: the figures in words, for readers who do not see the chart.
        """
        chart = chart.add_params(alt.param(name=HIDDEN, value=[]))
        if self.page:
            fit = alt.AutoSizeParams(type="fit-x", contains="padding")
            return chart.properties(autosize=fit, usermeta={"title": title, "caption": subtitle, "values": values})
        lines = [line for part in subtitle.split("\n") for line in wrap(part, LINE)]
        return chart.properties(title=alt.TitleParams(title, subtitle=lines), padding=14)


def case_scale(cases: list[str], dashes: bool = False, variants: int = 1) -> alt.Scale:
    """Each case's colour, or with `dashes` its dash: by its place in the study, the same in every chart.

    `variants`: how many sizes each case of a study that varies one is taken in; they have one colour and differ in dash.
    """
    number, places = len(CASE_COLOURS), range(len(cases))
    if not dashes:
        return alt.Scale(domain=cases, range=[CASE_COLOURS[(place // variants) % number] for place in places])
    turns = (place % variants if variants > 1 else place // number for place in places)
    return alt.Scale(domain=cases, range=[DASHES[turn % len(DASHES)] for turn in turns])


def scale(results: Results, dashes: bool = False) -> alt.Scale:
    """`case_scale` of a study's cases; with several models a case looks the same with each of them."""
    if not results.several_models:
        return case_scale(results.cases, dashes, results.variants)
    lines = line_scale(results, dashes)
    looks = dict(zip(lines.domain, lines.range, strict=True))
    return alt.Scale(domain=results.cases, range=[looks[results.lines[case]] for case in results.cases])


def line_scale(results: Results, dashes: bool = False) -> alt.Scale:
    """The same for `results.lines`."""
    lines = list(dict.fromkeys(results.lines.values()))
    return case_scale(lines, dashes, 1 if results.several_models else results.variants)


def render(chart: ChartType) -> tuple[str, bytes]:
    """The chart as SVG text and as PNG bytes at twice the size; equal charts give equal bytes."""
    spec = {**with_short_names(chart.to_dict()), "config": config(FILE) | {"aria": False}}
    svg = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite_version())
    return svg, vl_convert.svg_to_png(svg, scale=2)


def shortened(names: list[str]) -> dict[str, str]:
    """Each name longer than `LONGEST` without its middle, no two alike: `keras-tensorflow+…+length=100`."""
    found: dict[str, str] = {}
    for name in names:
        if len(name) > LONGEST:
            half, number, tail = LONGEST // 2, 1, ""
            while (short := f"{name[: half - 1]}…{name[-(half - len(tail)) :]}{tail}") in found.values():
                number += 1
                tail = f" ({number})"
            found[name] = short
    return found


def with_short_names(spec: dict[str, Any]) -> dict[str, Any]:
    """A Vega-Lite specification whose axes and legends of names show long ones shortened."""
    rows = (row for data in spec.get("datasets", {}).values() for row in data)
    names = shortened(sorted({value for row in rows for value in row.values() if isinstance(value, str)}))
    if not names:
        return spec
    relabelled: dict[str, Any] = _relabelled(spec, f"({json.dumps(names)})[datum.label] || datum.label")
    return relabelled


def _relabelled(part: Any, expression: str) -> Any:
    if isinstance(part, list):
        return [_relabelled(one, expression) for one in part]
    if not isinstance(part, dict):
        return part
    made = {name: value if name == "datasets" else _relabelled(value, expression) for name, value in part.items()}
    for channel, guide in (
        ("x", "axis"),
        ("y", "axis"),
        *((channel, "legend") for channel in ("color", "strokeDash", "shape")),
    ):
        encoded = (made.get("encoding") or {}).get(channel)
        if isinstance(encoded, dict) and encoded.get("type") == "nominal" and encoded.get(guide, {}) is not None:
            encoded[guide] = {"labelExpr": expression} | encoded.get(guide, {})
    return made


def room(largest: float) -> list[float]:
    """The ends of an axis from 0 with room for a label beyond its largest value; 0 to 1 where there is none that is finite."""
    return [0, 1.15 * largest] if math.isfinite(largest) and largest > 0 else [0, 1]


def vega_lite_version() -> str:
    """The version that Altair writes for, as vl-convert names it: `6.1`."""
    return alt.SCHEMA_VERSION.lstrip("v").rpartition(".")[0]
