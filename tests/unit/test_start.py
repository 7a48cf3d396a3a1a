"""The start: sizes, distributions, order, and the file that every backend loads."""

from dataclasses import replace

import numpy as np
import pytest

from levelfield.errors import UserError
from levelfield.study.protocol import Protocol
from levelfield.level.start import initial_weights, load_start, make_start, parameters, save_start, shapes

SMALL = Protocol(vocabulary=100, embedding=8, units=4, epochs=3)


def test_the_reference_experiment_has_its_number_of_parameters():
    assert parameters(Protocol()) == 2_757_761


def test_weights_are_drawn_from_kerass_default_distributions():
    weights = initial_weights(Protocol(vocabulary=2000), 0)
    assert {name: value.shape for name, value in weights.items()} == shapes(Protocol(vocabulary=2000))
    assert abs(weights["embedding"]).max() <= 0.05 and weights["embedding"].std() == pytest.approx(0.05 / 3**0.5, rel=0.01)
    kernel = weights["lstm_1/forward/kernel"]
    assert abs(kernel).max() <= (6 / sum(kernel.shape)) ** 0.5
    recurrent = weights["lstm_2/backward/recurrent_kernel"].astype(np.float64)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(64), atol=1e-5)
    bias = weights["lstm_1/backward/bias"].reshape(4, 64)
    assert (bias[1] == 1).all() and (bias[[0, 2, 3]] == 0).all(), "the forget gate starts at 1"


def test_every_epoch_has_an_order_of_its_own_that_holds_each_sequence_once():
    order = make_start(SMALL, 7, 50).order
    assert order.shape == (3, 50) and (np.sort(order) == np.arange(50)).all()
    assert not (order[0] == order[1]).all()


def test_a_start_depends_on_its_seed_and_on_nothing_else():
    first, second = make_start(SMALL, 1, 50), make_start(replace(SMALL, batch_size=7, length=9), 1, 50)
    assert all((first.weights[name] == second.weights[name]).all() for name in first.weights)
    assert (first.order == second.order).all()
    assert (make_start(replace(SMALL, epochs=5), 1, 50).order[:3] == first.order).all(), "more epochs leave the first as they are"
    assert not (make_start(SMALL, 2, 50).weights["embedding"] == first.weights["embedding"]).all()


def test_an_altered_file_is_refused(tmp_path):
    save_start(tmp_path / "seed-1.npz", make_start(SMALL, 1, 50))
    start, checksum = load_start(tmp_path / "seed-1.npz")
    assert start.seed == 1 and len(checksum) == 64
    content = bytearray((tmp_path / "seed-1.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "seed-1.npz").write_bytes(content)
    with pytest.raises(UserError, match="is altered"):
        load_start(tmp_path / "seed-1.npz")


@pytest.mark.parametrize("departure", ["naive-init", "adapted-init"])
def test_a_departure_of_the_weights_draws_others_for_the_same_seed(departure):
    start = make_start(SMALL, 1, 50)
    other = start.weights_for(SMALL, frozenset([departure]))
    assert {name: value.shape for name, value in other.items()} == shapes(SMALL)
    assert not (other["lstm_1/forward/bias"] == start.weights["lstm_1/forward/bias"]).all()
    assert start.weights_for(SMALL, frozenset(["clip-norm"])) is start.weights
