"""The float64 reference is right: against finite differences, and against torch's own LSTM and autograd in float64."""

import numpy as np
import pytest

from levelfield.level import reference
from levelfield.level.start import make_start
from levelfield.study.protocol import Protocol

SMALL = Protocol(vocabulary=30, length=7, embedding=5, units=4, batch_size=6, epochs=1)


def material(protocol: Protocol, sequences: int):
    rng = np.random.default_rng(7)
    x = rng.integers(0, protocol.vocabulary, (sequences, protocol.length)).astype(np.int32)
    return make_start(protocol, 0, sequences), x, (rng.random(sequences) < 0.5).astype(np.float32)


def test_gradients_are_those_of_finite_differences():
    start, x, y = material(SMALL, 6)
    weights = {name: value.astype(np.float64) for name, value in start.weights.items()}
    _, found = reference.gradients(weights, x, y)
    rng, step = np.random.default_rng(1), 1e-5
    for name, value in weights.items():
        for place in rng.integers(0, value.size, 5):
            at, kept, losses = np.unravel_index(place, value.shape), value.flat[place], []
            for sign in (1, -1):
                value[at] = kept + sign * step
                losses.append(reference.gradients(weights, x, y)[0])
            value[at] = kept
            assert found[name][at] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-6, abs=1e-10), name


def test_trajectory_is_that_of_torch_in_float64():
    torch = pytest.importorskip("torch")
    start, x, y = material(SMALL, 50)  # a smaller last batch, too
    model = torch.nn.LSTM(SMALL.embedding, SMALL.units, 2, batch_first=True, bidirectional=True, dtype=torch.float64)
    own = {}
    for name, value in start.weights.items():
        tensor = torch.tensor(value.astype(np.float64))
        if name.startswith("lstm"):
            layer, direction, part = name.split("/")
            suffix = f"_l{int(layer[-1]) - 1}{'_reverse' if direction == 'backward' else ''}"
            own[name] = getattr(
                model, {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}[part] + suffix
            )
            own[name].data = tensor.T.contiguous() if tensor.ndim == 2 else tensor
            getattr(model, "bias_hh" + suffix).data.zero_()
        else:
            own[name] = tensor.requires_grad_()
    first, second = ({name: torch.zeros_like(p) for name, p in own.items()} for _ in range(2))

    def logits_and_loss(rows):
        _, (hidden, _) = model(own["embedding"][torch.tensor(x[rows]).long()])
        logits = (torch.cat([hidden[-2], hidden[-1]], dim=1) @ own["dense/kernel"] + own["dense/bias"])[:, 0]
        labels = torch.tensor(y[rows], dtype=torch.float64)
        return logits, torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

    found = reference.trajectory(SMALL, start.weights, x, y, start.order[0])
    assert len(found.losses) == 9 and list(found.weights) == [1]
    uneven = reference.gradient_batch(y, start.order[0], 6)
    for name, slope in zip(own, torch.autograd.grad(logits_and_loss(uneven)[1], own.values()), strict=True):
        np.testing.assert_allclose(found.gradients[name], as_canonical(name, slope), rtol=0, atol=1e-14, err_msg=name)
    for step, rows in enumerate(np.split(start.order[0], range(6, 50, 6)), 1):
        logits, loss = logits_and_loss(rows)
        assert found.losses[step - 1] == pytest.approx(loss.item(), abs=1e-13)
        slopes = dict(zip(own, torch.autograd.grad(loss, own.values()), strict=True))
        if step == 1:
            np.testing.assert_allclose(found.probabilities, torch.sigmoid(logits).detach().numpy(), rtol=0, atol=1e-14)
        rate = SMALL.learning_rate * (1 - SMALL.beta_2**step) ** 0.5 / (1 - SMALL.beta_1**step)
        for name, parameter in own.items():
            first[name] = SMALL.beta_1 * first[name] + (1 - SMALL.beta_1) * slopes[name]
            second[name] = SMALL.beta_2 * second[name] + (1 - SMALL.beta_2) * slopes[name] ** 2
            parameter.data -= rate * first[name] / (second[name].sqrt() + SMALL.epsilon)
        if step in found.weights:
            for name, parameter in own.items():
                expected = as_canonical(name, parameter.detach())
                np.testing.assert_allclose(found.weights[step][name], expected, rtol=0, atol=1e-12, err_msg=name)


def as_canonical(name, tensor):
    return tensor.numpy().T if name.startswith("lstm") and tensor.ndim == 2 else tensor.numpy()


def test_a_saved_trajectory_is_read_as_it_was(tmp_path):
    start, x, y = material(SMALL, 60)
    found = reference.trajectory(SMALL, start.weights, x, y, start.order[0])
    found.save(tmp_path / "reference.npz")
    read = reference.Trajectory.load(tmp_path / "reference.npz")
    assert list(read.weights) == [1, 10] and set(read.gradients) == set(start.weights)
    np.testing.assert_array_equal(read.losses, found.losses)
    np.testing.assert_array_equal(read.weights[10]["embedding"], found.weights[10]["embedding"])


def test_the_gradient_is_compared_where_labels_are_uneven():
    """In a balanced batch the biases' gradients cancel to float32's rounding."""
    y = np.array([0, 1, 0, 1, 1, 1, 0, 1], np.float32)
    assert list(reference.gradient_batch(y, np.arange(8), 2)) == [4, 5]
