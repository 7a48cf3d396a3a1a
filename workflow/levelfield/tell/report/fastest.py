"""Who is fastest with each model of a study of several, in one sentence; models are never compared with each other."""

from levelfield.tell.figures.models import by_model
from levelfield.tell.results import Results
from levelfield.tell.tables.families import Compared, compared, unclaimed
from levelfield.tell.tables.table import Row

NEXT = " as fast as the next"


def fastest_by_model(results: Results) -> list[str]:
    """The fastest matched case of each model against the next one; nothing where the study has one model or no two cases of one."""
    ranked = {case.name for case in results.study.expanded if case.matched} - results.twins.keys()
    known = {(frozenset({one.case, one.against}), one.machine): one for one in compared(results) if not one.found.warning}
    rows = by_model(results)
    rows = rows[rows["case"].isin(ranked) & rows["value"].notna()]
    told: list[str] = []
    pairs: set[int] = set()
    for group, mine in rows.groupby("group", sort=False):
        if len(mine) > 1:
            first, second = mine.head(2).itertuples()
            pair = known.get((frozenset({first.case, second.case}), first.machine))
            if pair is None:  # no seed in common
                continue
            pairs |= {pair.clean} if pair.speed.enough else set()
            words = "" if any(NEXT in sentence for sentence in told) else NEXT
            told.append(f"{group} {_against(first, second, pair, words)}")
    if not told:
        return []
    number = " to ".join(map(str, sorted({min(pairs), max(pairs)}))) if pairs else ""
    brackets = f"In brackets simultaneous 95 % intervals from {number} clean pairs of seeds; models" if pairs else "Models"
    return [f"Fastest by model: {'; '.join(told)}.", f"{brackets} are not compared with each other."]


def _against(first: Row, other: Row, pair: Compared, words: str) -> str:
    """`torch, 1.60 times as fast as the next [1.55, 1.64]`, or what speaks against saying so. first, other: the two's rows."""
    fastest = first.line
    if not pair.speed.enough:
        return f"{fastest}, {other.value:.2f} times{words} ({unclaimed(pair)})"
    interval = f"[{other.low:.2f}, {other.high:.2f}]"
    if pair.faster and pair.case != first.case:  # over the clean pairs it is the other way round
        interval = f"[{1 / other.high:.2f}, {1 / other.low:.2f}]"
        return f"{other.line}, {1 / other.value:.2f} times as fast as {fastest} {interval}"
    if not pair.faster:
        return f"{fastest} or {other.line}, no difference shown: {other.value:.2f} times {interval}"
    return f"{fastest}, {other.value:.2f} times{words} {interval}"
