"""Who is fastest with each model of a study of several, in one sentence; models are never compared with each other."""

import pandas as pd

from levelfield.tell.figures.models import by_model
from levelfield.tell.results import Results
from levelfield.tell.tables.table import Table


def fastest_by_model(results: Results, tables: dict[str, Table]) -> list[str]:
    """The fastest matched case of each model against the next one; nothing where the study has one model or no two cases of one."""
    matched = {case.name for case in results.study.expanded if case.matched}
    rows = by_model(results)
    rows = rows[rows["case"].isin(matched) & rows["value"].notna()]
    told, pairs = [], set()
    for group, mine in rows.groupby("group", sort=False):
        if len(mine) < 2:
            continue
        first, second = mine.head(2).itertuples()
        pair = _compared(tables, first.case, second.case)
        pairs |= {int(pair["pairs"])} if pair is not None else set()
        told.append(f"{group} {_against(first.line, second, pair)}")
    if not told:
        return []
    number = " to ".join(str(count) for count in sorted({min(pairs), max(pairs)})) if pairs else ""
    brackets = f"in brackets 95 % intervals from {number} pairs of seeds; " if rows["low"].notna().any() and pairs else ""
    said = f"{brackets}models are not compared with each other."
    return [f"Fastest by model, against the next: {'; '.join(told)}.", f"{said[0].upper()}{said[1:]}"]


def _compared(tables: dict[str, Table], first: str, second: str) -> pd.Series | None:
    """The row of the comparisons' table that compares two cases on one machine."""
    if "comparisons" not in tables:
        return None
    data = tables["comparisons"].data
    found = data[(data["case"] == first) & (data["against"] == second) & (data["warning"] == "")]
    return found.iloc[0] if len(found) else None


def _against(fastest: str, other, pair: pd.Series | None) -> str:
    """`torch, 1.60 times as fast as jax [1.55, 1.64]`, or what speaks against saying so; `other`: the next one's row."""
    times = f"{other.value:.2f} times as fast as {other.line}"
    if pd.isna(other.low):
        return f"{fastest}, {times}, but too few pairs to say how sure that is"
    times += f" [{other.low:.2f}, {other.high:.2f}]"
    if other.low <= 1:
        return f"{fastest} or {other.line}, no difference shown: {other.value:.2f} times [{other.low:.2f}, {other.high:.2f}]"
    sure = pair is None or pair["speed_p_corrected"] < 0.05
    return f"{fastest}, {times}" if sure else f"{fastest}, {times}, which is not sure among so many comparisons"
