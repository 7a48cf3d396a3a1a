"""`snakemake exchange`: weights that one framework trained, evaluated by every other, model by model."""

import json

import pandas as pd
import pytest
from checkout import Checkout

CASES = ["jax", "torch"]
MODELS = ["bilstm", "transformer", "cnn"]


@pytest.mark.long
def test_trained_weights_cross_every_border_of_every_model(tmp_path):
    checkout = Checkout.made(tmp_path)
    checkout.study(
        cases=CASES, protocol={"vocabulary": 50, "length": 40, "batch_size": 16}, vary={"model": MODELS}, parity=False
    )
    done = checkout.snakemake("exchange")
    assert done.returncode == 0, done.stdout[-5000:]
    results = checkout.folder / "results/small"
    table = pd.read_csv(results / "exchange.csv")
    assert len(table) == len(MODELS) * len(CASES) ** 2, table.to_string()
    assert json.loads((results / "exchange.json").read_text())["agree"]
    model = table["trained_by"].str.partition("=")[2]
    assert (model == table["evaluated_by"].str.partition("=")[2]).all() and set(model) == set(MODELS)
    for _, row in table.groupby("trained_by"):
        assert len(row) == len(CASES) and row["loss"].max() - row["loss"].min() < 1e-5, table.to_string()
