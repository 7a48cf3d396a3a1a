"""Judging distances and putting exchanged evaluations into a matrix: no framework needed."""

import json

import numpy as np
import pytest

from levelfield import registry
from levelfield.level.exchange import Exchanged, trained_by, write_matrix
from levelfield.level.parity import distance, gradient_distances, judge
from levelfield.level.trial import small_protocol, weights_without_zeros
from levelfield.study.protocol import Protocol

BOUNDS = registry.model("bilstm").bounds
FLOAT32 = BOUNDS["cpu", "float32"]
WITHIN = {
    "probabilities": 6e-8, "gradients": 3e-6, "weights_step_1": 7e-8, "loss_step_10": 3e-8, "loss_step_50": 2e-6,
    "weights_after_warm_up": 0.0, "weights_step_10": 5e-7,
}  # fmt: skip


def test_distances_within_the_bounds_pass_and_the_others_are_shown_alone():
    judged = judge(WITHIN, FLOAT32)
    assert judged["passed"] and judged["missed"] == [] and "weights_step_10" not in judged["bounds"]


@pytest.mark.parametrize("name", [name for name in WITHIN if name != "weights_step_10"])
def test_each_bound_bars_by_itself(name):
    judged = judge({**WITHIN, name: 2e-3}, FLOAT32)
    assert judged["passed"] is False and judged["missed"][0].startswith(f"{name}: 0.002, bound")


def test_what_is_not_finite_never_passes():
    assert distance(np.array([1.0, np.nan]), np.zeros(2)) is None
    assert judge({**WITHIN, "gradients": None}, FLOAT32)["missed"] == ["gradients: not finite, bound 1e-05"]


def test_few_steps_are_judged_by_what_there_was():
    judged = judge({name: value for name, value in WITHIN.items() if name != "loss_step_50"}, FLOAT32)
    assert judged["passed"] and "loss_step_50" not in judged["bounds"]


def test_what_has_no_measured_bounds_neither_passes_nor_fails():
    assert ("cuda", "float32") not in BOUNDS
    assert judge(WITHIN, None) == {"bounded": False, "passed": None, "bounds": {}, "missed": []}


@pytest.mark.parametrize("model", registry.models().values(), ids=lambda model: model.name)
def test_a_cpu_computes_tf32_as_float32(model):
    assert model.bounds["cpu", "tf32"] == model.bounds["cpu", "float32"]


def test_a_gradient_is_judged_over_its_own_largest_entry():
    protocol = Protocol()
    expected = {"embedding": np.array([0.0, 4.0]), "dense/bias": np.array([0.5])}
    found = {"embedding": np.array([0.0, 4.1]), "dense/bias": np.array([0.6])}
    assert gradient_distances(protocol, found, expected) == pytest.approx({"embedding": 0.025, "dense/bias": 0.2})


def test_a_gradient_that_is_0_whatever_the_data_is_judged_beside_another():
    """The transformer's keys' bias: softmax takes out what all keys have in common, so that only rounding is left of it."""
    protocol = small_protocol("transformer")
    ((name, beside),) = registry.model("transformer").cancelling.items()
    expected = {key: value.astype(np.float64) for key, value in weights_without_zeros(protocol).items()}
    expected[name][:] = 1e-20
    found = expected | {name: expected[name] + 1e-9}
    off = gradient_distances(protocol, found, expected)
    assert off[name] == pytest.approx(1e-9 / np.abs(expected[beside]).max()) and set(off.values()) == {0, off[name]}


def test_the_matrix_agrees_where_each_row_does(tmp_path):
    def by(case, accuracies):
        return Exchanged(case, case, "cpu", 0, "IMDB", 25_000, accuracies, {name: 0.3 for name in accuracies})

    records = [by("torch", {"torch": 0.86, "jax": 0.85}), by("jax", {"torch": 0.86004, "jax": 0.85})]
    assert write_matrix(tmp_path, records)["agree"]
    records[1].accuracy["jax"] = 0.8502
    found = write_matrix(tmp_path, records)
    assert not found["agree"] and found == json.loads((tmp_path / "exchange.json").read_text())
    assert (tmp_path / "exchange.csv").read_text().splitlines()[1:3] == ["torch,torch,0.86,0.3", "torch,jax,0.86004,0.3"]


def test_weights_are_known_by_their_place(tmp_path):
    assert trained_by(tmp_path / "runs/torch+x=1/seed-12/weights.npz") == ("torch+x=1", 12)
