"""Curves of cases over steps or epochs: a line of means for each case over its seeds, or over their band."""

import altair as alt
import numpy as np
import pandas as pd

from levelfield.tell.figures.theme import LONGEST, SHOWN, Look, Panel, line_scale
from levelfield.tell.results import Results

SEED_LINES = 60
"""Most runs whose own curves are drawn; with more, a band from the lowest seed to the highest stands for them."""
POINTS = 3_000
"""Most points of all curves of a chart together: with more runs or epochs the windows grow. A page has to open."""
UNITS = {"loss": "loss, nats", "accuracy": "accuracy, share of 1"}


def seed_lines(results: Results) -> bool:
    """Whether each run has a curve of its own."""
    return len(results.finished) <= SEED_LINES


def seeds_shown(results: Results) -> str:
    """How a chart shows the seeds, in words."""
    if results.finished["seed"].nunique() < 2:
        return "a single seed"
    return "thick: mean over seeds; " + ("faint: single seeds" if seed_lines(results) else "faint: lowest to highest seed")


def curves(
    seeds: pd.DataFrame, means: pd.DataFrame, results: Results, look: Look, x: alt.X, y: alt.Y, name: str, points: bool = False
) -> Panel:
    """A thick line of means for each case, over faint lines (or dots) of its seeds, or over their band.

    Columns case, seed, x's and `name`; in `means` seeds, `name` with its `…_low` and `…_high` instead of the seed.
    """
    if means.empty:
        return nothing()
    field = "case"
    if results.several_models:  # a panel a model: one legend for all, of cases without their model
        field = "line"
        seeds, means = (rows.assign(line=rows["case"].map(results.lines).astype(str)) for rows in (seeds, means))
    scale, dashes = line_scale(results), line_scale(results, dashes=True)
    drawn = [line for line in scale.domain if line in {results.lines[case] for case in results.finished["case"]}]
    columns = max(1, min(4, 110 // (8 + min(LONGEST, max(map(len, drawn), default=1)))))
    legend = look.legend(values=drawn, symbolType="stroke", columns=columns)
    colour, dash = (
        alt.Color(f"{field}:N", scale=scale, legend=legend),
        alt.StrokeDash(f"{field}:N", scale=dashes, legend=legend),
    )
    mean = alt.Chart(means).transform_filter(SHOWN)
    single = alt.Chart(seeds).transform_filter(SHOWN).encode(x, y, alt.Detail("seed:N"), color=colour)
    width = alt.StrokeWidth(f"{field}:O", scale=alt.Scale(type="ordinal", domain=drawn, range=_widths(len(drawn))), legend=None)
    layers = [mean.mark_line().encode(x, y, color=colour, strokeDash=dash, strokeWidth=width)]
    if means["seeds"].max() == 1:
        if points:
            layers.append(single.mark_point(filled=True, size=30, opacity=1))
    elif not seed_lines(results):
        band = mean.mark_area(opacity=0.2 if len(drawn) <= 6 else 0.06).encode(
            x, alt.Y(f"{name}_low:Q"), alt.Y2(f"{name}_high:Q"), color=colour
        )
        layers.insert(0, band)
    else:
        layers.insert(0, single.mark_line(strokeWidth=1, opacity=0.3))
        if points:
            layers.append(single.mark_point(filled=True, size=26, opacity=0.65))
    if look.page:
        layers.append(_hover(mean, x, y, name, "step" if "step" in means else "epoch", means["seeds"].max() > 1))
    return alt.layer(*layers)


def gaps(means: pd.DataFrame, seeds: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """The means, empty where a seed's value is: without it they would be those of fewer seeds. place: the columns of a group."""
    values = [name for name in seeds if name in ("loss", "accuracy")]
    broken = seeds[seeds[values].isna().any(axis=1)][place].drop_duplicates().assign(broken=True)
    marked = means.merge(broken, on=place, how="left")["broken"].notna().to_numpy()
    columns = [name for name in means if name.startswith(tuple(values))]
    return means.assign(**{name: means[name].mask(marked) for name in columns})


def nothing() -> Panel:
    """What is drawn of a study without a finished run."""
    told = alt.Chart(pd.DataFrame({"told": ["no run has finished"]})).mark_text(fontSize=14).encode(text="told:N")
    return alt.layer(told).properties(height=120)


def _widths(lines: int) -> list[float]:
    """Ever thinner lines: from one start matched cases lie on each other for hundreds of steps, and each must show."""
    widths: list[float] = np.linspace(4.4 if lines > 1 else 2.4, 1.6, lines).round(2).tolist()
    return widths


def _hover(mean: alt.Chart, x: alt.X, y: alt.Y, name: str, place: str, several: bool) -> alt.Chart:
    """A dot that follows the pointer to the nearest mean and tells its row: case, step or epoch, and the mean of `several` seeds."""
    nearest = alt.selection_point(name=f"nearest_{name}", nearest=True, on="pointerover", clear="pointerout", empty=False)
    told = {
        "case": "datum.datum.case",
        "training step" if place == "step" else place: f"format(datum.datum.{place}, ',.0f')",
        f"{UNITS[name]}{', mean' if several else ''}": f"format(datum.datum.{name}, '.4f')",
    }
    if several:
        told |= {f"{which}est seed": f"format(datum.datum.{name}_{which}, '.4f')" for which in ("low", "high")}
        told["seeds"] = "datum.datum.seeds"
    # the pointer meets a cell around the dot, whose datum is the dot; Vega-Lite's own tooltips mind that for numbers alone
    row = ", ".join(f"'{title}': {value}" for title, value in told.items())
    dots = mean.mark_point(filled=True, size=70).encode(x, y, tooltip=alt.value(alt.expr(f"datum.datum ? {{{row}}} : null")))
    found: alt.Chart = dots.encode(opacity=alt.condition(nearest, alt.value(1), alt.value(0))).add_params(nearest)
    return found
