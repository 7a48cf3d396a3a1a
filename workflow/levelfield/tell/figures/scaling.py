"""The figure of a study that varies a size: throughput, latency and memory against batch size or length."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.figures.theme import SHOWN, WIDTH, Look, Panel, case_scale
from levelfield.tell.results import Results

SIZES = {"batch_size": "sequences a batch", "length": "tokens a sequence", "devices": "devices"}
MEASURES = {
    "throughput": "training sequences a second",
    "latency": "milliseconds a step (p50)",
    "host memory": "GB of host memory at the peak",
    "GPU memory": "GB of GPU memory at the peak",
}


def growth(results: Results) -> pd.DataFrame:
    """One row a run, size and measure: columns setting, size, line (the case without its size), case, seed, measure, value."""
    runs = results.finished.merge(results.throughput)
    runs = runs.assign(
        **{
            "throughput": runs["sequences_per_second"],
            "latency": 1000 * runs["latency_p50_seconds"],
            "host memory": runs["host_peak_bytes"] / 1e9,
            "GPU memory": runs["nvml_peak_bytes"].fillna(runs["reserved_peak_bytes"]) / 1e9,
        }
    )
    parts = [pd.DataFrame(columns=["setting", "size", "line", "case", "seed", "measure", "value"])]
    for setting in (name for name in SIZES if name in results.study.vary):
        for size in results.study.vary[setting]:
            mine = runs[runs["case"].str.endswith(f"+{setting}={size}")]
            long = mine.melt(["case", "seed"], list(MEASURES), "measure", "value").dropna(subset=["value"])
            if len(long):
                line = long["case"].str.removesuffix(f"+{setting}={size}")
                parts.append(long.assign(setting=setting, size=size, line=line))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def panels(results: Results, look: Look) -> dict[str, dict[str, Panel]]:
    """The panels by setting (in words) and measure; empty where the study varies no size."""
    found = growth(results)
    lines = list(dict.fromkeys(found["line"]))
    made = {}
    for setting, words in SIZES.items():
        mine = found[found["setting"] == setting]
        if mine["size"].nunique() > 1:
            shown = [measure for measure in MEASURES if measure in set(mine["measure"])]
            made[words] = {m: _panel(mine[mine["measure"] == m], m, words, lines, look) for m in shown}
    return made


def _panel(rows: pd.DataFrame, measure: str, words: str, lines: list[str], look: Look) -> Panel:
    sizes = sorted(rows["size"].unique().tolist())
    means = rows.groupby(["line", "case", "size"], as_index=False).agg(value=("value", "mean"), seeds=("seed", "nunique"))
    x = alt.X(
        "size:Q",
        title=words,
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(values=sizes, grid=False, format="d"),
    )
    scale = alt.Scale(zero=True) if "memory" in measure else alt.Scale(type="log")
    y = alt.Y("value:Q", title=MEASURES[measure], scale=scale, axis=alt.Axis(tickCount=5))
    legend = alt.Legend(title=None, columns=1 if look.page else 4)
    colour = alt.Color("line:N", scale=case_scale(lines), legend=legend)
    dash = alt.StrokeDash("line:N", scale=case_scale(lines, dashes=True), legend=legend)
    mean = alt.Chart(means.round(4)).transform_filter(SHOWN)
    told = [alt.Tooltip("line:N", title="case"), alt.Tooltip("size:Q", title=words), alt.Tooltip("value:Q", title=MEASURES[measure], format=",.4~r"),
            alt.Tooltip("seeds:Q", title="seeds")]  # fmt: skip
    return alt.layer(
        mean.mark_line(strokeWidth=2).encode(x, y, color=colour, strokeDash=dash),
        mean.mark_point(filled=True, size=45, opacity=1).encode(x, y, color=colour, tooltip=told),
        alt.Chart(rows[["case", "line", "size", "value"]].round(4)).transform_filter(SHOWN)
        .mark_point(filled=True, size=14, opacity=0.5).encode(x, y),
    )  # fmt: skip


def scaling(results: Results, look: Look) -> ChartType | None:
    """All panels in one figure, a row a setting; None where the study varies no size."""
    made = panels(results, look)
    if not made:
        return None
    rows = []
    for row in made.values():
        width = (WIDTH + 60 - 70 * len(row)) // len(row)
        rows.append(alt.hconcat(*(panel.properties(width=width, height=210) for panel in row.values()), spacing=18))
    explained = "line: mean over seeds; dots: single seeds; logarithmic scales, memory's apart"
    return look.finish(alt.vconcat(*rows, spacing=24), "Growth with size", f"{results.context}\n{explained}")
