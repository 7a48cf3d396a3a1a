"""Figures of validation: accuracy and loss after each epoch, or a row a case where there is one epoch alone."""

from math import ceil
from typing import TypeVar

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.figures.curves import POINTS, curves, gaps, nothing, seed_lines, seeds_shown
from levelfield.tell.figures.theme import ROW, SHOWN, WIDTH, Look, Panel, scale
from levelfield.tell.results import Results

Channel = TypeVar("Channel", alt.X, alt.Y)
HEIGHT = 260
MARKED = 20
"""Most epochs whose single values are marked on the lines."""


def validation(results: Results, look: Look) -> ChartType:
    """Validation accuracy and loss after each epoch, side by side, a row a model; for a file."""
    accuracy, loss = (panels(results, look, name) for name in ("accuracy", "loss"))
    many, single = len(accuracy) > 1, len(results.epochs) and results.epochs["epoch"].max() == 1
    rows = []
    for model, *both in zip(results.by_model, accuracy, loss, strict=False):
        if single:
            both = [panel.properties(width=WIDTH // 2 - 60) for panel in both]
            both[1] = alt.layer(*(layer.encode(_cases(results, labels=False)) for layer in both[1].layer))
            both[1] = both[1].properties(width=WIDTH // 2 - 60, height=ROW * len(results.cases))
        else:
            both = [panel.properties(width=WIDTH // 2 - 36, height=180 if many else HEIGHT) for panel in both]
        named = {"title": alt.TitleParams(model, fontSize=14)} if many else {}
        rows.append(alt.hconcat(*both, spacing=30, **named))
    chart = alt.vconcat(*rows, spacing=14) if many else rows[0]
    return look.finish(chart, "Validation", f"{results.context}\n{explained(results)}")


def explained(results: Results) -> str:
    if len(results.epochs) and results.epochs["epoch"].max() == 1:
        return "after the only epoch; " + (
            "mean over seeds, small: single seeds" if results.finished["seed"].nunique() > 1 else "a single seed"
        )
    return f"after each epoch; {seeds_shown(results)}"


def panels(results: Results, look: Look, name: str) -> list[Panel]:
    """Validation `accuracy` or `loss`: a panel a model; with one epoch a single one, a row a case."""
    column = f"validation_{name}"
    seeds = thinned(results)[["case", "seed", "epoch", column]].rename(columns={column: name}).round(5)
    seeds = seeds.replace({name: [np.inf, -np.inf]}, np.nan)
    if seeds.empty:
        return [nothing()]
    if seeds["epoch"].max() == 1:
        return [_rows(seeds, results, look, name)]
    parts = (seeds[seeds["case"].isin(cases)] for cases in results.by_model.values())
    return [_by_epoch(part, results, look, name) for part in parts]


def thinned(results: Results) -> pd.DataFrame:
    """`results.epochs`; where those are more than `POINTS`, every so many of a run's, its last one among them."""
    epochs = results.epochs
    last = epochs.groupby("case")["epoch"].transform("max")
    points = len(epochs if seed_lines(results) else epochs[["case", "epoch"]].drop_duplicates())
    return epochs[(last - epochs["epoch"]) % max(1, ceil(points / POINTS)) == 0]


def _by_epoch(seeds: pd.DataFrame, results: Results, look: Look, name: str) -> Panel:
    means = seeds.groupby(["case", "epoch"], as_index=False).agg(
        **{name: (name, "mean"), f"{name}_low": (name, "min"), f"{name}_high": (name, "max"), "seeds": (name, "size")}
    )
    means = gaps(means, seeds, ["case", "epoch"])
    # the thinner lines of later cases are drawn over those of earlier ones
    means = means.sort_values(
        ["case", "epoch"], key=lambda column: column.map(results.cases.index) if column.name == "case" else column
    )
    epochs = int(seeds["epoch"].max()) if len(seeds) else 1
    ticks = list(range(1, epochs + 1)) if epochs <= 15 else alt.Undefined
    ends = alt.Scale(domain=[0.85, epochs + 0.15], nice=False)
    x = alt.X("epoch:Q", title="epoch", scale=ends, axis=alt.Axis(grid=False, format="d", tickMinStep=1, values=ticks))
    return curves(seeds, means.round(5), results, look, x, _axis(alt.Y, name), name, points=epochs <= MARKED).properties(
        height=HEIGHT
    )


def _axis(channel: type[Channel], name: str) -> Channel:
    return channel(
        f"{name}:Q", title=f"validation {name}", scale=alt.Scale(zero=False), axis=alt.Axis(format=".4~f", tickCount=6)
    )


def _cases(results: Results, labels: bool = True) -> alt.Y:
    axis = alt.Axis(labelPadding=8, domain=False, ticks=False, grid=True, labels=labels)
    return alt.Y("case:N", title=None, sort=results.rows, axis=axis)


def _rows(seeds: pd.DataFrame, results: Results, look: Look, name: str) -> Panel:
    means = seeds.groupby("case", as_index=False, sort=False).agg(**{name: (name, "mean"), "seeds": (name, "size")}).round(5)
    means = gaps(means, seeds, ["case"])
    y, x, colour = _cases(results), _axis(alt.X, name), alt.Color("case:N", scale=scale(results), legend=None)
    told = [
        alt.Tooltip("case:N"),
        alt.Tooltip(f"{name}:Q", title=f"validation {name}, mean", format=".4f"),
        alt.Tooltip("seeds:Q"),
    ]
    return alt.layer(
        alt.Chart(seeds[["case", name]]).transform_filter(SHOWN).mark_point(filled=True, size=20, opacity=0.5).encode(x, y, color=colour),
        alt.Chart(means).transform_filter(SHOWN).mark_point(filled=True, size=80, opacity=1).encode(x, y, color=colour, tooltip=told),
    ).properties(height=ROW * len(results.cases))  # fmt: skip
