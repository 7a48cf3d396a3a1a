"""Figures of comparison, paired by seed: who was faster and how sure that is, and what each departure is worth."""

from typing import Literal

import altair as alt
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.estimates import NOT_ENOUGH
from levelfield.tell.figures.theme import ROW, SHOWN, WIDTH, Look, Panel, scale
from levelfield.tell.results import Results
from levelfield.tell.tables.comparisons import departures, departures_title, within
from levelfield.tell.tables.leaderboard import leaderboard

WORTH = {
    "validation_accuracy": ("validation accuracy, points", 100.0, 0.0),
    "validation_loss": ("validation loss", 1.0, 0.0),
    "time": ("time of an epoch, matched = 1", 1.0, 1.0),
}
"""Column of the departures' table: title, factor, and the value that means no effect."""
ROWS: Literal["break-paths-show-domains"] = "break-paths-show-domains"
"""What is not known is not drawn, and has its row all the same: the panels' rows stand beside each other."""
SIGHT = 3.0
"""An interval of ratios is drawn to so many times the largest of them, and its true ends are told."""
WORTH_EXPLAINED = "difference from the matched case, paired by seed: mean and simultaneous 95 % interval, after the last epoch; time: clean pairs"


def worth_panel(results: Results, look: Look, measure: str) -> Panel | None:
    """What each case with departures or settings of its own differs by from the matched one; None where there are no such pairs."""
    table = departures(results)
    if table is None or table.data[measure].isna().all():
        return None
    title, factor, none = WORTH[measure]
    low, high = f"{measure}_low", f"{measure}_high"
    rows = table.data[["case", "pairs", measure, low, high]].copy()
    rows["pairs"] = table.data["clean_pairs"] if measure == "time" else rows["pairs"]
    rows["noise"] = [measure == "time" and within(row.time, row.time_floor) for row in table.data.itertuples()]
    rows["differs"] = [
        ", ".join(filter(None, both)) for both in zip(table.data["departures"], table.data["settings"], strict=True)
    ]
    rows[[measure, low, high]] = (rows[[measure, low, high]].astype(float) * factor).round(5)
    form = "+.4f" if none == 0 else ".3f"
    rows = rows.rename(columns={measure: "value", low: "low", high: "high"})
    rows["interval"] = _intervals(rows, form)
    clear = f"isValid(datum.low) && !datum.noise && (datum.low > {none} || datum.high < {none})"
    base = alt.Chart(rows).transform_filter(SHOWN).transform_calculate(
        clear=f"!isValid(datum.low) ? 'too few pairs' : {clear} ? 'effect shown' : 'no effect shown'"
    ).encode(alt.Y("case:N", sort=rows["case"].tolist(), title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8)))  # fmt: skip
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=6))
    marks = alt.Scale(domain=["effect shown", "no effect shown", "too few pairs"], range=["#D55E00", "#7a828c", "#b4bac2"])
    legend = alt.Legend(title=None, symbolType="circle")
    colour = alt.Color("clear:N", scale=marks, legend=legend)
    told = [alt.Tooltip("case:N"), alt.Tooltip("differs:N", title="differs in"), alt.Tooltip("value:Q", title=title, format=form),
            alt.Tooltip("interval:N", title="95 % interval"), alt.Tooltip("pairs:Q", title="pairs of seeds")]  # fmt: skip
    return alt.layer(
        alt.Chart(pd.DataFrame({"none": [none]})).mark_rule(strokeDash=[3, 3]).encode(alt.X("none:Q")),
        base.mark_rule(strokeWidth=2, invalid=ROWS).encode(alt.X("low:Q"), alt.X2("high:Q"), color=colour),
        base.mark_point(filled=True, size=70, opacity=1, invalid=ROWS).encode(x, color=colour, tooltip=told),
    ).properties(height=ROW * len(rows))  # fmt: skip


def _intervals(rows: pd.DataFrame, form: str) -> pd.Series:
    """Columns low and high as text: Vega would tell a missing bound as 0."""
    low, high = (rows[name].map(f"{{:{form}}}".format) for name in ("low", "high"))
    return (low + " to " + high).where(rows["low"].notna(), NOT_ENOUGH)


def within_sight(rows: pd.DataFrame) -> pd.DataFrame:
    """The ends of intervals so that they fit beside the values: few pairs of much spread leave them hundreds of times as long."""
    low, high = rows["value"].min() / SIGHT, rows["value"].max() * SIGHT
    return rows.assign(low=rows["low"].clip(lower=low), high=rows["high"].clip(upper=high))


def worth(results: Results, look: Look) -> ChartType | None:
    """What each departure is worth in accuracy, loss and time; None where the study does not tell."""
    table = departures(results)
    if table is None:
        return None
    panels = [panel for measure in WORTH if (panel := worth_panel(results, look, measure)) is not None]
    hide = alt.Y("case:N", axis=None, sort=table.data["case"].tolist())
    rest = [
        alt.layer(*(layer if place == 0 else layer.encode(hide) for place, layer in enumerate(panel.layer)))
        for panel in panels[1:]
    ]
    sized = [panel.properties(width=WIDTH // 3, height=panels[0].height) for panel in (panels[0], *rest)]
    return look.finish(alt.hconcat(*sized, spacing=22), departures_title(table.data), f"{results.context}\n{WORTH_EXPLAINED}")


def ranking(results: Results, look: Look) -> ChartType | None:
    """Each case's time of training against the fastest one's; None where no two cases may be compared, or models differ."""
    if results.several_models:
        return None
    board = leaderboard(results).data
    rows = board.dropna(subset=["times_fastest"])
    names = [
        "case",
        "machine",
        "fastest",
        "unclaimed",
        "clean_runs",
        "times_fastest",
        "times_fastest_low",
        "times_fastest_high",
    ]
    rows = rows[names].reset_index(drop=True)
    if (rows["times_fastest"] == 1).all():
        return None
    rows = rows.rename(columns={"times_fastest": "value", "times_fastest_low": "low", "times_fastest_high": "high"})
    rows = rows.astype({"value": float, "low": float, "high": float}).round(4)
    first = rows["case"] == rows["fastest"]
    rows["interval"] = _intervals(rows, ".3f").mask(rows["unclaimed"].notna(), rows["unclaimed"]).mask(first, "the fastest")
    rows.loc[first, ["low", "high"]] = None
    rows = within_sight(rows)
    rows["label"] = (
        rows["value"].map("{:.2f}".format).where(rows["unclaimed"].isna(), rows["value"].map("{:.2f}, no claim".format))
    )
    rows = rows.drop(columns=["fastest", "unclaimed"])
    y = alt.Y("case:N", sort=rows["case"].tolist(), title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8))
    base = alt.Chart(rows).transform_filter(SHOWN).encode(y)
    largest = float(rows[["value", "high"]].max().max())
    axis = alt.Axis(tickCount=6)
    x = alt.X("value:Q", title="time of training, fastest = 1", scale=alt.Scale(domain=[0, 1.2 * largest]), axis=axis)
    colour = alt.Color("case:N", scale=scale(results), legend=None)
    told = [alt.Tooltip("case:N"), alt.Tooltip("machine:N"), alt.Tooltip("value:Q", title="time of training, fastest = 1", format=".3f"),
            alt.Tooltip("interval:N", title="95 % interval, simultaneous"), alt.Tooltip("clean_runs:Q", title="clean runs")]  # fmt: skip
    chart = alt.layer(
        alt.Chart(pd.DataFrame({"none": [1.0]})).mark_rule(strokeDash=[3, 3]).encode(alt.X("none:Q")),
        base.mark_bar(opacity=0.85, height={"band": 0.5}).encode(x, color=colour, tooltip=told),
        base.mark_rule(strokeWidth=2.5).encode(alt.X("low:Q"), alt.X2("high:Q")),
        base.transform_calculate(end="isValid(datum.high) ? datum.high : datum.value")
        .mark_text(align="left", dx=8).encode(alt.X("end:Q"), text="label:N"),
    ).properties(width=look.width, height=(ROW + 6) * len(rows))  # fmt: skip
    values = ", ".join(f"{row.case} {row.label}" for row in rows.itertuples())
    explained = (
        "bar: geometric mean of the ratios by seed over clean pairs; line: simultaneous 95 % interval; shorter is faster"
    )
    return look.finish(chart, "Time of training against the fastest", f"{results.context}\n{explained}", values)
