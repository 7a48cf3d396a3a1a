"""Figures of a study: made whatever became of its runs, the same bytes from the same data, the same statistic for all."""

import re

import numpy as np
import pandas as pd
import pytest
from made_study import EVERY_KIND, make_study

from levelfield.tell.collect import collect
from levelfield.errors import UserError
from levelfield.tell.figures import OBLIGATORY, OPTIONAL, write_figures
from levelfield.tell.figures.comparisons import ranking
from levelfield.tell.figures.learning import step_curves
from levelfield.tell.figures.speed import throughput
from levelfield.tell.figures.theme import CASE_COLOURS, Look, case_scale, render
from levelfield.tell.report.sections import sections
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables


def collected(folder, **options):
    collect(make_study(folder, **options))
    return folder


@pytest.fixture(scope="module")
def article(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("figures") / "article")


def test_every_figure_is_written_twice_and_says_its_corpus(article):
    written = write_figures(article)
    assert {path.stem for path in written} == {*OBLIGATORY, "latency", "parity", "ranking"}
    for path in written:
        content = path.read_bytes()
        assert content.startswith(b"<svg" if path.suffix == ".svg" else b"\x89PNG")
        assert path.suffix == ".png" or (b"IMDB, 25,000 training sequences" in content and b"3 seeds" in content)


def test_the_same_data_gives_the_same_bytes(article):
    first, second = (render(OBLIGATORY["loss"](Results.read(article), Look())) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "options",
    [
        {"cases": ["torch"], "seeds": [0], "epochs": 1, "steps": 2},
        {"failures": {(case, seed): "failed" for case in ("keras-tensorflow", "torch") for seed in range(3)}, "steps": 4},
        {
            "cases": ["torch", "jax", "keras-tensorflow"],
            "gpus": {"torch": "Tesla V100"},
            "steps": 4,
            "failures": {("torch", 0): "failed", ("torch", 1): "missing", "keras-tensorflow": "failed-parity"},
        },
        {"cases": [{"backend": "torch", "name": f"case-{number}"} for number in range(30)], "steps": 4},
        {"cases": ["torch", "jax"], "vary": {"length": [100, 200]}, "seeds": [0, 1], "steps": 4},
    ],
    ids=["one of each", "all failed", "a GPU for one and some failed", "thirty cases", "sizes"],
)
def test_the_obligatory_figures_never_break(tmp_path, options):
    folder = collected(tmp_path / "study", **options)
    names = {path.name for path in write_figures(folder)}
    assert {f"{name}.{kind}" for name in OBLIGATORY for kind in ("svg", "png")} <= names
    assert ("scaling.svg" in names) == ("vary" in options)
    assert ("energy.svg" in names) == ("gpus" in options)


def test_a_figure_without_data_any_more_is_removed(tmp_path):
    folder = collected(tmp_path / "study", gpus={"torch": "Tesla V100"}, steps=4)
    write_figures(folder)
    assert (folder / "figures/energy.svg").exists()
    epochs = pd.read_parquet(folder / "epochs.parquet")
    epochs.assign(energy_joules=np.nan).to_parquet(folder / "epochs.parquet")
    write_figures(folder)
    assert not (folder / "figures/energy.svg").exists() and OPTIONAL.keys() >= {"energy"}


def test_a_window_is_the_mean_of_its_batches_and_spans_one_epoch(article):
    curves = step_curves(Results.read(article))
    steps = pd.read_parquet(article / "steps.parquet")
    steps = steps[(steps["case"] == "torch") & (steps["seed"] == 1)]
    windows = curves.seeds[(curves.seeds["case"] == "torch") & (curves.seeds["seed"] == 1)]
    assert curves.size == 20 and curves.boundaries == [783.0]
    assert windows["loss"].iloc[0] == pytest.approx(steps["loss"].iloc[:21].mean(), abs=1e-3)
    assert len(windows) == 2 * 39
    for epoch in (1, 2):
        mine = windows["loss"].iloc[39 * (epoch - 1) : 39 * epoch]
        assert mine.mean() == pytest.approx(steps.loc[steps["epoch"] == epoch, "loss"].mean(), abs=2e-3)


def test_curves_stay_few_for_a_thousand_runs(tmp_path):
    cases = [{"backend": "torch", "name": f"case-{number}"} for number in range(200)]
    curves = step_curves(Results.read(collected(tmp_path / "study", cases=cases, seeds=[0, 1, 2, 3, 4], steps=100)))
    assert len(curves.means) <= 6_000


def test_a_case_keeps_its_colour_in_every_figure_and_study_of_sizes():
    assert case_scale(["a", "b"]).range == list(CASE_COLOURS[:2])
    assert case_scale(list("abcdefg")).range[6] == CASE_COLOURS[0]
    assert case_scale(list("abcdefg"), dashes=True).range[6] != case_scale(list("abcdefg"), dashes=True).range[0]
    assert case_scale(["a+1", "a+2", "b+1", "b+2"], variants=2).range == [CASE_COLOURS[0]] * 2 + [CASE_COLOURS[1]] * 2


def tooltips(spec):
    """All tooltips of a Vega-Lite specification, each as the headings that a reader sees."""
    parts = spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ()
    for part in parts:
        yield from tooltips(part)
    if isinstance(spec, dict) and "tooltip" in spec:
        told = spec["tooltip"]
        if isinstance(told, list):
            yield [one.get("title", one["field"]) for one in told]
        else:
            yield re.findall("'([^']+)': ", told["value"]["expr"])


@pytest.mark.parametrize(
    "options",
    [{"cases": EVERY_KIND, "gpus": {"torch": "Tesla V100"}}, {"cases": ["torch", "jax"], "vary": {"length": [100, 200]}}],
    ids=["every kind", "sizes"],
)
def test_pointing_at_a_chart_tells_words_and_no_names_of_columns(tmp_path, options):
    results = Results.read(collected(tmp_path / "study", steps=5, **options))
    (tmp_path / "study/exchange.json").write_text('{"accuracy": {"torch": {"torch": 0.86}}, "bound": 0.001, "seed": 0}')
    told = {chart.id: list(tooltips(chart.spec)) for part in sections(results, make_tables(results)) for chart in part.charts}
    assert len(told) >= 9 and all(told.values())
    for headings in (headings for found in told.values() for headings in found):
        assert headings and headings[0] in ("case", "trained by")
        assert not [heading for heading in headings if "_" in heading or heading in ("value", "low", "high", "part", "kind")]


def test_an_interval_that_is_not_known_is_not_told_as_zero(tmp_path):
    results = Results.read(collected(tmp_path / "study", seeds=[0], steps=5))
    (rows,) = (rows for rows in ranking(results, Look()).to_dict()["datasets"].values() if "interval" in rows[0])
    assert [row["interval"] for row in rows] == ["the fastest", "not enough seeds to say"]


def test_throughput_is_sequences_over_seconds_of_all_epochs(article):
    chart = throughput(Results.read(article), Look()).to_dict()
    rows = [row for data in chart["datasets"].values() for row in data if row["case"] == "torch" and "seed" in row]
    epochs = pd.read_parquet(article / "epochs.parquet").query("case == 'torch' and seed == 0")
    assert rows[0]["value"] == pytest.approx(2 * 25_000 / epochs["train_seconds"].sum())


def test_a_study_that_was_not_collected_says_what_to_type(tmp_path):
    with pytest.raises(UserError, match="levelfield collect"):
        write_figures(make_study(tmp_path / "study", steps=4))
