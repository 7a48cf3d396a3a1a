"""Who is fastest with each model of a study of several, in one sentence; models are never compared with each other."""

import pandas as pd

from levelfield.tell.figures.models import by_model
from levelfield.tell.results import Results
from levelfield.tell.tables.table import Table

NEXT = " as fast as the next"


def fastest_by_model(results: Results, tables: dict[str, Table]) -> list[str]:
    """The fastest matched case of each model against the next one; nothing where the study has one model or no two cases of one."""
    matched = {case.name for case in results.study.expanded if case.matched}
    rows = by_model(results)
    rows = rows[rows["case"].isin(matched) & rows["value"].notna()]
    told, pairs = [], set()
    for group, mine in rows.groupby("group", sort=False):
        if len(mine) > 1:
            first, second = mine.head(2).itertuples()
            pair = _compared(tables, first.case, second.case)
            pairs |= set() if pair is None or pd.isna(second.low) else {int(pair["pairs"])}
            words = "" if any(NEXT in sentence for sentence in told) else NEXT
            told.append(f"{group} {_against(first.line, second, pair, words)}")
    if not told:
        return []
    number = " to ".join(map(str, sorted({min(pairs), max(pairs)}))) if pairs else ""
    brackets = f"In brackets 95 % intervals from {number} pairs of seeds; models" if pairs else "Models"
    return [f"Fastest by model: {'; '.join(told)}.", f"{brackets} are not compared with each other."]


def _compared(tables: dict[str, Table], first: str, second: str) -> pd.Series | None:
    """The row of the comparisons' table that compares two cases on one machine."""
    if "comparisons" not in tables:
        return None
    data = tables["comparisons"].data
    found = data[(data["case"] == first) & (data["against"] == second) & (data["warning"] == "")]
    return found.iloc[0] if len(found) else None


def _against(fastest: str, other, pair: pd.Series | None, words: str) -> str:
    """`torch, 1.60 times as fast as the next [1.55, 1.64]`, or what speaks against saying so. other: the next one's row."""
    if pd.isna(other.low):
        return f"{fastest}, {other.value:.2f} times{words} (too few pairs)"
    interval = f"[{other.low:.2f}, {other.high:.2f}]"
    if other.low <= 1:
        return f"{fastest} or {other.line}, no difference shown: {other.value:.2f} times {interval}"
    unsure = pair is not None and pair["speed_p_corrected"] >= 0.05
    return f"{fastest}, {other.value:.2f} times{words} {interval}{', not sure among so many comparisons' if unsure else ''}"
