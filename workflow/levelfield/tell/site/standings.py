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
from levelfield.tell.tables.leaderboard import leaderboard

COLUMNS = ["model", "study", "group", "case", "row", "like", "value", "low", "high", "interval", "slower", "pairs"]


def standings(studies: list[Told]) -> pd.DataFrame:
    """A row each matched case that ran beside another under its study's own protocol, whatever the model.

    Columns model, study, group (study and machine), case, row (the backend), like (the framework's own row, of which it is an option),
    value, low, high (time over that of the group's fastest; bounds where something is claimed), interval (in words), slower (whether
    it is shown to be), pairs (clean ones).
    """
    found = []
    for one in studies:
        results = one.results
        usual = results.study.protocol
        cases = {case.name: case for case in results.study.expanded if case.matched}
        own = {name for name, case in cases.items() if case.protocol == replace(usual, model=case.protocol.model)}
        rows = leaderboard(results).data
        rows = rows[rows["case"].isin(own - results.twins.keys()) & rows["times_fastest"].notna()]
        for (model, machine), mine in rows.groupby(["model", "machine"], sort=False):
            if len(mine) < 2:
                continue
            for row in mine.itertuples():
                first, claimed = row.case == row.fastest, pd.notna(row.times_fastest_low)
                interval = (
                    "the fastest" if first
                    else f"{row.times_fastest_low:.3f} to {row.times_fastest_high:.3f}" if claimed else f"none: {row.unclaimed}"
                )  # fmt: skip
                backend = cases[row.case].backend
                found.append(
                    {
                        "model": cases[row.case].protocol.model.name, "study": one.name, "group": f"{_named(one, str(model))} · {machine}",
                        "case": row.case, "row": backend, "like": own_row(backend), "value": row.times_fastest,
                        "low": row.times_fastest_low, "high": row.times_fastest_high, "interval": interval,
                        "slower": bool(claimed and row.times_fastest_low > 1), "pairs": row.clean_pairs,
                    }
                )  # fmt: skip
    return pd.DataFrame(found, columns=COLUMNS)


def _named(one: Told, model: str) -> str:
    """The study, and which of its models where two of them have one name and differ in sizes."""
    return f"{one.name}, {model}" if "(" in model else one.name


def own_row(backend: str) -> str:
    """The framework's own row that a backend is an option of, itself where it is none: `torch` of `torch-compile`."""
    try:
        like = registry.backend(backend).like
    except UserError:  # of a package that is not installed here
        return backend
    return own_row(like) if like else backend


def chart(rows: pd.DataFrame, colours: dict[str, str], model: str, look: Look) -> ChartType:
    """A row a study and machine, a mark a case: its time over that of the fastest there. rows: of `standings`, of one model."""
    rows = rows.drop(columns=["low", "high", "model"]).round({"value": 4})
    groups, largest = list(dict.fromkeys(rows["group"])), float(rows["value"].max())
    logarithmic = largest > LOGARITHMIC
    kind = alt.Scale(type="log" if logarithmic else "linear", domain=[0.97, largest * 1.06], nice=False)
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= largest * 1.06]
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
        base.transform_filter("datum.slower").mark_point(filled=True, size=85, opacity=1),
        base.transform_filter("!datum.slower").mark_point(filled=False, size=75, opacity=1, strokeWidth=2),
    ).properties(width=look.width, height=ROW * len(groups))
    values = "; ".join(
        f"{group}: {', '.join(f'{row.case} {row.value:.2f}' for row in mine.itertuples())}"
        for group, mine in rows.groupby("group", sort=False)
    )
    caption = "a line a study and machine, a mark a case; filled: shown to be slower than the fastest, its interval leaves out 1; hollow: not shown to be"
    return look.finish(made, f"With the model {model}", f"\n{caption}", values)


def colours_of(rows: pd.DataFrame) -> dict[str, str]:
    """A colour each framework's own row, the same for every model; with more of them than colours these come again."""
    order = [name for name, row in registry.backends().items() if row.like is None]
    likes = sorted(set(rows["like"]), key=lambda like: (order.index(like) if like in order else len(order), like))
    return {like: CASE_COLOURS[place % len(CASE_COLOURS)] for place, like in enumerate(likes)}
