"""Figures of cost: throughput, where the wall time goes, latency, memory, energy."""

import altair as alt
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.figures.theme import PART_COLOURS, ROW, SHOWN, Look, Panel, room, scale
from levelfield.tell.results import Results

PARTS = {
    "import": "import_seconds", "build": "build_seconds", "warm-up": "warm_up_seconds", "training": "train_seconds",
    "validation": "validation_seconds",
}  # fmt: skip
MEMORY = {
    "host": "host_peak_bytes", "GPU tensors": "allocated_peak_bytes", "GPU allocator": "reserved_peak_bytes",
    "GPU by NVML": "nvml_peak_bytes",
}  # fmt: skip
MADE_OF = {"finished": "", "failed": "failed", "missing": "missing", "failed-parity": "failed parity"}


def throughput(results: Results, look: Look) -> ChartType:
    """Training sequences a second, of each run's epochs together."""
    values = results.throughput.rename(columns={"sequences_per_second": "value"})[["case", "seed", "value"]]
    chart = _bars(values, results, look, "training sequences a second", ",.0f")
    return look.finish(
        chart, "Throughput", f"{results.context}\nbar: mean over seeds; dots: single seeds; longer is faster", _told(values)
    )


def energy(results: Results, look: Look) -> ChartType | None:
    """Joules of the GPU for 1,000 training sequences; None where none was measured."""
    measured = results.epochs.dropna(subset=["energy_joules"])
    if measured.empty:
        return None
    measured = measured.assign(sequences=measured["sequences_per_second"] * measured["train_seconds"])
    total = measured.groupby(["case", "seed"], as_index=False)[["energy_joules", "sequences"]].sum()
    values = total.assign(value=1000 * total["energy_joules"] / total["sequences"])[["case", "seed", "value"]]
    chart = _bars(values, results, look, "joules for 1,000 training sequences", ",.3~r")
    return look.finish(
        chart,
        "Energy of the GPU",
        f"{results.context}\nbar: mean over seeds; dots: single seeds; shorter is better",
        _told(values),
    )


def _bars(values: pd.DataFrame, results: Results, look: Look, title: str, form: str) -> Panel:
    """A bar of the mean for each case with its seeds as dots; cases without a value say why. Columns case, seed, value."""
    means = _rows(results).merge(
        values.groupby("case", as_index=False).agg(value=("value", "mean"), low=("value", "min"), high=("value", "max")),
        how="left",
    )
    y = _cases(results)
    x = _axis("value", title, values["value"].max())
    colour = alt.Color("case:N", scale=scale(results), legend=None)
    told = [alt.Tooltip("case:N"), *(alt.Tooltip(f"{name}:Q", title=word, format=form) for name, word in
            (("value", f"{title}, mean"), ("low", "lowest seed"), ("high", "highest seed"))), alt.Tooltip("note:N", title="runs")]  # fmt: skip
    base = alt.Chart(means).transform_filter(SHOWN).encode(y)
    bars = base.mark_bar(opacity=0.85, height={"band": 0.62}).encode(x, color=colour, tooltip=told)
    dots = alt.Chart(values).transform_filter(SHOWN).mark_point(filled=True, size=16, opacity=0.8).encode(y, x)
    text = base.transform_calculate(
        label=f"(isValid(datum.value) ? format(datum.value, '{form}') : '') + (datum.note && isValid(datum.value) ? ' · ' + datum.note : datum.note)",
        end="isValid(datum.value) ? datum.high : 0",
    ).mark_text(align="left", dx=8)  # fmt: skip
    text = text.encode(x=alt.X("end:Q"), text="label:N")
    return alt.layer(bars, dots, text).properties(width=look.width, height=ROW * len(results.cases))


def _told(values: pd.DataFrame) -> str:
    """Each case's mean in words, for readers who do not see the chart. Columns case, value."""
    means = values.groupby("case", sort=False)["value"].mean()
    return ", ".join(f"{case} {mean:,.3g}" if mean < 1000 else f"{case} {mean:,.0f}" for case, mean in means.items())


def _cases(results: Results) -> alt.Y:
    return alt.Y("case:N", title=None, sort=results.rows, axis=alt.Axis(labelPadding=8, domain=False, ticks=False))


def _axis(name: str, title: str, largest: float) -> alt.X:
    """An axis from 0, with room for the label of the longest bar."""
    return alt.X(f"{name}:Q", title=title, scale=alt.Scale(domain=room(largest)), axis=alt.Axis(tickCount=6))


def _rows(results: Results) -> pd.DataFrame:
    """Each case with a note on its runs that are not finished, such as `2 of 3 seeds` or `failed`."""
    rows = []
    for case in results.cases:
        counts = results.runs.loc[results.runs["case"] == case, "status"].value_counts()
        done, planned = int(counts.get("finished", 0)), int(counts.sum())
        others = ", ".join(f"{counts[kind]} {word}" for kind, word in MADE_OF.items() if word and kind in counts)
        if done == 0:
            others = next((word for kind, word in MADE_OF.items() if counts.get(kind, 0) == planned), others)
        rows.append({"case": case, "note": "" if done == planned else f"{done} of {planned} seeds" if done else others})
    return pd.DataFrame(rows)


def time(results: Results, look: Look) -> ChartType:
    """Where the wall time of a run goes, from the start of its process to its record."""
    runs = results.finished
    parts = pd.DataFrame({"case": runs["case"], **{name: runs[column] for name, column in PARTS.items()}})
    parts["rest"] = (runs["process_seconds"] - parts[list(PARTS)].sum(axis=1)).clip(lower=0)
    names = [*PARTS, "rest"]
    means = parts.groupby("case", sort=False)[names].mean().reset_index()
    long = means.melt("case", names, "part", "seconds").assign(place=lambda frame: frame["part"].map(names.index))
    totals = _rows(results).merge(means.assign(total=means[names].sum(axis=1))[["case", "total"]], how="left")
    y = _cases(results)
    legend = alt.Legend(title=None, columns=alt.Undefined if look.page else 6)
    bars = alt.Chart(long.round(3)).transform_filter(SHOWN).mark_bar(height={"band": 0.7}).encode(
        y,
        _axis("seconds", "seconds of wall time of one run", totals["total"].max()),
        alt.Color("part:N", scale=alt.Scale(domain=names, range=list(PART_COLOURS)), legend=legend),
        alt.Order("place:O"),
        [alt.Tooltip("case:N"), alt.Tooltip("part:N", title="part of the run"), alt.Tooltip("seconds:Q", title="seconds, mean", format=",.1f")],
    )  # fmt: skip
    text = alt.Chart(totals.round(1)).transform_filter(SHOWN).transform_calculate(
        label="(isValid(datum.total) ? format(datum.total, ',.0f') + ' s' : '') + (datum.note && isValid(datum.total) ? ' · ' + datum.note : datum.note)",
        end="isValid(datum.total) ? datum.total : 0",
    ).mark_text(align="left", dx=8).encode(y, alt.X("end:Q"), alt.Text("label:N"))  # fmt: skip
    chart = alt.layer(bars, text).properties(width=look.width, height=ROW * len(results.cases))
    told = _told(totals.dropna().rename(columns={"total": "value"}))
    return look.finish(
        chart, "Where the wall time goes", f"{results.context}\nmean over seeds; warm-up holds all compilation", told
    )


def memory(results: Results, look: Look) -> ChartType:
    """Peak memory of a run: of the process on the host, and on the GPU where there is one."""
    runs = results.finished
    long = pd.concat(
        [runs[["case", "seed"]].assign(kind=kind, value=runs[column] / 1e9) for kind, column in MEMORY.items()]
    ).dropna()
    kinds = [kind for kind in MEMORY if kind in set(long["kind"])]
    if len(kinds) > 1:
        chart = _memory_by_kind(long, kinds, results, look)
    else:
        chart = _bars(long, results, look, "GB of host memory at the peak", ",.2f")
    told = _told(long[long["kind"] == kinds[0]]) if kinds else ""
    return look.finish(chart, "Peak memory", f"{results.context}\nmean over seeds; shorter is better", told)


def _memory_by_kind(long: pd.DataFrame, kinds: list[str], results: Results, look: Look) -> Panel:
    means = (
        long.groupby(["case", "kind"], sort=False, as_index=False).agg(value=("value", "mean"), high=("value", "max")).round(4)
    )
    y, offset = _cases(results), alt.YOffset("kind:N", sort=kinds)
    colours = alt.Scale(domain=kinds, range=[PART_COLOURS[list(MEMORY).index(kind)] for kind in kinds])
    told = [alt.Tooltip("case:N"), alt.Tooltip("kind:N", title="memory"), alt.Tooltip("value:Q", title="GB, mean", format=".2f"),
            alt.Tooltip("high:Q", title="GB, highest seed", format=".2f")]  # fmt: skip
    bars = alt.Chart(means).transform_filter(SHOWN).encode(y, _axis("value", "GB at the peak", means["value"].max()), offset)
    return alt.layer(
        bars.mark_bar().encode(color=alt.Color("kind:N", scale=colours, legend=alt.Legend(title=None)), tooltip=told),
        bars.mark_text(align="left", dx=6).encode(text=alt.Text("value:Q", format=".2f")),
        _notes(results, means, 44),
    ).properties(width=look.width, height=15 * len(kinds) * len(results.cases))


def _notes(results: Results, means: pd.DataFrame, away: int) -> alt.Chart:
    """Beside a case's largest `value` (or at 0): which of its runs are not finished."""
    notes = _rows(results).merge(means.groupby("case", as_index=False)["value"].max(), how="left").fillna({"value": 0})
    shown: alt.Chart = alt.Chart(notes[notes["note"] != ""]).transform_filter(SHOWN).mark_text(align="left", dx=away)
    return shown.encode(_cases(results), alt.X("value:Q"), alt.Text("note:N"))


def latency(results: Results, look: Look) -> ChartType | None:
    """Time of single training steps, p50 to p99, from the probe after training; None where none was taken."""
    runs = results.finished
    marks = {"p50": "latency_p50_seconds", "p90": "latency_p90_seconds", "p99": "latency_p99_seconds"}
    if runs[list(marks.values())].dropna().empty:
        return None
    means = pd.DataFrame({"case": runs["case"], **{name: 1000 * runs[column] for name, column in marks.items()}})
    means = means.dropna().groupby("case", sort=False, as_index=False).mean().round(4)
    base = alt.Chart(means).transform_filter(SHOWN).encode(_cases(results))
    colour = alt.Color("case:N", scale=scale(results), legend=None)
    told = [
        alt.Tooltip("case:N"),
        *(alt.Tooltip(f"{name}:Q", title=f"{name}, milliseconds a step", format=",.2f") for name in marks),
    ]
    dots = base.transform_fold(list(marks), ["mark", "ms"]).mark_point(filled=True, size=90, opacity=1)
    shapes = alt.Scale(domain=list(marks), range=["circle", "diamond", "triangle-right"])
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(_axis("p50", "milliseconds a training step", means["p99"].max()), alt.X2("p99:Q"), color=colour),
        dots.encode(alt.X("ms:Q"), color=colour, shape=alt.Shape("mark:N", scale=shapes, legend=alt.Legend(title=None)), tooltip=told),
        _notes(results, means.assign(value=means["p99"]), 14),
    ).properties(width=look.width, height=ROW * len(results.cases))  # fmt: skip
    explained = "single steps, the device synchronised after each; mean over seeds; further left is faster"
    return look.finish(
        chart, "Latency of a training step", f"{results.context}\n{explained}", _told(means.assign(value=means["p50"]))
    )
