"""Figures of a study of several models: who is fastest with each, and how near to the fastest each case stays over all of them.

The second is a performance profile (Dolan and Moré, Benchmarking optimization software with performance profiles, 2002).
"""

from dataclasses import replace

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.estimates import NOT_ENOUGH
from levelfield.tell.figures.comparisons import within_sight
from levelfield.tell.figures.theme import SHOWN, Look, line_scale, scale
from levelfield.tell.results import Results
from levelfield.tell.tables.leaderboard import leaderboard
from levelfield.tell.tables.table import Row

LOGARITHMIC = 4.0
"""Largest ratio that is drawn on an even scale."""
STEP = 0.013
"""Of the axis, between lines of the profile that would coincide."""
TITLE = "time of training, the model's fastest = 1"


def by_model(results: Results) -> pd.DataFrame:
    """A row each case and machine under the study's own settings, as the leaderboard has them; empty for a single model.

    Columns case, machine, line (the case without its model), group (model, and machine where there are several), value, low, high
    (time over that of the group's fastest matched case; a bracket where something is claimed), first (whether it is that one),
    rank (as there), seeds, note (why there is no value, or no bracket).
    """
    columns = ["case", "machine", "line", "group", "value", "low", "high", "first", "rank", "seeds", "note"]
    if not results.several_models:
        return pd.DataFrame(columns=columns)
    usual = results.study.protocol
    cases = {case.name for case in results.study.expanded if case.protocol == replace(usual, model=case.protocol.model)}
    rows = leaderboard(results).data
    rows = rows[rows["case"].isin(cases)]
    several = len(results.machines) > 1
    machine = (", " + rows["machine"]).where(rows["machine"].notna() & several, "")
    found = pd.DataFrame(
        {
            "case": rows["case"], "machine": rows["machine"], "line": rows["case"].map(results.lines),
            "group": rows["model"] + machine, "value": rows["times_fastest"].astype(float),
            "low": rows["times_fastest_low"].astype(float), "high": rows["times_fastest_high"].astype(float), "first": rows["case"] == rows["fastest"],
            "rank": rows["rank"], "seeds": rows["finished"],
        }
    )  # fmt: skip
    words = {"failed": "failed", "failed_parity": "failed parity", "missing": "missing"}
    found["note"] = [
        (row.unclaimed if isinstance(row.unclaimed, str) else "")
        if row.finished
        else next(word for name, word in words.items() if getattr(row, name))
        for row in rows.itertuples()
    ]
    place = rows["model"].map(list(dict.fromkeys(results.models.values())).index)
    order = pd.DataFrame({"model": place, "group": found["group"], "unknown": found["value"].isna()})
    order = order.sort_values(["model", "group", "unknown"], kind="stable")
    return found.loc[order.index, columns].reset_index(drop=True)


def models(results: Results, look: Look) -> ChartType | None:
    """Each model's cases, the fastest on top: time of training against it; None where the study has one model."""
    rows = by_model(results)
    if rows["value"].isna().all():
        return None
    rows["place"] = rows.groupby("group", sort=False).cumcount()
    rows["label"] = [_label(row) for row in rows.itertuples()]
    rows["interval"] = [_interval(row) for row in rows.itertuples()]
    rows = within_sight(rows)
    rows[["value", "low", "high"]] = rows[["value", "low", "high"]].round(4)
    groups, most = list(dict.fromkeys(rows["group"])), int(rows["place"].max()) + 1
    largest, least = float(rows[["value", "high"]].max().max()), float(rows[["value", "low"]].min().min())
    logarithmic = largest > LOGARITHMIC
    # room for the names, which stand right of the marks
    ends = [least / 1.02, largest**1.35] if logarithmic else [least - 0.02, largest + 0.4 * (largest - least) + 0.05]
    kind = alt.Scale(type="log" if logarithmic else "linear", domain=ends, nice=False)
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= largest * 1.2]
    axis = alt.Axis(values=ticks, format="~g") if logarithmic else alt.Axis(tickCount=6)
    x = alt.X("value:Q", title=TITLE + (" (logarithmic)" if logarithmic else ""), scale=kind, axis=axis)
    y = alt.Y("group:N", sort=groups, title=None, scale=alt.Scale(paddingInner=0.18, paddingOuter=0.08),
              axis=alt.Axis(domain=False, ticks=False, labelPadding=8, labelFontSize=14, labelFontWeight=600, labelLimit=260))  # fmt: skip
    offset = alt.YOffset("place:O", scale=alt.Scale(domain=list(range(most))))
    colour = alt.Color("case:N", scale=scale(results), legend=None)
    told = [alt.Tooltip("case:N"), alt.Tooltip("value:Q", title=TITLE, format=".3f"),
            alt.Tooltip("interval:N", title="95 % interval, simultaneous"), alt.Tooltip("seeds:Q")]  # fmt: skip
    base = alt.Chart(rows).transform_filter(SHOWN).encode(y, offset)
    known = base.transform_filter("isValid(datum.value)")
    chart = alt.layer(
        alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(strokeDash=[3, 3]).encode(alt.X("one:Q")),
        known.transform_calculate(one="1").mark_rule(strokeWidth=2, opacity=0.45).encode(alt.X("one:Q"), alt.X2("value:Q"), color=colour),
        known.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=5, opacity=0.45).encode(alt.X("low:Q"), alt.X2("high:Q"), color=colour),
        known.mark_point(filled=True, size=75, opacity=1).encode(x, color=colour, tooltip=told),
        base.transform_calculate(end="isValid(datum.high) ? datum.high : isValid(datum.value) ? datum.value : 1")
        .mark_text(align="left", dx=10).encode(alt.X("end:Q"), text="label:N"),
    ).properties(width=look.width, height=20 * most * len(groups))  # fmt: skip
    values = "; ".join(f"{group}: {', '.join(mine['label'])}" for group, mine in rows.groupby("group", sort=False))
    explained = "dot: geometric mean of the ratios by seed over clean pairs; band: 95 % interval, simultaneous for a model; the fastest of each model on top"
    return look.finish(chart, "Who is fastest with each model", f"{results.context}\n{explained}", values)


def _label(row: Row) -> str:
    if pd.isna(row.value):
        return f"{row.line}: {row.note or 'not compared'}"
    told = row.line if row.first else f"{row.line}  {row.value:.2f}"
    return f"{told}, {row.note}" if row.note else told


def _interval(row: Row) -> str:
    """As text: Vega would tell a missing bound as 0."""
    if row.first:
        return "the fastest"
    return row.note or NOT_ENOUGH if pd.isna(row.low) else f"{row.low:.3f} to {row.high:.3f}"


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Steps of the performance profile: columns line, case, factor, share, the first at 1 and the last at the largest factor of all.

    rows: of `by_model`. share: of the groups, those in which the line's time is at most `factor` times the fastest's; where it
    did not finish it never is.
    """
    groups, largest = rows["group"].nunique(), float(rows["value"].max())
    parts = []
    for line, mine in rows.groupby("line", sort=False):
        values = np.sort(mine["value"].dropna())
        factors = np.unique([1.0, *values, largest])
        share = np.searchsorted(values, factors, side="right") / groups
        parts.append(pd.DataFrame({"line": line, "case": mine["case"].iloc[0], "factor": factors, "share": share}))
    return pd.concat(parts, ignore_index=True)


def profile(results: Results, look: Look) -> ChartType | None:
    """The performance profile over models, a stepped line each case; None where the study has one model."""
    rows = by_model(results)
    if rows["value"].isna().all():
        return None
    steps, number = shares(rows), rows["group"].nunique()
    lines = [line for line in line_scale(results).domain if line in set(steps["line"])]
    # lines that coincide stand beside each other
    steps["drawn"] = steps["share"] - STEP * steps["line"].map(lines.index)
    logarithmic = steps["factor"].max() > LOGARITHMIC
    kind = alt.Scale(type="log" if logarithmic else "linear", nice=False)
    x = alt.X("factor:Q", title="factor of the fastest's time", scale=kind, axis=alt.Axis(tickCount=6, format="~g", grid=False))
    marks = alt.Axis(
        values=[share / number for share in range(number + 1)], labelExpr=f"round(datum.value * {number}) + ' of {number}'"
    )
    ends = alt.Scale(domain=[-STEP * len(lines), 1.02], nice=False)
    y = alt.Y("drawn:Q", title="models", scale=ends, axis=marks if number <= 10 else alt.Axis(format=".0%"))
    # on the page, too: the switches name cases, a line here stands for one with all its models
    legend = alt.Legend(title=None, symbolType="stroke", values=lines)
    colour = alt.Color("line:N", scale=line_scale(results), legend=legend)
    dash = alt.StrokeDash("line:N", scale=line_scale(results, dashes=True), legend=legend)
    told = [alt.Tooltip("line:N", title="case"), alt.Tooltip("factor:Q", title="within a factor of", format=".3f"),
            alt.Tooltip("share:Q", title="share of the models", format=".0%")]  # fmt: skip
    base = alt.Chart(steps.round(4)).transform_filter(SHOWN).encode(x, y, color=colour)
    chart = alt.layer(
        base.mark_line(interpolate="step-after", strokeWidth=2.5).encode(strokeDash=dash),
        base.mark_point(filled=True, size=34, opacity=1).encode(tooltip=told),
    ).properties(width=look.width, height=240)  # fmt: skip
    explained = "of how many models a case is within a factor of the fastest's time; further up and left is better; lines part where they coincide"
    return look.finish(chart, "Performance profile over models", f"{results.context}\n{explained}")
