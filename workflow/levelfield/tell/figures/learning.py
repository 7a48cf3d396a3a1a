"""Figures of learning: loss and accuracy by step and by epoch, each seed visible, the same statistic for every case."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import altair as alt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from levelfield.tell.figures.theme import SHOWN, WIDTH, Look, case_scale
from levelfield.tell.results import Results

WINDOWS = 40
"""Windows of an epoch; of an epoch of 782 steps each spans 20 steps or 19."""
FEWEST = 8
"""Fewest steps of a window where an epoch has them: the mean of fewer batches of 32 is mostly noise."""
POINTS = 4_500
"""Most points of all curves of a chart together: with more runs or epochs the windows grow. A page has to open."""
SEED_LINES = 60
"""Most runs whose own curves are drawn; with more, a band from the lowest seed to the highest stands for them."""
BOUNDARIES = 12
"""Most epochs whose beginnings are marked: more would be a hatching."""
UNITS = {"loss": "loss, nats", "accuracy": "accuracy, share of 1"}


@dataclass(frozen=True)
class StepCurves:
    """Loss and accuracy of training batches, averaged over windows of steps.

    The windows part each epoch evenly, or with very many epochs are as many of those each; a value is the mean of the batches'
    own values, weighted by batch size. `seeds` has a row for each run and window, `means` for each case and window (mean, low
    and high over seeds).
    """

    size: int
    """Steps of a window in the longest epoch."""
    seeds: pd.DataFrame
    means: pd.DataFrame
    boundaries: list[float]
    """Steps at which a new epoch begins, where all cases agree in that and there are few."""


@lru_cache(maxsize=1)
def step_curves(results: Results) -> StepCurves:
    """Reads `steps.parquet` and averages it."""
    columns = ["case", "seed", "epoch", "loss", "accuracy", "sequences"]
    steps = pq.read_table(results.folder / "steps.parquet", columns=columns).to_pandas()
    steps["case"] = steps["case"].astype(pd.CategoricalDtype(results.cases))
    run, epoch = ["case", "seed"], ["case", "seed", "epoch"]
    steps["step"] = steps.groupby(run, observed=True).cumcount() + 1
    starts = steps.groupby(epoch, observed=True)["step"].min().reset_index()
    curves = len(starts if seed_lines(results) else starts[["case", "epoch"]].drop_duplicates())
    merged = max(1, ceil(curves / POINTS))  # epochs of one window
    steps["epoch"] = (steps["epoch"] - 1) // merged
    length = steps.groupby(epoch, observed=True)["loss"].transform("size")
    longest = int(length.max()) if len(steps) else 1
    size = max(1, min(longest // 3, max(FEWEST, round(longest / WINDOWS))))
    size = max(size, ceil(longest / max(1, POINTS // max(1, ceil(curves / merged)))))
    windows = np.maximum(1, (length / size).round().astype(int))
    steps["window"] = steps.groupby(epoch, observed=True).cumcount() * windows // length
    for name in ("loss", "accuracy"):
        steps[name] *= steps["sequences"]
    groups = steps.groupby([*epoch, "window"], observed=True, as_index=False)
    seeds = groups.agg(step=("step", "mean"), loss=("loss", "sum"), accuracy=("accuracy", "sum"), n=("sequences", "sum"))
    for name in ("loss", "accuracy"):
        seeds[name] = (seeds[name] / seeds["n"]).round(4)
    means = seeds.groupby(["case", "epoch", "window"], observed=True, as_index=False).agg(
        step=("step", "mean"), seeds=("seed", "nunique"),
        loss=("loss", "mean"), loss_low=("loss", "min"), loss_high=("loss", "max"),
        accuracy=("accuracy", "mean"), accuracy_low=("accuracy", "min"), accuracy_high=("accuracy", "max"),
    )  # fmt: skip
    agreed = starts.groupby("epoch")["step"].nunique().eq(1).all() and starts["epoch"].nunique() <= BOUNDARIES
    boundaries = sorted(float(step) for step in starts["step"].unique() if step > 1) if agreed else []
    return StepCurves(size, seeds[["case", "seed", "step", "loss", "accuracy"]], means.round(4), boundaries)


def loss(results: Results, look: Look) -> alt.Chart:
    """Batch loss over the steps of all epochs."""
    return _by_step(step_curves(results), results, look, "loss", "Loss of the training batches")


def accuracy(results: Results, look: Look) -> alt.Chart:
    """Batch accuracy over the steps of all epochs."""
    return _by_step(step_curves(results), results, look, "accuracy", "Accuracy on the training batches")


def _by_step(curves: StepCurves, results: Results, look: Look, name: str, title: str) -> alt.Chart:
    scale = alt.Scale(domain=[0, float(np.ceil(curves.means["step"].max() + curves.size / 2))] if len(curves.means) else [0, 1])
    x = alt.X("step:Q", title="training step", axis=alt.Axis(grid=False, format=",d", tickMinStep=1, tickCount=8), scale=scale)
    y = alt.Y(f"{name}:Q", title=name, scale=alt.Scale(zero=False), axis=alt.Axis(format=".4~f"))
    seeds = curves.seeds[["case", "seed", "step", name]]
    means = curves.means[["case", "seeds", "step", name, f"{name}_low", f"{name}_high"]]
    chart = _curves(seeds, means, results, look, x, y, name)
    if curves.boundaries:
        rules = alt.Chart(pd.DataFrame({"step": curves.boundaries})).mark_rule(strokeDash=[2, 3], opacity=0.8)
        chart = alt.layer(rules.encode(alt.X("step:Q")), chart)
    point = f"the mean of {curves.size} batches' own values" if curves.size > 1 else "one batch's own value"
    explained = f"each point is {point}, the same for every case; {seeds_shown(results)}"
    return look.finish(chart.properties(width=look.width, height=280), title, f"{results.context}\n{explained}")


def validation(results: Results, look: Look) -> alt.Chart:
    """Validation accuracy and loss after each epoch, side by side; for a file."""
    panels = [
        validation_panel(results, look, name).properties(width=WIDTH // 2 - 36, height=260) for name in ("accuracy", "loss")
    ]
    explained = f"after each epoch; {seeds_shown(results)}"
    return look.finish(alt.hconcat(*panels, spacing=30), "Validation", f"{results.context}\n{explained}")


def seeds_shown(results: Results) -> str:
    """How a chart shows the seeds, in words."""
    if results.finished["seed"].nunique() < 2:
        return "a single seed"
    return "thick: mean over seeds; " + ("faint: single seeds" if seed_lines(results) else "faint: lowest to highest seed")


def seed_lines(results: Results) -> bool:
    """Whether each run has a curve of its own."""
    return len(results.finished) <= SEED_LINES


def validation_panel(results: Results, look: Look, name: str) -> alt.Chart:
    """Validation `accuracy` or `loss` after each epoch."""
    column = f"validation_{name}"
    seeds = thinned(results)[["case", "seed", "epoch", column]].rename(columns={column: name}).round(5)
    means = seeds.groupby(["case", "epoch"], as_index=False).agg(
        **{name: (name, "mean"), f"{name}_low": (name, "min"), f"{name}_high": (name, "max"), "seeds": (name, "size")}
    )
    epochs = int(seeds["epoch"].max()) if len(seeds) else 1
    ticks = list(range(1, epochs + 1)) if epochs <= 15 else alt.Undefined
    scale = alt.Scale(domain=[0.85, epochs + 0.15], nice=False)
    x = alt.X("epoch:Q", title="epoch", scale=scale, axis=alt.Axis(grid=False, format="d", tickMinStep=1, values=ticks))
    y = alt.Y(f"{name}:Q", title=f"validation {name}", scale=alt.Scale(zero=False), axis=alt.Axis(format=".4~f"))
    return _curves(seeds, means.round(5), results, look, x, y, name, points=True)


def thinned(results: Results) -> pd.DataFrame:
    """`results.epochs`; where those are more than `POINTS` curves can hold, every so many of a run's, its last one among them."""
    epochs = results.epochs
    last = epochs.groupby("case")["epoch"].transform("max")
    points = len(epochs if seed_lines(results) else epochs[["case", "epoch"]].drop_duplicates())
    return epochs[(last - epochs["epoch"]) % max(1, ceil(points / POINTS)) == 0]


def _curves(
    seeds: pd.DataFrame, means: pd.DataFrame, results: Results, look: Look, x: alt.X, y: alt.Y, name: str, points: bool = False
) -> alt.LayerChart:
    """A thick line of means for each case, over faint lines (or dots) of its seeds, or over their band."""
    if means.empty:
        return alt.layer(
            alt.Chart(pd.DataFrame({"told": ["no run has finished"]})).mark_text(fontSize=14).encode(text="told:N")
        )
    drawn = [case for case in results.cases if case in set(means["case"])]
    legend = look.legend(values=drawn, symbolType="stroke")
    colour = alt.Color("case:N", scale=case_scale(results.cases, variants=results.variants), legend=legend)
    dash = alt.StrokeDash("case:N", scale=case_scale(results.cases, True, results.variants), legend=legend)
    mean = alt.Chart(means).transform_filter(SHOWN)
    single = alt.Chart(seeds).transform_filter(SHOWN).encode(x, y, alt.Detail("seed:N"), color=colour)
    width = alt.StrokeWidth("case:O", scale=alt.Scale(domain=drawn, range=_widths(len(drawn))), legend=None)
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


def _widths(cases: int) -> list[float]:
    """Ever thinner lines: from one start matched cases lie on each other for hundreds of steps, and each must show."""
    return np.linspace(4.4 if cases > 1 else 2.4, 1.6, cases).round(2).tolist()


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
    # the pointer meets a cell around the dot, whose datum is the dot: Vega-Lite's own tooltips mind that for numbers alone
    row = ", ".join(f"'{title}': {value}" for title, value in told.items())
    dots = mean.mark_point(filled=True, size=70).encode(x, y, tooltip=alt.value(alt.expr(f"datum.datum ? {{{row}}} : null")))
    return dots.encode(opacity=alt.condition(nearest, alt.value(1), alt.value(0))).add_params(nearest)
