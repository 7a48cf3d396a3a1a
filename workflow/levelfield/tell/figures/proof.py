"""Figures of fairness: how far each case is from the float64 reference, and each case's weights evaluated by all others."""

import re
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.typing import ChartType

from levelfield.errors import UserError
from levelfield.tell.figures.theme import ROW, SHOWN, Look
from levelfield.tell.kept import BrokenRecord, one_line, parsed
from levelfield.tell.outcomes import read_parity
from levelfield.tell.results import Results

FIRST = {"weights_after_warm_up": "weights after warm-up", "probabilities": "outputs", "gradients": "gradients"}
AFTER = re.compile("(probabilities|loss|right|weights|moved|travelled)_step_([0-9]+)")
"""What is told after a step."""
WORDED, MOST = 24, 60
"""Most cases whose exchange is written into its squares, and most that have a square for each other; of more the furthest."""
BEYOND = 3.0
"""Times its bound: where the scale of the exchange's colours ends."""
NUMBERED = 13
"""Most quantities whose distances are written into the squares: of more they would run into each other."""
INK = "#1b1f24"
"""Text on the cells, which are light in both themes of the page."""


def parity_rows(results: Results) -> pd.DataFrame:
    """Columns case, quantity, distance (text), bound (text) and orders: powers of ten above the bound, below it negative."""
    rows = []
    for case in results.cases:
        try:
            parity = read_parity(results.folder, case)
        except BrokenRecord:
            continue  # its runs are barred and say so
        if parity is None:
            continue
        for name, value in parity.measured.items():
            if name not in FIRST and not AFTER.fullmatch(name):
                continue
            bound = parity.bounds.get(name)
            rows.append({
                "case": case, "quantity": name, "distance": _power(value), "bound": "none" if bound is None else _power(bound, 0), "orders": _orders(value, bound),
            })  # fmt: skip
    found = pd.DataFrame(rows, columns=["case", "quantity", "distance", "bound", "orders"])
    found = found.sort_values("quantity", key=lambda names: names.map(_place), kind="stable")
    return found.assign(
        quantity=found["quantity"].map(
            lambda name: FIRST.get(name) or name.replace("probabilities_", "outputs_").replace("_step_", ", step ")
        )
    )


def _place(name: str) -> tuple[int, str]:
    """Where a quantity stands: before the steps, then by step and kind."""
    if name in FIRST:
        return 0, str(list(FIRST).index(name))
    kind, _, step = name.partition("_step_")
    return int(step), kind


def _power(value: float | None, digits: int = 1) -> str:
    """`4.1e-3`: as short as a cell asks for."""
    return "not finite" if value is None else f"{value:.{digits}e}".replace("e-0", "e-") if value else "0"


def _orders(value: float | None, bound: float | None) -> float | None:
    if bound is None:
        return None
    if value is None or bound == 0:
        return -3.0 if value == 0 else 3.0
    return float(np.clip(np.log10(max(value, 1e-300) / bound), -3, 3))


def parity(results: Results, look: Look) -> ChartType | None:
    """Distances of each case from the float64 reference, coloured against their bounds; None where none was measured."""
    rows = parity_rows(results)
    if rows.empty:
        return None
    quantities = list(rows["quantity"].unique())
    cases = [case for case in results.rows if case in set(rows["case"])]
    base = alt.Chart(rows).transform_filter(SHOWN).encode(
        alt.X("quantity:N", sort=quantities, title=None, axis=alt.Axis(orient="top", labelAngle=-28, domain=False, ticks=False)),
        alt.Y("case:N", sort=cases, title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8)),
    )  # fmt: skip
    scale = alt.Scale(domain=[-3, -0.01, 0.01, 3], range=["#7db8de", "#e3f0f8", "#fbe3d2", "#e58a4a"])
    legend = alt.Legend(
        title="distance over its bound", orient="bottom", direction="horizontal", values=[-3, -2, -1, 0, 1, 2, 3],
        labelExpr="datum.value == 0 ? 'bound' : datum.value > 0 ? '× ' + pow(10, datum.value) : '1/' + pow(10, -datum.value)",
        gradientLength=300,
    )  # fmt: skip
    told = [
        alt.Tooltip("case:N"),
        alt.Tooltip("quantity:N"),
        alt.Tooltip("distance:N", title="largest distance"),
        alt.Tooltip("bound:N"),
    ]
    beyond, words = "isValid(datum.orders) && datum.orders > 0", len(quantities) <= NUMBERED
    marked = base.transform_calculate(text=f"({beyond} ? '×' : '')" + (" + ' ' + datum.distance" if words else ""))
    chart = alt.layer(
        base.transform_filter("!isValid(datum.orders)").mark_rect(color="#d5d9de").encode(tooltip=told),
        base.transform_filter("isValid(datum.orders)")
        .mark_rect()
        .encode(color=alt.Color("orders:Q", scale=scale, legend=legend), tooltip=told),
        marked.mark_text(color=INK).encode(text="text:N", tooltip=told),
    ).properties(width=look.width, height=(ROW + 4) * len(cases))
    explained = (
        "largest distance from a float64 reference, measured before anything was timed; ×: above the bound; grey: no bound"
    ) + ("" if words else "\nthe table has the numbers")
    return look.finish(chart, "Parity", f"{results.context}\n{explained}")


def _exchanged(found: dict[str, Any]) -> pd.DataFrame:
    """Columns trained, evaluated, accuracy and off: its distance from the first of its row, over the row's bound."""
    bounds = found.get("bounds") or dict.fromkeys(found["accuracy"], found["bound"])  # older records have one for all
    return pd.DataFrame(
        {
            "trained": trainer,
            "evaluated": case,
            "accuracy": value,
            "off": _over(abs(value - next(iter(row.values()))), bounds[trainer]),
        }
        for trainer, row in found["accuracy"].items()
        for case, value in row.items()
    )


def _over(difference: float, bound: float) -> float:
    """Of a bound, which is 0 where rounding decides no sequence: then any difference is far beyond it."""
    return difference / bound if bound else BEYOND * bool(difference)


def exchange(results: Results, look: Look) -> ChartType | None:
    """Accuracy of each case's weights as every case evaluates them; None where `snakemake exchange` was not run."""
    file = results.folder / "exchange.json"
    if not file.exists():
        return None
    try:
        found = parsed(file.read_bytes())
        rows = _exchanged(found)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"{file}: is no matrix of `snakemake exchange`: {one_line(error)}: delete it, and type that again"
        ) from None
    cases = rows["trained"].nunique()
    if cases > MOST:
        rows = rows.loc[rows.groupby("trained", sort=False)["off"].idxmax()].assign(evaluated="whoever differs most")
    # both axes are cases: the switches act on the rows alone
    base = alt.Chart(rows.rename(columns={"trained": "case"}).round(6)).transform_filter(SHOWN).encode(
        alt.X("evaluated:N", sort=results.cases, title="evaluated by", axis=alt.Axis(orient="top", labelAngle=-28, domain=False, ticks=False)),
        alt.Y("case:N", sort=results.cases, title="trained by", axis=alt.Axis(domain=False, ticks=False, labelPadding=8)),
    )  # fmt: skip
    scale = alt.Scale(domain=[0, 1, 1.001, BEYOND], range=["#cfe5f3", "#7db8de", "#fbe3d2", "#e58a4a"], clamp=True)
    legend = alt.Legend(
        title="difference in its row, over the bound",
        titleLimit=400,
        orient="bottom",
        direction="horizontal",
        gradientLength=300,
    )
    told = [
        alt.Tooltip("case:N", title="trained by"),
        alt.Tooltip("evaluated:N", title="evaluated by"),
        alt.Tooltip("accuracy:Q", title="validation accuracy", format=".5f"),
    ]
    text = base.mark_text(color=INK).encode(text=alt.Text("accuracy:Q", format=".4f"), tooltip=told)
    chart = alt.layer(
        base.mark_rect().encode(color=alt.Color("off:Q", scale=scale, legend=legend), tooltip=told),
        *([] if WORDED < cases <= MOST else [text]),
    ).properties(width=look.width, height=(ROW + 4) * cases)
    explained = f"validation accuracy of the weights of seed {found['seed']}; each row must agree within its bound, {found['bound']:g} at most"
    return look.finish(chart, "Exchange of weights", f"{results.context}\n{explained}")
