"""Figures of a study: made whatever became of its runs, the same bytes from the same data, the same statistic for all."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from made_study import EVERY_KIND, EXAMPLE, TRANSFORMERS, make_study

from levelfield.errors import UserError
from levelfield.tell.collect import collect
from levelfield.tell.figures import OBLIGATORY, OPTIONAL, write_figures
from levelfield.tell.figures.comparisons import ranking, worth, worth_panel
from levelfield.tell.figures.curves import POINTS
from levelfield.tell.figures.learning import step_curves
from levelfield.tell.figures.models import by_model, models, profile, shares
from levelfield.tell.figures.proof import BEYOND, exchange, parity_rows
from levelfield.tell.figures.scaling import growth
from levelfield.tell.figures.speed import throughput
from levelfield.tell.figures.theme import CASE_COLOURS, Look, case_scale, render, scale
from levelfield.tell.figures.validation import thinned
from levelfield.tell.report.render import page
from levelfield.tell.report.sections import picture, sections
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

MODELS = {"model": ["bilstm", "transformer", "cnn"]}
SIX = ["keras-tensorflow", "keras-jax", "keras-torch", "torch", "torch-compile", "jax"]


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
        {"cases": TRANSFORMERS, "protocol": {"model": "transformer"}, "steps": 20},
        {"cases": ["torch"], "vary": MODELS, "seeds": [0], "epochs": 1, "steps": 4},
        {"cases": ["torch"], "vary": MODELS | {"length": [100, 200]}, "steps": 4, "failures": {"torch+model=cnn": "failed-parity"}},
        {"cases": ["torch", "jax"], "vary": MODELS, "failures": {(f"{case}+model={model}", seed): "missing" for case in ("torch", "jax")
         for model in MODELS["model"] for seed in range(3)}, "steps": 4},
    ],
    ids=["one of each", "all failed", "a GPU for one and some failed", "thirty cases", "sizes", "epochs of their own", "one case a model",
         "models and sizes", "models of which none finished"],
)  # fmt: skip
def test_the_obligatory_figures_never_break(tmp_path, options):
    folder = collected(tmp_path / "study", **options)
    names = {path.name for path in write_figures(folder)}
    assert {f"{name}.{kind}" for name in OBLIGATORY for kind in ("svg", "png")} <= names
    assert ("scaling.svg" in names) == ("length" in options.get("vary", {}))
    assert ("energy.svg" in names) == ("gpus" in options)


def test_a_figure_without_data_any_more_is_removed(tmp_path):
    folder = collected(tmp_path / "study", gpus={"torch": "Tesla V100"}, steps=4)
    write_figures(folder)
    assert (folder / "figures/energy.svg").exists()
    (folder / "figures/standing.svg").touch()  # as an earlier version called `ranking`
    epochs = pd.read_parquet(folder / "epochs.parquet")
    epochs.assign(energy_joules=np.nan).to_parquet(folder / "epochs.parquet")
    write_figures(folder)
    assert not (folder / "figures/standing.svg").exists()
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


@pytest.mark.long
def test_curves_stay_few_for_a_thousand_runs(tmp_path):
    cases = [{"backend": "torch", "name": f"case-{number}"} for number in range(200)]
    curves = step_curves(Results.read(collected(tmp_path / "study", cases=cases, seeds=[0, 1, 2, 3, 4], steps=100)))
    assert len(curves.means) <= POINTS


@pytest.mark.parametrize("epochs", [8, *(pytest.param(many, marks=pytest.mark.long) for many in (100, 400))])
def test_many_epochs_are_thinned_and_drawn(tmp_path, epochs):
    folder = collected(tmp_path / "study", cases=SIX, epochs=epochs, steps=800 if epochs == 8 else 10)
    results = Results.read(folder)
    curves = step_curves(results)
    assert 1_500 <= len(curves.seeds) <= POINTS and len(thinned(results)) <= POINTS
    # whole epochs in a window, so that the last mean is one of the last steps'
    assert curves.means["step"].max() > 0.98 * epochs * (800 if epochs == 8 else 10)
    assert set(thinned(results).groupby("case")["epoch"].max()) == {epochs}
    written = {path.stem: path.stat().st_size for path in write_figures(folder) if path.suffix == ".svg"}
    assert {*OBLIGATORY} <= set(written) and max(written.values()) < 500_000
    assert len(page(results).encode()) < 5_000_000


def test_epochs_that_all_cases_begin_at_the_same_step_are_marked(tmp_path):
    cases = ["torch", {"backend": "torch", "settings": {"epochs": 4}}]
    assert step_curves(Results.read(collected(tmp_path / "same", cases=cases, steps=10))).boundaries == [11, 21, 31]
    cases = ["torch", {"backend": "torch", "settings": {"batch_size": 64}}]
    assert step_curves(Results.read(collected(tmp_path / "other", cases=cases, steps=10))).boundaries == []


@pytest.fixture(scope="module")
def models_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "models"
    failures = {("jax+model=cnn", seed): "failed" for seed in range(3)}
    cases = ["torch", "jax", "keras-tensorflow", {"backend": "torch", "settings": {"batch_size": 64}}]
    return Results.read(collected(folder, cases=cases, vary=MODELS, steps=5, failures=failures))


def test_each_models_cases_stand_against_its_fastest_and_failed_ones_say_so(models_study):
    rows = by_model(models_study)
    assert rows["group"].tolist() == ["bilstm"] * 3 + ["transformer"] * 3 + ["cnn"] * 3
    assert rows["line"].tolist()[::3] == ["torch", "jax", "keras-tensorflow"] and rows["value"].tolist()[::3] == [1, 1, 1]
    board = make_tables(models_study)["leaderboard"].data.set_index("case")
    for row in rows.dropna(subset="value").itertuples():
        assert board.loc[row.case, "times_fastest"] == row.value
    assert rows.iloc[-1][["line", "note"]].tolist() == ["jax", "failed"] and pd.isna(rows.iloc[-1]["value"])
    (told,) = (data for data in models(models_study, Look()).to_dict()["datasets"].values() if "label" in data[0])
    assert told[-1]["label"] == "jax: failed" and told[0]["label"] == "torch"


def test_a_profile_is_the_share_of_models_within_a_factor_of_the_fastest():
    rows = pd.DataFrame(
        [("a", "m1", 1.0), ("a", "m2", 3.0), ("b", "m1", 2.0), ("b", "m2", 1.0), ("c", "m1", 4.0), ("c", "m2", None)],
        columns=["line", "group", "value"],
    ).assign(case="x")
    found = {line: list(zip(mine["factor"], mine["share"], strict=True)) for line, mine in shares(rows).groupby("line")}
    assert found == {
        "a": [(1, 0.5), (3, 1.0), (4, 1.0)],
        "b": [(1, 0.5), (2, 1.0), (4, 1.0)],
        "c": [(1, 0.0), (4, 0.5)],  # it failed with one of both
    }


def test_of_one_model_nothing_is_drawn_over_models(article):
    assert models(Results.read(article), Look()) is None is profile(Results.read(article), Look())


def test_the_pages_first_picture_of_several_models_is_who_is_fastest_with_each(models_study, article):
    (first,) = picture(models_study)
    assert first.title == "Who is fastest with each model" and picture(Results.read(article))[0].title != first.title
    charts = [chart.id for part in sections(models_study, make_tables(models_study)) for chart in part.charts]
    assert {"loss-0", "loss-2", "validation-accuracy-1", "profile"} <= set(charts) and len(charts) == len(set(charts))


def test_a_case_has_one_look_with_every_model(models_study):
    looks = dict(zip(scale(models_study).domain, scale(models_study).range, strict=True))
    assert len({looks[f"torch+model={model}"] for model in MODELS["model"]}) == 1 != len(set(looks.values()))


def heights(picture: str) -> list[set[str]]:
    """Of each panel of a chart as SVG the heights at which its points stand."""
    panels = re.findall(r'class="mark-symbol role-mark .*?</g>', picture, re.DOTALL)
    return [set(re.findall(r'transform="translate\([^,]*,([^)]*)\)', panel)) for panel in panels]


def test_a_loss_that_is_compared_with_none_leaves_its_row_empty(tmp_path):
    results = Results.read(collected(tmp_path / "study", cases=TRANSFORMERS, protocol={"model": "transformer"}, steps=40))
    accuracy, loss, time = heights(render(worth(results, Look()))[0])
    assert len(accuracy) == 2 and len(loss) == 1 and loss < accuracy == time
    alone = [case for case in TRANSFORMERS if case not in (EXAMPLE, "keras-tensorflow")]
    results = Results.read(collected(tmp_path / "alone", cases=alone, protocol={"model": "transformer"}, steps=40))
    assert worth_panel(results, Look(), "validation_loss") is None and worth(results, Look()) is not None


def test_the_scaling_figure_is_of_sizes_alone(tmp_path):
    results = Results.read(collected(tmp_path / "study", cases=["torch"], vary=MODELS | {"length": [100, 200]}, steps=4))
    found = growth(results)
    assert set(found["setting"]) == {"length"} and set(found["case"]) == {"torch+length=100", "torch+length=200"}


def test_a_case_keeps_its_colour_in_every_figure_and_study_of_sizes():
    assert case_scale(["a", "b"]).range == list(CASE_COLOURS[:2])
    assert case_scale(list("abcdefgh")).range[7] == CASE_COLOURS[0]
    assert case_scale(list("abcdefgh"), dashes=True).range[7] != case_scale(list("abcdefgh"), dashes=True).range[0]
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
    [
        {"cases": EVERY_KIND, "gpus": {"torch": "Tesla V100"}},
        {"cases": ["torch", "jax"], "vary": {"length": [100, 200]}},
        {"cases": ["torch", "jax"], "vary": MODELS, "epochs": 1},
    ],
    ids=["every kind", "sizes", "models"],
)
def test_pointing_at_a_chart_tells_words_and_no_names_of_columns(tmp_path, options):
    results = Results.read(collected(tmp_path / "study", steps=5, **options))
    (tmp_path / "study/exchange.json").write_text('{"accuracy": {"torch": {"torch": 0.86}}, "bound": 0.001, "seed": 0}')
    told = {chart.id: list(tooltips(chart.spec)) for part in sections(results, make_tables(results)) for chart in part.charts}
    assert len(told) >= 9 and all(told.values())
    for headings in (headings for found in told.values() for headings in found):
        assert headings and headings[0] in ("case", "trained by")
        assert not [heading for heading in headings if "_" in heading or heading in ("value", "low", "high", "part", "kind")]


def test_an_exchange_in_whose_row_rounding_decides_nothing_is_drawn(tmp_path):
    """Its bound is 0: what is equal is within it, one sequence is far beyond."""
    results = Results.read(collected(tmp_path / "study", steps=5))
    accuracy = {"torch": {"torch": 0.86, "jax": 0.86, "flax": 0.87}, "jax": {"torch": 0.8, "jax": 0.81}}
    told = {"accuracy": accuracy, "bounds": {"torch": 0.0, "jax": 0.02}, "bound": 0.02, "seed": 0}
    (tmp_path / "study/exchange.json").write_text(json.dumps(told))
    (rows,) = (rows for rows in exchange(results, Look()).to_dict()["datasets"].values() if "off" in rows[0])
    assert [row["off"] for row in rows] == [0, 0, BEYOND, 0, 0.5]


def test_what_parity_found_stands_in_the_order_of_its_steps(tmp_path):
    folder = collected(tmp_path / "study", cases=["torch"], seeds=[0], steps=5)
    file = folder / "parity/torch.json"
    found = json.loads(file.read_text())
    found["measured"] |= {"loss_step_3": 1e-8, "loss_step_x": 1e-8, "another": 1.0}
    file.write_text(json.dumps(found))
    quantities = list(parity_rows(Results.read(folder))["quantity"])
    assert quantities[:3] == ["weights after warm-up", "outputs", "gradients"] and len(quantities) == 15
    steps = [int(one.split("step ")[1]) for one in quantities[3:]]
    assert steps == sorted(steps) and "loss, step 3" in quantities


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
