"""Who is fastest with each model of a study of several, in one sentence; models are never compared with each other."""

import pandas as pd

from levelfield.tell.estimates import Estimate
from levelfield.tell.figures.models import by_model
from levelfield.tell.report.faster import MOST, of_sessions
from levelfield.tell.results import Results
from levelfield.tell.tables.families import PairOfCases, pairs_of_cases, unclaimed
from levelfield.tell.tables.table import Row

NEXT = " as fast as the next"
Known = dict[tuple[frozenset[str], str], PairOfCases]


def fastest_by_model(results: Results) -> list[str]:
    """Each model's matched case that no other was shown to be faster than, or all such; nothing where the study has one model, or no
    two cases of one."""
    ranked = {case.name for case in results.study.expanded if case.matched} - results.twins.keys()
    known: Known = {
        (frozenset({one.case, one.against}), one.machine): one for one in pairs_of_cases(results) if not one.found.warning
    }
    rows = by_model(results)
    rows = rows[rows["case"].isin(ranked) & rows["value"].notna() & (rows["rank"] != "")]
    told: list[str] = []
    used: list[PairOfCases] = []
    for group, mine in rows.groupby("group", sort=False):
        words = "" if any(NEXT in sentence for sentence in told) else NEXT
        if sentence := _of_model(mine, known, words, used):
            told.append(f"{group} {sentence}")
    return [f"Fastest by model: {'; '.join(told)}.", _brackets(used)] if told else []


def _of_model(mine: pd.DataFrame, known: Known, words: str, used: list[PairOfCases]) -> str:
    """`torch, 1.60 times as fast as the next [1.55, 1.64]`; or all that may be the fastest, with what speaks against saying so.

    mine: the rows of one model on one machine, the fastest first. used: takes the comparisons that are told.
    """
    leaders = [row for row in mine.itertuples() if row.rank.split("–")[0] == "1"]
    if not leaders:  # where seeds are missing, "faster" may go round in a circle
        return ""
    first, *rest = leaders
    alone = not rest
    seen = [(other, pair) for other in (mine.itertuples() if alone else rest) if (pair := _pair(known, first, other))]
    if not seen:  # alone, or no seed in common
        return ""
    if alone:
        seen = [min(seen, key=lambda found: _ratio(found[1], first).value or 0)]
    used += [pair for _, pair in seen[:MOST] if pair.speed.enough]
    figures = [_figure(_ratio(pair, first), pair, first.case, words if alone else "") for _, pair in seen[:MOST]]
    if alone:
        return f"{first.line}, {figures[0]}"
    others = [f"{other.line} ({figure})" for (other, _), figure in zip(seen, figures, strict=False)]
    more = f" or {len(seen) - MOST} more" if len(seen) > MOST else ""
    nothing = "no difference shown" if all(pair.speed.enough for _, pair in seen) else "nothing is claimed"
    return f"{first.line} or {' or '.join(others)}{more}, {nothing}"


def _pair(known: Known, one: Row, other: Row) -> PairOfCases | None:
    return known.get((frozenset({one.case, other.case}), one.machine))


def _ratio(pair: PairOfCases, first: Row) -> Estimate:
    """The other's time over that of `first`."""
    return pair.speed if pair.case == first.case else pair.speed.inverse


def _figure(ratio: Estimate, pair: PairOfCases, first: str, words: str) -> str:
    told = f"{ratio.value:.2f} times{words}"
    if not ratio.enough:
        return f"{told}, {unclaimed(pair)}"
    return f"{told} [{ratio.low:.2f}, {ratio.high:.2f}]{of_sessions(pair, first)}"


def _brackets(used: list[PairOfCases]) -> str:
    """What the brackets are, and that models stand apart."""
    if not used:
        return "Models are not compared with each other."
    counts = sorted({min(one.clean for one in used), max(one.clean for one in used)})
    together = "simultaneous for each model" if max(one.speed.family for one in used) > 1 else "each by itself"
    number = max(len(one.by_session) for one in used)
    sessions = f" of {number} sessions" if number > 1 else ""
    return (
        f"In brackets 95 % intervals, {together}, from {' to '.join(map(str, counts))} clean pairs of seeds{sessions}; "
        "models are not compared with each other."
    )
