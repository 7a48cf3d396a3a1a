"""The figure of the data: how many texts each label has, how long they are, and what of them a model sees."""

from textwrap import wrap
from typing import Any

import altair as alt
import pandas as pd
from altair.typing import ChartType

from levelfield.tell.figures.theme import LINE, PART_COLOURS, Look, Panel
from levelfield.tell.results import Results

PARTS = {"train": "training", "validation": "validation"}
COLOURS = alt.Scale(domain=[*PARTS.values()], range=[PART_COLOURS[3], PART_COLOURS[4]])
MOST_LABELS = 20
"""Labels that have a bar; of more those with the most texts."""
TITLES = {
    "labels": "Texts of each label",
    "lengths": "Words of a text",
    "shares": "What a model sees of them",
}
EXPLAINED = {
    "labels": "training and validation part",
    "lengths": "share of the part's texts; dashed: the length that longer ones are cut to and shorter ones padded to; the last bar holds all longer texts",
    "shares": "padding, unknown: of all tokens, of those that are no padding; truncated, empty, duplicates: of the texts",
}
HEIGHT = 190


def data(results: Results, look: Look) -> ChartType | None:
    """All panels; None where `data.json` was written by a version that told less."""
    return told(results.data, look)


def told(data: dict[str, Any], look: Look) -> ChartType | None:
    """The same of a `data.json`."""
    made = panels(data)
    if not made:
        return None
    titled = [
        panel.properties(
            width=look.width, title=alt.TitleParams(TITLES[name], subtitle=wrap(EXPLAINED[name], LINE), fontSize=14)
        )
        for name, panel in made.items()
    ]
    size = f"{data['train_sequences']:,} training and {data['validation_sequences']:,} validation sequences"
    return look.finish(alt.vconcat(*titled, spacing=18), f"The data: {data['title']}", size)


def panels(data: dict[str, Any]) -> dict[str, Panel]:
    """Each panel by its name in `TITLES`; none where `data.json` was written by a version that told less."""
    if "train_classes" not in data or "train_lengths" not in data:
        return {}
    return {"labels": _labels(data), "lengths": _lengths(data), "shares": _shares(data)}


def values(data: dict[str, Any], name: str) -> str:
    """A panel's figures in words, for readers who do not see it."""
    if name == "labels":
        return ", ".join(f"{row['label']} {row['texts']:,} ({row['part']})" for row in label_rows(data))
    if name == "lengths":
        return ", ".join(f"{word}: median {data[f'{part}_words']['median']:,.0f} words" for part, word in PARTS.items())
    return ", ".join(f"{row['what']} {row['share']:.1%} ({row['part']})" for row in share_rows(data))


def label_rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """A row each label and part; of very many labels those with the most training texts."""
    counts = data["train_classes"]
    chosen = sorted(counts, key=counts.get, reverse=True)[:MOST_LABELS] if len(counts) > MOST_LABELS else list(counts)
    return [
        {"label": label, "part": word, "texts": data[f"{part}_classes"][label]}
        for label in chosen
        for part, word in PARTS.items()
    ]


def length_rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """A row each part and bar: from so many words to so many (of the last one all that are longer), and the share of the texts."""
    rows = []
    for part, word in PARTS.items():
        width, counts = data[f"{part}_lengths"]["words"], data[f"{part}_lengths"]["texts"]
        rows += [
            {"part": word, "from": place * width, "to": (place + 1) * width, "share": count / sum(counts)}
            for place, count in enumerate(counts)
        ]
    return rows


def share_rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """A row each share and part that is known."""
    rows = []
    for part, word in PARTS.items():
        texts = data[f"{part}_sequences"]
        duplicates = data["train_duplicates"] if part == "train" else data["validation_also_in_train"]
        shares = {
            "padding": data[f"{part}_padding_share"], "truncated": data[f"{part}_truncated_share"],
            "unknown words": data[f"{part}_unknown_share"], "empty": data[f"{part}_empty"] / texts,
            "duplicates in training": duplicates / texts,
        }  # fmt: skip
        rows += [{"what": what, "part": word, "share": share} for what, share in shares.items() if share is not None]
    return rows


def _colour() -> alt.Color:
    return alt.Color("part:N", scale=COLOURS, legend=alt.Legend(title=None))


def _labels(data: dict[str, Any]) -> Panel:
    rows = pd.DataFrame(label_rows(data))
    labels = list(dict.fromkeys(rows["label"]))
    told = [alt.Tooltip("label:N"), alt.Tooltip("part:N"), alt.Tooltip("texts:Q", format=",d")]
    return _bars(
        rows, "label", labels, alt.X("texts:Q", title="texts", axis=alt.Axis(format=",d", tickMinStep=1)), ",d", "texts", told
    )


def _shares(data: dict[str, Any]) -> Panel:
    rows = pd.DataFrame(share_rows(data))
    told = [alt.Tooltip("what:N"), alt.Tooltip("part:N"), alt.Tooltip("share:Q", format=".2%")]
    x = alt.X("share:Q", title="share", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    return _bars(rows, "what", list(dict.fromkeys(rows["what"])), x, ".1%", "share", told)


def _bars(rows: pd.DataFrame, name: str, order: list[str], x: alt.X, form: str, figure: str, told: list[alt.Tooltip]) -> Panel:
    y = alt.Y(f"{name}:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False, labelPadding=8))
    base = alt.Chart(rows).encode(y, yOffset=alt.YOffset("part:N", sort=[*PARTS.values()]))
    return alt.layer(
        base.mark_bar().encode(x, color=_colour(), tooltip=told),
        base.mark_text(align="left", dx=6).encode(x=alt.X(f"{figure}:Q"), text=alt.Text(f"{figure}:Q", format=form)),
    ).properties(height=30 * len(order))


def _lengths(data: dict[str, Any]) -> Panel:
    rows = pd.DataFrame(length_rows(data)).round(5)
    told = [
        alt.Tooltip("part:N"), alt.Tooltip("from:Q", title="words, from", format=",d"),
        alt.Tooltip("to:Q", title="to below", format=",d"), alt.Tooltip("share:Q", title="of the texts", format=".2%"),
    ]  # fmt: skip
    bars = alt.Chart(rows).mark_bar(opacity=0.6).encode(
        alt.X("from:Q", title="words", axis=alt.Axis(format=",d")), alt.X2("to:Q"),
        alt.Y("share:Q", title="share of the texts", stack=None, axis=alt.Axis(format=".0%")), alt.Y2Datum(0), color=_colour(), tooltip=told,
    )  # fmt: skip
    rule = alt.Chart(pd.DataFrame({"length": [data["length"]]})).mark_rule(strokeDash=[5, 3]).encode(alt.X("length:Q"))
    return alt.layer(bars, rule).properties(height=HEIGHT)
