"""The table of parting tells the first step at which two equal programs' losses are further apart than each distance."""

import numpy as np
import pandas as pd
import pytest
from made_study import make_study

from levelfield.records import save_arrays
from levelfield.tell.collect import collect
from levelfield.tell.results import Results
from levelfield.tell.tables.parting import DISTANCES, parting

MODELS = {"model": ["bilstm", "cnn"]}
APART = [0, 1.5e-7, 2e-6, 2e-6, 5e-5, 2e-3, 2e-3, 0.05, np.nan, 0.05]
"""By step, of the first seed; the next seed's are two steps later, the third's never more than 2e-6."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    cases = ["torch", "jax", {"backend": "torch", "departures": ["drop-last-batch"]}]
    folder = make_study(tmp_path_factory.mktemp("parting") / "s", cases, epochs=1, steps=12, vary=MODELS, twin=True)
    for seed in (0, 1, 2):
        apart = np.zeros(12)
        mine = np.array(APART)[: 12 - 2 * seed]
        apart[2 * seed : 2 * seed + 10] = np.minimum(mine, 2e-6) if seed == 2 else mine
        for case, off in (("torch+model=bilstm", 0), ("jax+model=bilstm", apart)):
            file = folder / "runs" / case / f"seed-{seed}" / "steps.npz"
            arrays = dict(np.load(file))
            save_arrays(file, arrays | {"loss": (np.linspace(0.03, 0.02, 12) + off).astype(np.float32)})
    collect(folder)
    return Results.read(folder)


def test_two_equal_programs_have_a_row_each_distance(results):
    data = parting(results).data
    assert [*data.groupby(["model", "case", "against"], sort=False).groups] == [
        ("bilstm", "torch+model=bilstm", "jax+model=bilstm"), ("cnn", "torch+model=cnn", "jax+model=cnn"),
    ]  # fmt: skip
    assert data["distance"].tolist() == [*DISTANCES, *DISTANCES] and set(data["seeds"]) == {3} and set(data["steps"]) == {12}


def test_the_first_step_so_far_apart_is_the_seeds_middle_one(results):
    rows = parting(results).data.query("model == 'bilstm'").set_index("distance")
    columns = ["seeds_apart", "first_step_low", "first_step", "first_step_high"]
    assert rows.loc[1e-7, columns].tolist() == [3, 2, 4, 6]
    assert rows.loc[1e-6, columns].tolist() == [3, 3, 5, 7]
    assert rows.loc[1e-3, "seeds_apart"] == 2 and rows.loc[1e-3, "first_step_low"] == 6
    assert rows.loc[1e-3, "first_step"] == 8 and pd.isna(rows.loc[1e-3, "first_step_high"])


def test_what_no_seed_reached_is_a_dash_and_what_some_did_says_how_many(results):
    shown = parting(results).shown.set_index(["model", "case", "against"])
    row = shown.loc[("bilstm", "torch", "jax")]
    assert row["1e-7"] == "4 (2–6)" and row["1e-3"] == "from 6, 2 of 3 seeds"
    assert not parting(results).markdown.count("nan")


def test_a_loss_that_is_not_finite_is_further_apart_than_any_distance(results):
    rows = parting(results).data.query("model == 'bilstm'").set_index("distance")
    assert rows.loc[1e-1, "seeds_apart"] == 2 and rows.loc[1e-1, "first_step_low"] == 9


def test_a_study_of_one_model_has_no_column_for_it_and_one_of_one_case_no_table(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    collect(folder)
    assert [*parting(Results.read(folder)).shown.columns[:2]] == ["case", "against"]
    alone = make_study(tmp_path / "alone", cases=["torch"], steps=5)
    collect(alone)
    assert parting(Results.read(alone)) is None


def test_of_many_cases_each_is_told_against_the_first(tmp_path):
    cases = [{"backend": "torch", "name": f"case-{number}"} for number in range(10)]
    folder = make_study(tmp_path / "s", cases=cases, steps=5)
    collect(folder)
    data = parting(Results.read(folder)).data
    assert set(data["case"]) == {"case-0"} and data["against"].nunique() == 9
