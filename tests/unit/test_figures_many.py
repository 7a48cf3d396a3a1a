"""Figures of much, of little and of what is not finite: drawn, small, every case named, nothing told that was not measured."""

import json
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
from made_study import make_study

from levelfield.tell.collect import collect
from levelfield.tell.figures import OBLIGATORY, write_figures
from levelfield.tell.figures.curves import POINTS
from levelfield.tell.figures.learning import step_curves
from levelfield.tell.figures.proof import exchange
from levelfield.tell.figures.theme import LINE, LONGEST, Look, render, room, shortened, with_short_names
from levelfield.tell.figures.validation import panels, thinned
from levelfield.tell.results import Results

SIX = ["keras-tensorflow", "keras-jax", "keras-torch", "torch", "torch-compile", "jax"]
LONG = "a-name-of-a-case-that-says-everything-about-it-and-more-than-anybody-reads"
MOST_BYTES = 2_000_000
pytestmark = pytest.mark.long


def collected(folder, **options):
    collect(make_study(folder, **options))
    return folder


def named(count: int, name: str = "case") -> list[dict]:
    return [{"backend": "torch", "name": f"{name}-{number}"} for number in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        {"cases": SIX, "epochs": 100, "steps": 20},
        {"cases": named(60), "epochs": 100, "steps": 3},
        {"cases": SIX, "seeds": list(range(167)), "steps": 3},
        {"cases": ["torch"], "seeds": [0], "epochs": 1, "steps": 2},
        {"cases": ["torch", "jax"], "steps": 3, "failures": {(case, seed): "missing" for case in ("torch", "jax") for seed in range(3)}},
        {"cases": named(8, LONG), "steps": 3},
        {"cases": ["torch", "jax"], "vary": {"length": [50, 100, 200]}, "seeds": list(range(60)), "steps": 3},
    ],
    ids=["100 epochs", "60 cases of 100 epochs", "1,002 runs", "one run", "none finished", "long names", "360 runs of sizes"],
)  # fmt: skip
def test_every_figure_is_drawn_and_small(tmp_path, options):
    folder = collected(tmp_path / "study", **options)
    written = {path.stem: path.stat().st_size for path in write_figures(folder) if path.suffix == ".svg"}
    assert {*OBLIGATORY} <= set(written) and max(written.values()) < MOST_BYTES, written
    assert len(step_curves(Results.read(folder)).means) <= POINTS and len(thinned(Results.read(folder))) <= 10 * POINTS


def texts(svg: str) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", svg))


def test_each_of_sixty_cases_stands_in_the_legend_and_the_rows(tmp_path):
    folder = collected(tmp_path / "study", cases=named(60), seeds=[0], steps=3)
    write_figures(folder)
    for name in ("loss", "validation", "throughput", "parity"):
        assert {f"case-{number}" for number in range(60)} <= texts((folder / f"figures/{name}.svg").read_text("utf-8")), name


def test_long_names_are_shown_short_and_apart(tmp_path):
    folder = collected(tmp_path / "study", cases=named(3, LONG), seeds=[0], steps=3)
    write_figures(folder)
    shown = shortened([f"{LONG}-{number}" for number in range(3)])
    assert shown[f"{LONG}-1"] == "a-name-of-a-case-th…e-than-anybody-reads-1"[:19] + "…" + "e-than-anybody-reads-1"[-20:]
    for name in ("loss", "validation", "throughput", "time", "memory", "latency", "parity"):
        assert set(shown.values()) <= texts((folder / f"figures/{name}.svg").read_text("utf-8")), name


def test_shortened_names_never_meet():
    names = ["x" * 30 + middle + "y" * 30 for middle in "abcdefghijkl"] + ["short"]
    found = shortened(names)
    assert len(set(found.values())) == 12 and max(map(len, found.values())) <= LONGEST and "short" not in found


def test_an_axis_that_is_switched_off_stays_off():
    spec = {
        "datasets": {"a": [{"case": "n" * 50}]},
        "encoding": {"x": {"field": "case", "type": "nominal", "axis": None}, "y": {"field": "case", "type": "nominal"}},
    }
    made = with_short_names(spec)["encoding"]
    assert made["x"]["axis"] is None and "datum.label" in made["y"]["axis"]["labelExpr"]
    assert with_short_names(spec | {"datasets": {}}) == spec | {"datasets": {}}


def test_long_lines_beneath_a_title_are_broken(tmp_path):
    chart = render(Look().finish(_bars(), "A title", "word " * 100))[0]
    assert max(map(len, texts(chart))) <= LINE


def _bars():

    return alt.Chart(pd.DataFrame({"case": ["a"], "value": [1]})).mark_bar().encode(x="value:Q", y="case:N")


@pytest.fixture
def diverged(tmp_path):
    """A study of two cases: of `torch`, seed 1 has NaN in the last two of six steps, and infinity as its last validation loss."""
    folder = collected(tmp_path / "study", cases=["torch", "jax"], epochs=2, steps=3)
    steps = pd.read_parquet(folder / "steps.parquet")
    mine = steps.index[(steps["case"] == "torch") & (steps["seed"] == 1)]
    steps.loc[mine[-2:], "loss"] = np.nan
    steps.to_parquet(folder / "steps.parquet")
    epochs = pd.read_parquet(folder / "epochs.parquet")
    last = (epochs["case"] == "torch") & (epochs["seed"] == 1) & (epochs["epoch"] == 2)
    epochs.loc[last, ["validation_loss", "validation_accuracy"]] = [np.inf, np.nan]
    epochs.loc[last, "train_seconds"] = np.nan
    epochs.to_parquet(folder / "epochs.parquet")
    return folder


def test_a_loss_that_is_not_finite_is_a_gap_and_never_zero(diverged):
    found = step_curves(Results.read(diverged))
    mine = found.seeds[(found.seeds["case"] == "torch") & (found.seeds["seed"] == 1)]
    assert mine["loss"].isna().tolist() == [False] * 4 + [True] * 2
    means = found.means[found.means["case"] == "torch"]
    assert means["loss"].isna().tolist() == [False] * 4 + [True] * 2, "no mean of the other seeds alone"
    assert not found.means[found.means["case"] == "jax"]["loss"].isna().any() and (found.means["loss"].dropna() > 0).all()
    assert {*OBLIGATORY} <= {path.stem for path in write_figures(diverged)}


def test_a_validation_that_is_not_finite_is_a_gap(diverged):
    (panel,) = panels(Results.read(diverged), Look(), "loss")
    rows = [row for data in panel.to_dict()["datasets"].values() for row in data if row["case"] == "torch" and "seeds" in row]
    assert {row["epoch"]: row["loss"] is None for row in rows} == {1: False, 2: True}


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e300])
def test_figures_are_drawn_when_every_number_is_odd(tmp_path, broken):
    folder = collected(tmp_path / "study", cases=["torch", "jax"], seeds=[0, 1], steps=3)
    for name in ("runs", "epochs", "steps"):
        rows = pd.read_parquet(folder / f"{name}.parquet")
        odd = [column for column in rows.select_dtypes("float") if column not in ("seed", "epoch", "threads")]
        rows.loc[rows["case"] == "torch", odd] = broken
        rows.to_parquet(folder / f"{name}.parquet")
    assert {*OBLIGATORY} <= {path.stem for path in write_figures(folder)}


def test_a_machine_without_the_age_of_processes_is_drawn(tmp_path):
    folder = collected(tmp_path / "study", cases=["torch", "jax"], seeds=[0, 1], steps=3)
    rows = pd.read_parquet(folder / "runs.parquet")
    rows.assign(process_seconds=None).to_parquet(folder / "runs.parquet")
    assert {*OBLIGATORY} <= {path.stem for path in write_figures(folder)}


@pytest.mark.parametrize(("cases", "marks"), [(3, 9), (60, 3600), (200, 200)])
def test_an_exchange_of_many_cases_stays_small(tmp_path, cases, marks):
    folder = collected(tmp_path / "study", cases=named(cases), seeds=[0], epochs=1, steps=2)
    names = [case["name"] for case in named(cases)]
    matrix = {"accuracy": {one: {other: 0.86 for other in names} for one in names}, "bound": 0.001, "seed": 0}
    (folder / "exchange.json").write_text(json.dumps(matrix), "utf-8")
    svg = render(exchange(Results.read(folder), Look()))[0]
    assert len(svg) < MOST_BYTES and marks <= svg.count("<path") < marks + 500


@pytest.mark.parametrize(("largest", "ends"), [(2.0, [0, 2.3]), (0, [0, 1]), (np.nan, [0, 1]), (np.inf, [0, 1])])
def test_an_axis_has_ends_that_can_be_drawn(largest, ends):
    assert room(largest) == pytest.approx(ends)
