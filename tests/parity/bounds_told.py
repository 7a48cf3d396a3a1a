"""Tables and figure of what `bounds_study.py` found: gathers its records into two CSV files, and tells what stands in these.

python tests/parity/bounds_told.py FOLDER      # gathers, draws, prints the tables
python tests/parity/bounds_told.py             # draws and prints what was gathered before
"""

import csv
import json
import sys
from pathlib import Path

import altair as alt
import pandas as pd

from levelfield.tell.figures import renumbered
from levelfield.tell.figures.theme import CASE_COLOURS, Look, render

OUT = Path(__file__).parent / "bounds"
POINT = ["model", "precision", "corpus", "batch", "length", "seed", "steps"]
SHARES, MISTAKES = OUT / "shares.csv", OUT / "mistakes.csv"
SAME = 1e-6
"""Of a bound: what a mistake comes to that is the same program there, as padding's mask on a batch without padding."""
TURNED = "weights_step_1"
"""In TF32 and bfloat16 some entry's first step of Adam turns round, whose bound is two steps: it lies at its bound, and beyond it by nothing."""


def gathered(folder: Path) -> None:
    """One row of SHARES for each point and program; of MISTAKES for each point whose mistakes were tried."""
    shares, wrong = [], []
    for file in sorted(folder.glob("*/point.json")):
        point = json.loads(file.read_text(encoding="utf-8"))
        place = {key: point[key] for key in POINT}
        for own in sorted(file.parent.glob("*.json")):
            record = json.loads(own.read_text(encoding="utf-8"))
            if own.name == "faults.json":
                record = {name: value for name, value in record.items() if value is None or value > SAME}
                outside = {name: value for name, value in record.items() if value is None or value > 1}
                least = min((value for value in outside.values() if value is not None), default=None)
                inside = "; ".join(f"{name} ({value:.2g})" for name, value in record.items() if name not in outside)
                found = {"mistakes": len(record), "outside": len(outside), "slightest": least, "inside": inside}
                wrong.append(place | found | point["slightest"][point["precision"]])
            elif own.name != "point.json":
                shares.append(place | told_share(own.stem, record, point["precision"]))
    OUT.mkdir(exist_ok=True)
    for path, rows in ((SHARES, shares), (MISTAKES, wrong)):
        with path.open("w", newline="", encoding="utf-8") as to:
            writer = csv.DictWriter(to, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows
            )


def told_share(program: str, record: dict, precision: str) -> dict:
    """The quantity that is nearest to its bound; in TF32 and bfloat16 but for the largest entry of the first step."""
    told = {"program": program, "share": None, "quantity": None, "tensor": None, "turned": None, "missed": None, "error": None}
    if "error" in record:
        return told | {"error": record["error"].replace("\n", " ")[:120]}
    shares = dict(record["shares"])
    turned = shares.pop(TURNED) if precision != "float32" else None
    quantity = max(shares, key=lambda name: float("inf") if shares[name] is None else shares[name])
    found = {"share": shares[quantity], "quantity": quantity, "tensor": record["nearest"][quantity], "turned": turned}
    return told | found | {"missed": "; ".join(record["missed"])}


def no_false_bar(rows: pd.DataFrame) -> str:
    right = rows[(rows["program"] != "numpy-for-float32") & rows["error"].isna()].copy()
    lines = [
        "| model | precision | points | programs | measured | largest share of a bound | median | where the largest is | barred |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|---|--:|")
    for (model, precision), part in right.groupby(["model", "precision"], sort=True):
        most = part.loc[part["share"].idxmax()]
        where = f"{most['program']}, {most['batch']} × {most['length']}, {most['corpus']}, {most['quantity']}"
        where += f" of `{most['tensor']}`" if most["tensor"] != most["quantity"] else ""
        barred = int(part["missed"].fillna("").ne("").sum())
        lines.append(
            f"| `{model}` | {precision} | {len(part[POINT].drop_duplicates())} | {part['program'].nunique()} | {len(part)} | "
            f"{most['share']:.2f} | {part['share'].median():.2g} | {where} | {barred} |"
        )
    return "\n".join(lines)


def no_false_pass(rows: pd.DataFrame) -> str:
    lines = [
        "| model | precision | batch × length | points | outside | slightest | ε of logits | of a gradient | of the rate |"
    ]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for (model, precision, batch, length), part in rows.groupby(["model", "precision", "batch", "length"], sort=True):
        lines.append(
            f"| `{model}` | {precision} | {batch:,} × {length} | {len(part)} | {part['outside'].sum()} of {part['mistakes'].sum()} | "
            f"{part['slightest'].min():.3g} | {part['logits'].max():.1e} | {part['gradient'].max():.1e} | {part['rate'].max():.1e} |"
        )
    return "\n".join(lines)


def inside(rows: pd.DataFrame) -> str:
    """Each mistake that passed somewhere, with the points where."""
    found: dict[str, list[str]] = {}
    for _, row in rows[rows["inside"].fillna("") != ""].iterrows():
        for text in row["inside"].split("; "):
            name, _, value = text.rpartition(" (")
            found.setdefault(f"`{row['model']}`, {row['precision']}: {name}", []).append(
                f"{row['batch']} × {row['length']} {row['corpus']} ({value}"
            )
    return "\n".join(f"- {name}: {', '.join(places)}" for name, places in found.items())


def figure(rows: pd.DataFrame) -> alt.Chart:
    """Each program's nearest distance as a share of its bound, over the tokens of a batch."""
    rows = rows[rows["error"].isna()].copy()
    rows["tokens"] = rows["batch"] * rows["length"]
    rows = rows[rows["share"] > 0]
    rows["case"] = rows["program"].where(rows["program"] != "numpy-for-float32", "TF32 where float32 was asked")
    rows["kind"] = rows["model"].str.removesuffix("-small")
    rows["precision"] = rows["precision"].where(rows["case"] != "TF32 where float32 was asked", "float32")
    cases = sorted(set(rows["case"]), key=lambda name: (name.startswith("TF32"), name == "numpy", name))
    colours = [*CASE_COLOURS[:6], "#8A8F98", "#8A8F98", "#8A8F98"]
    shapes = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "circle", "square", "triangle-up"]
    kept = rows[["case", "kind", "precision", "tokens", "share", "corpus", "batch", "length"]]
    ticks = [1e-3, 0.01, 0.1, 1, 10, 100, 1e3, 1e4]

    def powers(least: float, most: float) -> alt.Scale:
        return alt.Scale(type="log", domain=[least, most])

    base = alt.Chart(kept)
    points = base.mark_point(size=26, filled=True, opacity=0.75).encode(
        x=alt.X("tokens:Q", scale=powers(5, 1e6), title="tokens of a batch", axis=alt.Axis(values=[10, 1e3, 1e5], format="~s")),
        y=alt.Y("share:Q", scale=powers(1e-3, 1e4), title="distance over its bound", axis=alt.Axis(values=ticks, format="~g")),
        color=alt.Color("case:N", scale=alt.Scale(domain=cases, range=colours[: len(cases)]), legend=alt.Legend(title=None)),
        shape=alt.Shape("case:N", scale=alt.Scale(domain=cases, range=shapes[: len(cases)]), legend=alt.Legend(title=None)),
    )  # fmt: skip
    rule = base.mark_rule(strokeDash=[4, 3]).encode(y=alt.datum(1))
    chart = alt.layer(rule, points).properties(width=190, height=170).facet(
        row=alt.Row("kind:N", title=None), column=alt.Column("precision:N", title=None, sort=["float32", "tf32", "bfloat16"]),
    )  # fmt: skip
    told = "each program's quantity that is nearest to its bound; above the line it is barred"
    return Look().finish(chart, "Distance from the reference as a share of the bound", told)


def main() -> None:
    if len(sys.argv) > 1:
        gathered(Path(sys.argv[1]))
    shares, wrong = pd.read_csv(SHARES), pd.read_csv(MISTAKES)
    svg, _ = render(figure(shares))
    (OUT / "shares.svg").write_text(renumbered(svg), encoding="utf-8")
    print(no_false_bar(shares), no_false_pass(wrong), inside(wrong), sep="\n\n")
    told = shares[shares["program"] == "numpy-for-float32"]
    print(f"\nTF32 where float32 was asked: {len(told)} points, least share {told['share'].min():.3g}")
    for _, row in shares[shares["error"].notna()].iterrows():
        print("not measured:", *(str(row[key]) for key in (*POINT, "program", "error")))


if __name__ == "__main__":
    main()
