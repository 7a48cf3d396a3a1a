"""Figures of learning by step: loss and accuracy, each seed visible, the same statistic for every case."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import altair as alt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from altair.typing import ChartType

from levelfield.tell.figures.curves import POINTS, curves, gaps, nothing, seed_lines, seeds_shown
from levelfield.tell.figures.theme import Look, Panel
from levelfield.tell.results import Results, must_be_there

WINDOWS = 40
"""Windows of an epoch; of an epoch of 782 steps each spans 20 steps or 19."""
FEWEST = 8
"""Fewest steps of a window where an epoch has them: the mean of fewer batches of 32 is mostly noise."""
BOUNDARIES = 12
"""Most epochs whose beginnings are marked: more would be a hatching."""
HEIGHT = 280
TITLES = {"loss": "Loss of the training batches", "accuracy": "Accuracy on the training batches"}


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
    must_be_there(results.folder, "steps.parquet")
    steps = pq.read_table(results.folder / "steps.parquet", columns=columns).to_pandas()
    steps["case"] = steps["case"].astype(pd.CategoricalDtype(results.cases))
    run, epoch = ["case", "seed"], ["case", "seed", "epoch"]
    steps["step"] = steps.groupby(run, observed=True).cumcount() + 1
    starts = steps.groupby(epoch, observed=True)["step"].min().reset_index()
    number = len(starts if seed_lines(results) else starts[["case", "epoch"]].drop_duplicates())
    merged = max(1, ceil(number / POINTS))  # epochs of one window
    steps["epoch"] = (steps["epoch"] - 1) // merged
    length = steps.groupby(epoch, observed=True)["loss"].transform("size")
    longest = int(length.max()) if len(steps) else 1
    size = max(1, min(longest // 3, max(FEWEST, round(longest / WINDOWS))))
    size = max(size, ceil(longest / max(1, POINTS // max(1, ceil(number / merged)))))
    windows = np.maximum(1, (length / size).round().astype(int))
    steps["window"] = steps.groupby(epoch, observed=True).cumcount() * windows // length
    steps["finite"] = np.isfinite(steps["loss"]) & np.isfinite(steps["accuracy"])
    for name in ("loss", "accuracy"):
        steps[name] *= steps["sequences"]
    groups = steps.groupby([*epoch, "window"], observed=True, as_index=False)
    seeds = groups.agg(
        step=("step", "mean"),
        loss=("loss", "sum"),
        accuracy=("accuracy", "sum"),
        n=("sequences", "sum"),
        finite=("finite", "all"),
    )
    for name in ("loss", "accuracy"):
        seeds[name] = (seeds[name] / seeds["n"]).where(seeds["finite"]).round(4)  # a gap, where a loss is not finite
    means = seeds.groupby(["case", "epoch", "window"], observed=True, as_index=False).agg(
        step=("step", "mean"), seeds=("seed", "nunique"),
        loss=("loss", "mean"), loss_low=("loss", "min"), loss_high=("loss", "max"),
        accuracy=("accuracy", "mean"), accuracy_low=("accuracy", "min"), accuracy_high=("accuracy", "max"),
    )  # fmt: skip
    means = gaps(means, seeds, ["case", "epoch", "window"])
    agreed = starts.groupby("epoch")["step"].nunique().eq(1).all() and starts["epoch"].nunique() <= BOUNDARIES
    boundaries = sorted(float(step) for step in starts["step"].unique() if step > 1) if agreed else []
    return StepCurves(size, seeds[["case", "seed", "step", "loss", "accuracy"]], means.round(4), boundaries)


def loss(results: Results, look: Look) -> ChartType:
    """Batch loss over the steps of all epochs."""
    return _in_one(results, look, "loss")


def accuracy(results: Results, look: Look) -> ChartType:
    """Batch accuracy over the steps of all epochs."""
    return _in_one(results, look, "accuracy")


def _in_one(results: Results, look: Look, name: str) -> ChartType:
    """All panels beneath each other."""
    made = panels(results, look, name)
    chart: ChartType
    if len(made) == 1:
        chart = made[0].properties(width=look.width, height=HEIGHT)
    else:
        named = zip(results.by_model, made, strict=True)
        sized = [
            panel.properties(title=alt.TitleParams(model, fontSize=14), width=look.width, height=190) for model, panel in named
        ]
        chart = alt.vconcat(*sized, spacing=14)
    return look.finish(chart, TITLES[name], f"{results.context}\n{explained(results)}")


def panels(results: Results, look: Look, name: str) -> list[Panel]:
    """`loss` or `accuracy`: a panel for each model of the study."""
    found = step_curves(results)
    if found.means.empty:
        return [nothing()]
    return [_panel(found, set(cases), results, look, name).properties(height=HEIGHT) for cases in results.by_model.values()]


def explained(results: Results) -> str:
    size = step_curves(results).size
    point = f"the mean of {size} batches' own values" if size > 1 else "one batch's own value"
    return f"each point is {point}, the same for every case; {seeds_shown(results)}"


def _panel(found: StepCurves, cases: set[str], results: Results, look: Look, name: str) -> Panel:
    seeds, means = (rows[rows["case"].isin(cases)] for rows in (found.seeds, found.means))
    end = float(np.ceil(means["step"].max() + found.size / 2)) if len(means) else 1
    axis = alt.Axis(grid=False, format=",d", tickMinStep=1, tickCount=8)
    x = alt.X("step:Q", title="training step", axis=axis, scale=alt.Scale(domain=[0, end]))
    y = alt.Y(f"{name}:Q", title=name, scale=alt.Scale(zero=False), axis=alt.Axis(format=".4~f"))
    seeds = seeds[["case", "seed", "step", name]]
    means = means[["case", "seeds", "step", name, f"{name}_low", f"{name}_high"]]
    chart = curves(seeds, means, results, look, x, y, name)
    if not found.boundaries:
        return chart
    rules = alt.Chart(pd.DataFrame({"step": found.boundaries})).mark_rule(strokeDash=[2, 3], opacity=0.8)
    return alt.layer(rules.encode(alt.X("step:Q")), chart)
