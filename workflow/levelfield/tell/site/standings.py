"""Over all studies, model by model: how near to the fastest each case stays. Studies are not compared with each other."""

from dataclasses import replace

import altair as alt
import pandas as pd
from altair.typing import ChartType

from levelfield import registry
from levelfield.errors import UserError
from levelfield.tell.figures.models import LOGARITHMIC, TITLE
from levelfield.tell.figures.theme import CASE_COLOURS, ROW, Look
from levelfield.tell.site.studies import Told
from levelfield.tell.tables.families import setting
from levelfield.tell.tables.table import Row

SLOWER, OPEN, NO_CLAIM = "slower", "open", "no claim"
"""Whether a case is shown to be slower than the fastest, is not shown to be, or bears no claim: too few clean pairs."""
COLUMNS = ["model", "study", "group", "case", "like", "value", "interval", "claim", "pairs"]


def standings(studies: list[Told]) -> pd.DataFrame:
    """A row each matched case that ran beside another of its protocol, in the studies that proved what they timed.

    The protocol is the study's own, whatever the model; of a study that varies a size and has no case of its own protocol, each that it
    has. Columns model, study, group (study, what the protocol has of its own, machine), case, like (the framework's own row, of which
    its backend is an option), value (time over that of the group's fastest), interval (in words), claim, pairs (clean ones).
    """
    found = []
    for one in studies:
        results = one.results
        if not results.study.parity:
            continue
        usual = results.study.protocol
        matched = {case.name: case for case in results.study.expanded if case.matched and case.name not in results.twins}
        own = {name for name, case in matched.items() if case.protocol == replace(usual, model=case.protocol.model)}
        rows = one.board
        rows = rows[rows["case"].isin(own or matched.keys()) & rows["times_fastest"].notna()]
        rows = rows.assign(setting=["" if own else setting(results, matched[case]) for case in rows["case"]])
        for (model, what, machine), mine in rows.groupby(["model", "setting", "machine"], sort=False):
            group = " · ".join(filter(None, [one.label, _sizes(str(model)), str(what), str(machine)]))
            for row in mine.itertuples() if len(mine) > 1 else ():
                case = matched[row.case]
                found.append(
                    {
                        "model": case.protocol.model.name, "study": one.label, "group": group, "case": row.case,
                        "like": own_row(case.backend), "value": row.times_fastest, "interval": _interval(row), "claim": _claim(row),
                        "pairs": row.clean_pairs,
                    }
                )  # fmt: skip
    return pd.DataFrame(found, columns=COLUMNS)


def left_out(studies: list[Told], rows: pd.DataFrame) -> dict[str, str]:
    """The studies that `standings` has no row of, and why."""
    drawn = set(rows["study"])
    return {
        one.label: "no two matched cases of one protocol finished on one machine"
        if one.results.study.parity
        else "parity was not asked for"
        for one in studies
        if one.label not in drawn
    }


def _sizes(model: str) -> str:
    """What `results.models` adds to a model's name where a study has one model in several sizes."""
    return model.partition("(")[2].removesuffix(")")


def _interval(row: Row) -> str:
    if row.case == row.fastest:
        return "the fastest"
    if pd.isna(row.times_fastest_low):
        return f"none: {row.unclaimed}"
    return f"{row.times_fastest_low:.3f} to {row.times_fastest_high:.3f}"


def _claim(row: Row) -> str:
    if row.case != row.fastest and pd.isna(row.times_fastest_low):
        return NO_CLAIM
    return SLOWER if row.shown_slower else OPEN


def own_row(backend: str) -> str:
    """The framework's own row that a backend is an option of, itself where it is none: `torch` of `torch-compile`."""
    try:
        like = registry.backend(backend).like
    except UserError:  # of a package that is not installed here
        return backend
    return own_row(like) if like else backend


def chart(rows: pd.DataFrame, colours: dict[str, str], model: str, look: Look) -> ChartType:
    """A row a study and machine, a mark a case: its time over that of the fastest there. rows: of `standings`, of one model."""
    rows = rows.drop(columns="model").round({"value": 4})
    groups, least, largest = list(dict.fromkeys(rows["group"])), float(rows["value"].min()), float(rows["value"].max())
    logarithmic = largest > LOGARITHMIC
    kind = alt.Scale(type="log" if logarithmic else "linear", domain=[min(0.97, least / 1.03), largest * 1.06], nice=False)
    ticks = [tick for tick in (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= largest * 1.06]
    axis = alt.Axis(values=ticks, format="~g") if logarithmic else alt.Axis(tickCount=6)
    likes = [like for like in colours if like in set(rows["like"])]
    scale = alt.Scale(domain=likes, range=[colours[like] for like in likes])
    colour = alt.Color("like:N", scale=scale, legend=alt.Legend(title=None, symbolType="circle"))
    told = [alt.Tooltip("study:N"), alt.Tooltip("case:N"), alt.Tooltip("value:Q", title=TITLE, format=".3f"),
            alt.Tooltip("interval:N", title="95 % interval, simultaneous"), alt.Tooltip("pairs:Q", title="clean pairs")]  # fmt: skip
    y = alt.Y(
        "group:N", sort=groups, title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8, labelLimit=380, grid=True)
    )
    title = TITLE + (" (logarithmic)" if logarithmic else "")
    x = alt.X("value:Q", title=title, scale=kind, axis=axis)
    base = alt.Chart(rows).encode(y, x, colour, tooltip=told)
    made = alt.layer(
        alt.Chart(pd.DataFrame({"one": [1.0]}))
        .mark_rule(strokeDash=[3, 3])
        .encode(alt.X("one:Q", title=title, scale=kind, axis=axis)),
        base.transform_filter(f"datum.claim == '{SLOWER}'").mark_point(filled=True, size=85, opacity=1),
        base.transform_filter(f"datum.claim == '{OPEN}'").mark_point(filled=False, size=75, opacity=1, strokeWidth=2),
        base.transform_filter(f"datum.claim == '{NO_CLAIM}'").mark_point(shape="cross", size=55, opacity=0.6),
    ).properties(width=look.width, height=ROW * len(groups))
    values = "; ".join(
        f"{group}: {', '.join(_told(row) for row in mine.itertuples())}" for group, mine in rows.groupby("group", sort=False)
    )
    caption = "a line a study and machine, a mark a case; filled: shown to be slower than the fastest; hollow: not shown to be; cross: no claim, too few clean pairs"
    return look.finish(made, f"With the model {model}", f"\n{caption}", values)


def _told(row: Row) -> str:
    return f"{row.case} {row.value:.2f}" + {SLOWER: " (slower)", OPEN: "", NO_CLAIM: " (no claim)"}[row.claim]


def colours_of(rows: pd.DataFrame) -> dict[str, str]:
    """A colour each framework's own row, the same for every model; with more of them than colours these come again."""
    order = [name for name, row in registry.backends().items() if row.like is None]
    likes = sorted(set(rows["like"]), key=lambda like: (order.index(like) if like in order else len(order), like))
    return {like: CASE_COLOURS[place % len(CASE_COLOURS)] for place, like in enumerate(likes)}
