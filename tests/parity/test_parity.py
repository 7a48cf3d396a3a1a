"""Judging distances and putting exchanged evaluations into a matrix: no framework needed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from levelfield.errors import UserError
from levelfield.level.exchange import Exchanged, evaluate_all, trained_by, write_matrix
from levelfield.level.parity import Measured, computed_in, judge
from levelfield.level.trajectory import Trajectory, distance, gradient_distances, undecided
from levelfield.records import save_arrays

BOUNDS = {
    "probabilities": {"probabilities": 1e-6},
    "gradients": {"embedding": 1e-4, "dense/bias": 1e-5},
    "weights_step_1": {"embedding": 1e-6, "dense/bias": 1e-7},
    "moved_step_1": {"embedding": 1e-3, "dense/bias": 1e-3},
    "loss_step_1": {"loss": 1e-7},
}


def found(**other) -> Measured:
    """A tenth of each bound, but for `other`: a quantity, and what its last tensor is off by."""
    distances = {name: {tensor: bound / 10 for tensor, bound in known.items()} for name, known in BOUNDS.items()}
    distances["weights_after_warm_up"] = {"embedding": 0.0, "dense/bias": 0.0}
    for name, value in other.items():
        distances[name][list(distances[name])[-1]] = value
    return Measured(1, distances, [1e-8])


def test_distances_within_the_bounds_pass():
    judged = judge(found(), BOUNDS)
    assert judged["passed"] and judged["missed"] == []
    assert {name: round(value, 6) for name, value in judged["shares"].items()} == {"weights_after_warm_up": 0} | dict.fromkeys(
        BOUNDS, 0.1
    )


@pytest.mark.parametrize("name", [*BOUNDS, "weights_after_warm_up"])
def test_each_bound_bars_by_itself(name):
    judged = judge(found(**{name: 2e-3}), BOUNDS)
    assert judged["passed"] is False and len(judged["missed"]) == 1 and judged["missed"][0].startswith(f"{name}: 0.002, bound")


def test_a_tensor_is_judged_by_its_own_bound_and_the_nearest_is_told():
    judged = judge(found(gradients=5e-5), BOUNDS)  # within the embedding's
    assert judged["missed"] == ["gradients: 5e-05, bound 1e-05 (dense/bias)"]
    assert judged["nearest"]["gradients"] == "dense/bias" and judged["shares"]["gradients"] == pytest.approx(5)


def test_what_is_not_finite_never_passes():
    assert distance(np.array([1.0, np.nan]), np.zeros(2)) is None
    assert judge(found(gradients=None), BOUNDS)["missed"] == ["gradients: not finite, bound 1e-05 (dense/bias)"]
    between = replace(found(), losses=[1e-8, None, 1e-8])  # of a step that has no bound of its own
    assert judge(between, BOUNDS)["missed"] == ["loss of step 2: not finite"]


def test_what_float32_explains_was_computed_in_no_coarser_precision():
    coarse = {name: {tensor: 1e4 * bound for tensor, bound in known.items()} for name, known in BOUNDS.items()}
    judged = judge(found(), coarse, BOUNDS)
    assert judged["passed"] is False and judged["missed"][0].startswith("precision: outputs and gradients are within")
    for quantity in ("probabilities", "gradients"):
        assert judge(found(**{quantity: 2e-5}), coarse, BOUNDS)["passed"], quantity
    assert not judge(found(moved_step_1=2e-3), coarse, BOUNDS)["passed"], "which of Adam's steps turn is no sign of a precision"


def test_a_cpu_computes_tf32_as_float32():
    assert computed_in("tf32", "cpu") == "float32" and computed_in("tf32", "cuda") == "tf32"
    assert computed_in("bfloat16", "cpu") == "bfloat16" and computed_in("float32", "cuda") == "float32"


def test_a_gradient_is_told_over_its_own_largest_entry():
    expected = {"embedding": np.array([0.0, 4.0]), "dense/bias": np.array([0.5])}
    off = {"embedding": np.array([0.0, 4.1]), "dense/bias": np.array([0.6])}
    assert gradient_distances(off, expected) == pytest.approx({"embedding": 0.025, "dense/bias": 0.2})


def test_a_gradient_that_is_nothing_but_rounding_is_told_over_its_bound():
    """The transformer's keys' bias, whose gradient is 0: softmax takes out what all keys have in common."""
    bounds = BOUNDS | {"gradients": {"embedding": 1e-4, "dense/bias": 1e9}}
    judged = judge(found(gradients=1e8), bounds)
    assert judged["passed"] and judged["gradients"]["dense/bias"] == pytest.approx(0.1)
    assert judged["gradient_bounds"]["dense/bias"] == 1 and judged["gradient_bounds"]["embedding"] == 1e-4


def test_a_reference_without_bounds_says_what_to_do(tmp_path):
    save_arrays(tmp_path / "reference.npz", {"losses": np.zeros(1)})
    with pytest.raises(UserError, match="delete it and run snakemake again"):
        Trajectory.load(tmp_path / "reference.npz")


def exchanged(
    case: str, accuracies: dict, losses: dict | None = None, undecided: dict | None = None, sequences=25_000
) -> Exchanged:
    losses = losses or dict.fromkeys(accuracies, 0.3)
    return Exchanged(case, case, "cpu", 0, "IMDB", sequences, accuracies, losses, undecided or {})


def test_the_matrix_agrees_where_each_row_does(tmp_path):
    """In every sequence but as many as rounding decides, by the case that has the most of them."""
    records = [
        exchanged("torch", {"torch": 0.86, "jax": 0.85}, undecided={"torch": 0, "jax": 1}),
        exchanged("jax", {"torch": 0.86004, "jax": 0.85}, undecided={"torch": 1, "jax": 0}),
    ]
    found = write_matrix(tmp_path, records)
    assert found["agree"] and found["bounds"] == {"torch": 1 / 25_000, "jax": 1 / 25_000} and found["bound"] == 1 / 25_000
    records[1].accuracy["jax"] = 0.85008
    found = write_matrix(tmp_path, records)
    assert found["agrees"] == {"torch": True, "jax": False} and not found["agree"]
    assert found == json.loads((tmp_path / "exchange.json").read_text())
    assert (tmp_path / "exchange.csv").read_text().splitlines()[1:3] == ["torch,torch,0.86,0.3", "torch,jax,0.86004,0.3"]


@pytest.mark.parametrize(
    ("sequences", "near", "agree"), [(40, 0, False), (40, 1, True), (25_000, 624, False), (25_000, 625, True)]
)
def test_few_sequences_and_coarse_rounding_bar_nobody_who_is_right(tmp_path, sequences, near, agree):
    """One of 40 sequences is 2.5 points."""
    records = [
        exchanged("torch", {"torch": 0.85}, undecided={"torch": near}, sequences=sequences),
        exchanged("jax", {"torch": 0.875}, sequences=sequences),
    ]
    assert write_matrix(tmp_path, records)["agree"] == agree


def test_weights_that_are_no_number_agree_with_nobody(tmp_path):
    """All their answers are those of one class, the same ones everywhere."""
    records = [exchanged(case, {"torch": 0.5}, {"torch": None}, {"torch": 0}) for case in ("torch", "jax")]
    found = write_matrix(tmp_path, records)
    assert not found["agree"] and (tmp_path / "exchange.csv").read_text().splitlines()[1] == "torch,torch,0.5,"


def test_what_rounding_decides_is_counted():
    one = np.array([[0.5], [0.500009], [0.49], [np.nan]], np.float32)
    assert [undecided(one, near) for near in (0, 1e-5, 0.02)] == [1, 2, 3]
    three = np.array([[0.4, 0.4, 0.2], [0.5, 0.46, 0.04], [0.9, 0.05, 0.05]], np.float32)
    assert [undecided(three, near) for near in (1e-5, 0.021, 0.45)] == [1, 2, 3]


def test_an_evaluation_tells_a_loss_that_is_not_finite_as_that(tmp_path):
    class Backend:
        def load(self, weights):
            self.scale = weights["scale"]

        def predict(self, x):
            return x * self.scale

    files = [tmp_path / f"runs/{name}/seed-0/weights.npz" for name in ("fine", "diverged")]
    for file, scale in zip(files, (1, np.nan), strict=True):
        save_arrays(file, {"scale": np.array(scale, np.float32)})
    x, y = np.array([[0.0], [0.01], [2.0]], np.float32), np.array([0, 1, 1], np.float32)
    accuracy, loss, near = evaluate_all(Backend(), files, x, y, "float32")
    assert accuracy["fine"] == 1 and near == {"fine": 1, "diverged": 0} and loss["diverged"] is None
    assert evaluate_all(Backend(), files, x, y, "bfloat16")[2]["fine"] == 2


def test_weights_are_known_by_their_place(tmp_path):
    assert trained_by(tmp_path / "runs/torch+x=1/seed-12/weights.npz") == ("torch+x=1", 12)
