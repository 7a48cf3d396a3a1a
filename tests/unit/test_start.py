"""The start: sizes, distributions, order, and the file that every backend loads."""

from dataclasses import replace

import numpy as np
import pytest

from levelfield.errors import UserError
from levelfield.level.start import file_sha256, initial_weights, load_start, make_start, save_start
from levelfield.models.base import parameters, shapes
from levelfield.models.bilstm import BiLstm
from levelfield.models.cnn import Cnn
from levelfield.models.transformer import Transformer
from levelfield.records import save_arrays
from levelfield.study.protocol import Protocol

SMALL = Protocol(model=BiLstm(embedding=8, units=4), vocabulary=100, epochs=3)
TRANSFORMER = Protocol(model=Transformer(), vocabulary=2000)
CNN = Protocol(model=Cnn(), vocabulary=2000)


@pytest.mark.parametrize(
    ("model", "departures", "count"),
    [
        (BiLstm(), set(), 2_757_761),
        (BiLstm(), {"second-bias"}, 2_757_761 + 4 * 256),
        (Transformer(), set(), 657_758),
        (Transformer(), {"heads-share-width"}, 653_566),
        (Cnn(), set(), 2_806_273),
    ],
)
def test_each_model_has_its_published_number_of_parameters(model, departures, count):
    assert parameters(Protocol(model=model), frozenset(departures)) == count


def limit_of(values: np.ndarray) -> float:
    """The largest entry, of a sample that is spread evenly up to it."""
    assert values.std() == pytest.approx(abs(values).max() / 3**0.5, rel=0.1)
    return float(abs(values).max())


def test_the_lstms_weights_are_drawn_from_kerass_default_distributions():
    weights = initial_weights(Protocol(vocabulary=2000), 0)
    assert {name: value.shape for name, value in weights.items()} == shapes(Protocol(vocabulary=2000))
    assert abs(weights["embedding"]).max() <= 0.05 and weights["embedding"].std() == pytest.approx(0.05 / 3**0.5, rel=0.01)
    kernel = weights["lstm_1/forward/kernel"]
    assert abs(kernel).max() <= (6 / sum(kernel.shape)) ** 0.5
    recurrent = weights["lstm_2/backward/recurrent_kernel"].astype(np.float64)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(64), atol=1e-5)
    bias = weights["lstm_1/backward/bias"].reshape(4, 64)
    assert (bias[1] == 1).all() and (bias[[0, 2, 3]] == 0).all(), "the forget gate starts at 1"


@pytest.mark.parametrize(
    ("protocol", "weight", "limit"),
    [
        (TRANSFORMER, "tokens/embedding", 0.05),
        (TRANSFORMER, "positions/embedding", 0.05),
        *((TRANSFORMER, f"attention/{name}/kernel", (6 / 96) ** 0.5) for name in ("query", "key", "value", "output")),
        (TRANSFORMER, "feed_forward_1/kernel", (6 / 64) ** 0.5),
        (TRANSFORMER, "dense/kernel", (6 / 52) ** 0.5),
        (TRANSFORMER, "logits/kernel", (6 / 22) ** 0.5),
        (CNN, "embedding", 0.05),
        (CNN, "conv_1/kernel", (6 / (7 * 256)) ** 0.5),
        (CNN, "conv_2/kernel", (6 / (7 * 256)) ** 0.5),
        (CNN, "hidden/kernel", (6 / 256) ** 0.5),
        (CNN, "dense/kernel", (6 / 129) ** 0.5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_kernels_limit_is_that_of_kerass_defaults(protocol, weight, limit):
    assert limit * 0.9 < limit_of(initial_weights(protocol, 0)[weight]) <= limit


@pytest.mark.parametrize("protocol", [TRANSFORMER, CNN], ids=lambda protocol: protocol.model.name)
def test_biases_begin_at_0_and_gains_at_1(protocol):
    for name, value in initial_weights(protocol, 0).items():
        if name.endswith(("bias", "beta")):
            assert (value == 0).all(), name
        elif name.endswith("gamma"):
            assert (value == 1).all(), name
        else:
            assert len(np.unique(value)) > 20, name


@pytest.mark.parametrize(
    ("protocol", "framework", "weight", "deviation"),
    [
        (CNN, "torch", "embedding", 1.0),
        (CNN, "torch", "conv_1/kernel", (7 * 128) ** -0.5 / 3**0.5),
        (CNN, "torch", "conv_1/bias", (7 * 128) ** -0.5 / 3**0.5),
        (CNN, "flax", "conv_1/kernel", (7 * 128) ** -0.5),
        (TRANSFORMER, "flax", "tokens/embedding", 32**-0.5),
        (TRANSFORMER, "flax", "attention/query/kernel", 32**-0.5),
        (TRANSFORMER, "flax", "attention/output/kernel", 64**-0.5),
        (TRANSFORMER, "torch", "attention/query/bias", 32**-0.5 / 3**0.5),
        (TRANSFORMER, "torch", "feed_forward_1/kernel", 32**-0.5 / 3**0.5),
    ],
)
def test_framework_init_draws_from_the_frameworks_own_distributions(protocol, framework, weight, deviation):
    found = initial_weights(protocol, 0, frozenset({"framework-init"}), framework)
    assert found[weight].std() == pytest.approx(deviation, rel=0.15)
    assert {name: value.shape for name, value in found.items()} == shapes(protocol)


def test_a_truncated_normal_has_its_deviation_after_the_cut_and_nothing_beyond_it():
    kernel = initial_weights(CNN, 0, frozenset({"framework-init"}), "flax")["conv_1/kernel"]
    deviation = (7 * 128) ** -0.5
    assert kernel.std() == pytest.approx(deviation, rel=0.01)
    assert 2.2 * deviation < abs(kernel).max() <= 2 * deviation / 0.8796


def test_every_epoch_has_an_order_of_its_own_that_holds_each_sequence_once():
    order = make_start(SMALL, 7, 50).order
    assert order.shape == (3, 50) and (np.sort(order) == np.arange(50)).all()
    assert not (order[0] == order[1]).all()


def test_a_start_depends_on_its_seed_and_on_nothing_else():
    first, second = make_start(SMALL, 1, 50), make_start(replace(SMALL, batch_size=7, length=9), 1, 50)
    assert all((first.weights[name] == second.weights[name]).all() for name in first.weights)
    assert (first.order == second.order).all()
    assert (make_start(replace(SMALL, epochs=5), 1, 50).order[:3] == first.order).all(), (
        "more epochs leave the first as they are"
    )
    assert not (make_start(SMALL, 2, 50).weights["embedding"] == first.weights["embedding"]).all()


def test_models_of_one_seed_see_the_same_order():
    assert (make_start(TRANSFORMER, 7, 50).order == make_start(CNN, 7, 50).order).all()


def test_an_altered_file_is_refused(tmp_path):
    save_start(tmp_path / "seed-1.npz", make_start(SMALL, 1, 50))
    start, checksum = load_start(tmp_path / "seed-1.npz")
    assert start.seed == 1 and len(checksum) == 64
    content = bytearray((tmp_path / "seed-1.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "seed-1.npz").write_bytes(content)
    with pytest.raises(UserError, match="is altered"):
        load_start(tmp_path / "seed-1.npz")


def test_what_is_no_start_is_refused_by_name(tmp_path):
    path = tmp_path / "seed-1.npz"
    save_arrays(path, {"dense/bias": np.zeros(1)})
    with pytest.raises(UserError, match=r"seed-1\.npz\.sha256 is not there"):
        load_start(path)
    beside = path.with_name("seed-1.npz.sha256")
    beside.write_text("")
    with pytest.raises(UserError, match="is altered"):
        load_start(path)
    beside.write_text(f"{file_sha256(path)}  seed-1.npz\n")
    with pytest.raises(UserError, match="has no order: it is no start"):
        load_start(path)


@pytest.mark.parametrize("departure", ["naive-init", "adapted-init"])
def test_a_departure_of_the_weights_draws_others_for_the_same_seed(departure):
    start = make_start(SMALL, 1, 50)
    other = start.weights_for(SMALL, frozenset([departure]))
    assert {name: value.shape for name, value in other.items()} == shapes(SMALL)
    assert not (other["lstm_1/forward/bias"] == start.weights["lstm_1/forward/bias"]).all()
    assert start.weights_for(SMALL, frozenset(["clip-norm"])) is start.weights


def test_a_departure_that_changes_shapes_draws_weights_that_fit():
    start, departures = make_start(TRANSFORMER, 1, 50), frozenset(["heads-share-width"])
    found = start.weights_for(TRANSFORMER, departures)
    assert {name: value.shape for name, value in found.items()} == shapes(TRANSFORMER, departures)
    assert found["attention/query/kernel"].shape == (32, 2, 16)
    assert abs(found["attention/query/kernel"]).max() <= (6 / 64) ** 0.5
