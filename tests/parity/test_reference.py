"""The float64 reference of each model is right: against finite differences, and against torch and its autograd in float64."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from levelfield import registry
from levelfield.backends.torch import Torch
from levelfield.errors import UserError
from levelfield.level import reference
from levelfield.level.bounds import proven
from levelfield.level.parity import judge, measure
from levelfield.level.start import make_start
from levelfield.level.trajectory import Trajectory, checkpoints, compared_batches
from levelfield.level.trial import small_protocol, weights_without_zeros
from levelfield.models.base import shapes
from levelfield.models.bilstm import BiLstm
from levelfield.records import load_arrays, save_arrays
from levelfield.study.protocol import Protocol

torch = pytest.importorskip("torch")
functional = torch.nn.functional

LSTM = Protocol(model=BiLstm(embedding=5, units=4), vocabulary=30, length=7, batch_size=6, epochs=1)
MODELS = sorted(registry.models())


def protocol_of(model: str, outputs: int | None = None) -> Protocol:
    protocol = small_protocol(model)
    return protocol if outputs is None else replace(protocol, model=replace(protocol.model, outputs=outputs))


def material(protocol: Protocol, sequences: int, departures=frozenset()):
    """Weights of which none is 0, sequences, and labels: class numbers."""
    rng = np.random.default_rng(7)
    x = rng.integers(0, protocol.vocabulary, (sequences, protocol.length)).astype(np.int32)
    weights = {name: value.astype(np.float64) for name, value in weights_without_zeros(protocol, departures).items()}
    return weights, x, rng.integers(0, max(2, protocol.model.outputs), sequences).astype(np.float64)


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("model", MODELS)
def test_gradients_are_those_of_finite_differences(model, outputs):
    protocol = protocol_of(model, outputs)
    agree_with_finite_differences(protocol, frozenset())


@pytest.mark.parametrize(
    ("model", "departure"),
    [
        ("transformer", "double-softmax"),
        ("transformer", "heads-share-width"),
        ("bilstm", "last-step-output"),
        ("bilstm", "extra-tanh"),
    ],
)
def test_so_are_those_of_a_model_with_a_departure(model, departure):
    agree_with_finite_differences(protocol_of(model), frozenset({departure}))


def agree_with_finite_differences(protocol: Protocol, departures: frozenset[str]) -> None:
    weights, x, y = material(protocol, 6, departures)
    _, found = reference.gradients(protocol, weights, x, y, departures)
    assert {name: value.shape for name, value in found.items()} == shapes(protocol, departures)
    rng, step = np.random.default_rng(1), 1e-5
    for name, value in weights.items():
        # words that do not occur have no gradient
        places = np.flatnonzero(np.abs(found[name]) > 1e-6)
        for place in rng.choice(places, min(5, len(places)), replace=False):
            at, kept, losses = np.unravel_index(place, value.shape), value.flat[place], []
            for sign in (1, -1):
                value[at] = kept + sign * step
                losses.append(reference.loss_and_slope(reference.logits(protocol, weights, x, departures), y)[0])
            value[at] = kept
            assert found[name][at] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-6, abs=1e-10), name
        # softmax takes out what all keys of a query have in common; a first step has nothing that recurs
        none = {"attention/key/bias"} | ({"lstm_2/backward/recurrent_kernel"} if "last-step-output" in departures else set())
        assert len(places) or name in none, name


@pytest.mark.parametrize("model", MODELS)
def test_several_outputs_have_a_softmax_and_its_cross_entropy(model):
    protocol = protocol_of(model, outputs=3)
    weights, x, y = material(protocol, 9)
    logits = torch.tensor(reference.logits(protocol, weights, x), requires_grad=True)
    loss = functional.cross_entropy(logits, torch.tensor(y).long())
    loss.backward()
    found, slope = reference.loss_and_slope(logits.detach().numpy(), y)
    assert found == pytest.approx(loss.item(), abs=1e-14)
    np.testing.assert_allclose(slope, logits.grad.numpy(), rtol=0, atol=1e-15)
    np.testing.assert_allclose(reference.probabilities(logits.detach().numpy()).sum(axis=1), 1, rtol=1e-15)
    assert list(reference.right(logits.detach().numpy(), y)) == (logits.argmax(dim=1) == torch.tensor(y)).tolist()


def lstm_logits(weights: dict, x: np.ndarray, protocol: Protocol) -> np.ndarray:
    """The bidirectional LSTM in autograd's numpy, a time step after the other."""

    def states(layer: str, direction: str, inputs: list) -> list:
        kernel, recurrent, bias = (weights[f"{layer}/{direction}/{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
        hidden = cell = anp.zeros((len(x), len(recurrent)))
        found = []
        for token in inputs if direction == "forward" else inputs[::-1]:
            i, f, c, o = anp.split(token @ kernel + hidden @ recurrent + bias, 4, axis=1)
            cell = cell / (1 + anp.exp(-f)) + anp.tanh(c) / (1 + anp.exp(-i))
            hidden = anp.tanh(cell) / (1 + anp.exp(-o))
            found.append(hidden)
        return found

    inputs = [weights["embedding"][tokens] for tokens in x.T]
    ahead, behind = states("lstm_1", "forward", inputs), states("lstm_1", "backward", inputs)
    inputs = [anp.concatenate(both, axis=1) for both in zip(ahead, behind[::-1], strict=True)]
    last = [states("lstm_2", direction, inputs)[-1] for direction in ("forward", "backward")]
    return anp.concatenate(last, axis=1) @ weights["dense/kernel"] + weights["dense/bias"]


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_lstms_gradient_by_hand_is_that_of_autograd(outputs):
    protocol = protocol_of("bilstm", outputs)
    weights, x, y = material(protocol, 6)
    np.testing.assert_allclose(reference.logits(protocol, weights, x), lstm_logits(weights, x, protocol), rtol=0, atol=1e-14)
    _, found = reference.gradients(protocol, weights, x, y)
    _, slope = reference.loss_and_slope(lstm_logits(weights, x, protocol), y)
    expected = grad(lambda values: anp.sum(lstm_logits(values, x, protocol) * slope))(weights)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("model", MODELS)
def test_the_model_is_that_of_torch_in_float64(model):
    """Outputs and gradients of the builder, a program of its own kind, in float64: to the last digits."""
    protocol = protocol_of(model)
    weights, x, y = material(protocol, 9)
    own = registry.builder(model, "torch").Model(protocol, frozenset()).double()
    with torch.no_grad():
        for name, view, (first, *others) in own.layout():
            view(first).copy_(torch.tensor(weights[name]))
            for other in others:
                other.zero_()
    # the last layer is given float32 by contract: it must not round here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        logits = own(torch.tensor(x))
    labels = torch.tensor(y)
    if protocol.model.outputs == 1:
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], labels)
    else:
        loss = functional.cross_entropy(logits, labels.long())
    loss.backward()
    found_loss, found = reference.gradients(protocol, weights, x, y)
    np.testing.assert_allclose(reference.logits(protocol, weights, x), logits.detach().numpy(), rtol=0, atol=1e-13)
    assert found_loss == pytest.approx(loss.item(), abs=1e-13)
    for name, view, (first, *_) in own.layout():
        np.testing.assert_allclose(found[name], view(first.grad).numpy(), rtol=0, atol=1e-13, err_msg=name)


def test_trajectory_is_that_of_torch_in_float64():
    rng = np.random.default_rng(7)
    x = rng.integers(0, LSTM.vocabulary, (50, LSTM.length)).astype(np.int32)  # a smaller last batch, too
    start, y = make_start(LSTM, 0, 50), (rng.random(50) < 0.5).astype(np.float32)
    model = torch.nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    own = {}
    for name, value in start.weights.items():
        tensor = torch.tensor(value.astype(np.float64))
        if name.startswith("lstm"):
            layer, direction, part = name.split("/")
            suffix = f"_l{int(layer[-1]) - 1}{'_reverse' if direction == 'backward' else ''}"
            parts = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}
            own[name] = getattr(model, parts[part] + suffix)
            own[name].data = tensor.T.contiguous() if tensor.ndim == 2 else tensor
            getattr(model, "bias_hh" + suffix).data.zero_()
        else:
            own[name] = tensor.requires_grad_()
    first, second = ({name: torch.zeros_like(p) for name, p in own.items()} for _ in range(2))

    def logits_and_loss(rows):
        _, (hidden, _) = model(own["embedding"][torch.tensor(x[rows]).long()])
        logits = torch.cat([hidden[-2], hidden[-1]], dim=1) @ own["dense/kernel"] + own["dense/bias"]
        labels = torch.tensor(y[rows], dtype=torch.float64)
        return logits, functional.binary_cross_entropy_with_logits(logits[:, 0], labels)

    found = reference.trajectory(LSTM, start.weights, x, y, start.order[0])
    assert len(found.losses) == 9 and list(found.weights) == [1, 3, 9]
    assert sorted(found.rows) == list(range(50)) and len(found.batches[2]) == 2
    for step, rows in enumerate(found.batches, 1):
        logits, loss = logits_and_loss(rows)
        assert found.losses[step - 1] == pytest.approx(loss.item(), abs=1e-13)
        slopes = dict(zip(own, torch.autograd.grad(loss, own.values()), strict=True))
        if step == 1:
            np.testing.assert_allclose(found.probabilities, torch.sigmoid(logits).detach().numpy(), rtol=0, atol=1e-14)
            for name, slope in slopes.items():
                np.testing.assert_allclose(found.gradients[name], as_canonical(name, slope), rtol=0, atol=1e-14, err_msg=name)
        rate = LSTM.learning_rate * (1 - LSTM.beta_2**step) ** 0.5 / (1 - LSTM.beta_1**step)
        for name, parameter in own.items():
            first[name] = LSTM.beta_1 * first[name] + (1 - LSTM.beta_1) * slopes[name]
            second[name] = LSTM.beta_2 * second[name] + (1 - LSTM.beta_2) * slopes[name] ** 2
            parameter.data -= rate * first[name] / (second[name].sqrt() + LSTM.epsilon)
        if step in found.weights:
            for name, parameter in own.items():
                expected = as_canonical(name, parameter.detach())
                np.testing.assert_allclose(found.weights[step][name], expected, rtol=0, atol=1e-12, err_msg=name)


def as_canonical(name, tensor):
    return tensor.numpy().T if name.startswith("lstm") and tensor.ndim == 2 else tensor.numpy()


def test_a_saved_trajectory_is_read_as_it_was(tmp_path):
    _, x, y = material(LSTM, 60)
    start = make_start(LSTM, 0, 60)
    found = reference.trajectory(LSTM, start.weights, x, y, start.order[0])
    found.save(tmp_path / "reference.npz")
    read = Trajectory.load(tmp_path / "reference.npz")
    assert list(read.weights) == [1, 3, 10] and set(read.gradients) == set(start.weights)
    np.testing.assert_array_equal(read.losses, found.losses)
    np.testing.assert_array_equal(read.weights[10]["embedding"], found.weights[10]["embedding"])


def test_a_trajectory_of_an_earlier_version_goes_on_with_what_it_has(tmp_path):
    """Its smaller batch stands at the end; it knows no right answers, and nothing of what is predicted after a step."""
    _, x, y = material(LSTM, 15)
    start = make_start(LSTM, 0, 15)
    found = proven(LSTM, start.weights, x, y, start.order[0])
    known = found.bounds["float32"]
    for name in [name for name in known if name.startswith(("travelled", "right", "probabilities_step"))]:
        del known[name]
    found.save(tmp_path / "reference.npz")
    arrays = load_arrays(tmp_path / "reference.npz")
    for name in ("sizes", "right", "trained"):
        del arrays[name]
    save_arrays(tmp_path / "reference.npz", arrays)
    read = Trajectory.load(tmp_path / "reference.npz")
    assert [len(rows) for rows in read.batches] == [6, 6, 3] and not len(read.trained)
    measured = measure(Torch(LSTM, frozenset(), "cpu", 1), start.weights, read, x, y)
    assert {"probabilities", "gradients", "weights_step_1"} <= judge(measured, read.bounds["float32"])["shares"].keys()
    del arrays["bounds"]
    save_arrays(tmp_path / "reference.npz", arrays)
    with pytest.raises(
        UserError, match=r"has no bounds, it was written by an older Levelfield: delete it and run snakemake again"
    ):
        Trajectory.load(tmp_path / "reference.npz")


def test_the_first_batch_is_the_most_uneven_that_is_clear_of_kinks():
    """In a balanced batch the biases' gradients cancel to float32's rounding; at a kink rounding decides the gradient."""
    y, order = np.array([0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 1], np.float32), np.arange(11)

    def compared(clear):
        return [list(rows) for rows in compared_batches(y, order, 2, clear)]

    assert compared(lambda rows: True) == [[4, 5], [0, 1], [10], [2, 3], [6, 7], [8, 9]]
    assert compared(lambda rows: rows[0] != 4) == [[8, 9], [0, 1], [10], [2, 3], [4, 5], [6, 7]]
    assert compared(lambda rows: rows[0] == 10)[0] == [4, 5], "none is clear: the smaller last never counts"


@pytest.mark.parametrize(
    ("sequences", "sizes", "steps"),
    [(3, [3], [1]), (4, [4], [1]), (6, [4, 2], [1, 2]), (8, [4, 4], [1, 2]), (10, [4, 4, 2], [1, 3]), (14, [4, 4, 2, 4], [1, 3, 4]),
     (200, [4] * 50, [1, 3, 10, 50]), (401, [4, 4, 1, *[4] * 47], [1, 3, 10, 50])],
)  # fmt: skip
def test_an_epochs_smaller_last_batch_is_compared_third_and_the_last_step_always(sequences, sizes, steps):
    batches = compared_batches(np.zeros(sequences), np.arange(sequences), 4)
    assert [len(rows) for rows in batches] == sizes and checkpoints(len(batches)) == steps
    assert sequences % 4 == 0 or any(sequences - 1 in rows for rows in batches)


@pytest.mark.parametrize(("model", "layer"), [("transformer", "dense"), ("cnn", "hidden")])
def test_a_batch_at_a_kink_is_told_from_one_that_is_clear(model, layer):
    """The bias of a layer with ReLU is set so that one argument is 0 to within float32's rounding."""
    protocol = protocol_of(model)
    weights, x, _ = material(protocol, 4)
    assert reference.clear_of_kinks(protocol, weights, x)
    bias = weights[f"{layer}/bias"]
    last = "logits" if model == "transformer" else "dense"
    # through a last kernel that passes one unit on, whose bias keeps it above 0, the reference tells that unit's argument
    passing = np.zeros_like(weights[f"{last}/kernel"])
    passing[0, 0] = 1
    shown = weights | {f"{last}/kernel": passing, f"{last}/bias": 0 * weights[f"{last}/bias"], f"{layer}/bias": bias + 100}
    arguments = reference.logits(protocol, shown, x)[:, 0] - 100
    at_zero = bias.copy()
    at_zero[0] -= arguments[0]
    assert not reference.clear_of_kinks(protocol, weights | {f"{layer}/bias": at_zero}, x)
