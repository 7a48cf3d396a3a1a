"""Plants faults in a backend and in the models' builders, one at a time: the contract's tests find each and give its reason."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outside import registered

from levelfield import registry
from levelfield.backends import load_backend
from levelfield.level.check import CHECKS, Fault, check, made_right
from levelfield.level.trial import Trial

torch = pytest.importorskip("torch")
from levelfield.backends.torch import Torch  # noqa: E402

EXAMPLE = Path(__file__).parent / "example_backend"
sys.path.insert(0, str(EXAMPLE))
from torch_cells import TorchCells  # noqa: E402


class WrongGateOrder(TorchCells):
    def gates(self, arguments):
        i, f, o, c = arguments.chunk(4, dim=1)
        return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(c), torch.sigmoid(o)


class LastStepOutput(TorchCells):
    def features(self, forward, backward):
        return torch.cat([forward[-1], backward[0]], dim=1)


class ExtraTanh(TorchCells):
    def features(self, forward, backward):
        return torch.tanh(super().features(forward, backward))


class Float16Slip(TorchCells):
    def features(self, forward, backward):
        return super().features(forward, backward).half().float()


class ScaledGradients(TorchCells):
    """The sum over the batch where the mean is asked for: Adam hides it from the losses."""

    def gradients(self, x, y):
        loss, found = super().gradients(x, y)
        return loss, {name: value * len(y) for name, value in found.items()}


class EpsilonInAnotherPlace(TorchCells):
    def load(self, weights):
        super().load(weights)
        self.adam = torch.optim.Adam(
            self.own.values(), self.protocol.learning_rate, (self.protocol.beta_1, self.protocol.beta_2), self.protocol.epsilon
        )

    def update(self, gradients):
        for name, value in self.own.items():
            value.grad = gradients[name]
        self.adam.step()


class FrameworksEpsilon(TorchCells):
    def update(self, gradients):
        self.protocol = replace(self.protocol, epsilon=1e-7)
        super().update(gradients)


class DoubledBias(TorchCells):
    def update(self, gradients):
        before = {name: value.detach().clone() for name, value in self.own.items()}
        super().update(gradients)
        for name, value in self.own.items():
            if name.startswith("lstm") and name.endswith("bias"):
                value.data += value.data - before[name]


class StepToNoNumber(TorchCells):
    def update(self, gradients):
        super().update({name: value * float("nan") for name, value in gradients.items()})


class DroppedBatch(TorchCells):
    def train_epoch(self, x, y, order, **how):
        return super().train_epoch(x, y, order[: len(order) // self.batch_size * self.batch_size], **how)


class UnshuffledOrder(TorchCells):
    def train_epoch(self, x, y, order, **how):
        return super().train_epoch(x, y, np.sort(order), **how)


class ShuffledOnceMore(TorchCells):
    def train_epoch(self, x, y, order, **how):
        rest = np.random.default_rng(0).permutation(order[self.batch_size :])
        return super().train_epoch(x, y, np.concatenate([order[: self.batch_size], rest]), **how)


class StaleOptimiser(TorchCells):
    def warm_up(self, x, y, weights):
        self.train_epoch(x, y, np.arange(2 * self.batch_size))
        for name, value in weights.items():
            self.own[name].data = torch.tensor(value)


class WeightsOffAfterWarmUp(TorchCells):
    def warm_up(self, x, y, weights):
        super().warm_up(x, y, weights)
        self.update({name: torch.ones_like(value) for name, value in self.own.items()})


class OptimiserForgetsEachEpoch(TorchCells):
    def train_epoch(self, x, y, order, **how):
        self.steps = 0
        for name in self.own:
            self.first[name].zero_(), self.second[name].zero_()
        return super().train_epoch(x, y, order, **how)


class AnswersAfterTheUpdate(TorchCells):
    def train_epoch(self, x, y, order, **how):
        losses, _ = super().train_epoch(x, y, order, **how)
        after = [
            ((self.predict(x[rows])[:, 0] > 0) == (y[rows] > 0.5)).sum() for rows in np.split(order, range(4, len(order), 4))
        ]
        return losses, np.array(after)


class EveryPositiveAnswerIsRight(TorchCells):
    def train_epoch(self, x, y, order, **how):
        losses, _ = super().train_epoch(x, y, order, **how)
        return losses, np.array([(self.predict(x[rows]) > 0).sum() for rows in np.split(order, range(4, len(order), 4))])


class IgnoresDepartures(TorchCells):
    def __init__(self, protocol, departures, device, threads):
        super().__init__(protocol, frozenset(), device, threads)


class SilentlyOnTheCpu(TorchCells):
    def __init__(self, protocol, departures, device, threads):
        super().__init__(protocol, departures, "cpu", threads)


FAULTS = {
    WrongGateOrder: ("outputs", "the gates stand in the order i, f, o, c instead of i, f, c, o"),
    LastStepOutput: ("outputs", "reads the last time step"),
    ExtraTanh: ("outputs", "extra-tanh: A tanh before the dense layer"),
    Float16Slip: ("outputs", "half precision"),
    ScaledGradients: ("gradients", "over its largest entry: found 3"),
    EpsilonInAnotherPlace: ("one step", "ε stands beside √v̂"),
    FrameworksEpsilon: ("one step", "ε is 1e-07 instead of the protocol's 1e-04"),
    DoubledBias: ("one step", "a second bias is trained"),
    StepToNoNumber: ("one step", "found inf"),
    DroppedBatch: ("every batch", "the smaller last batch is left out"),
    UnshuffledOrder: ("order", "`order` was not followed"),
    ShuffledOnceMore: ("trajectory", "losses: found"),
    StaleOptimiser: ("warm-up", "the optimiser kept its state"),
    WeightsOffAfterWarmUp: ("warm-up", "must be those given, bit for bit"),
    OptimiserForgetsEachEpoch: ("second epoch", "the optimiser's state carried on: found"),
    AnswersAfterTheUpdate: ("answers", "counted before the update?"),
    EveryPositiveAnswerIsRight: ("answers", "step 1: found"),
    IgnoresDepartures: ("departures", "last-step-output: probabilities"),
    SilentlyOnTheCpu: ("device", "expected a DeviceError"),
}


@pytest.fixture(scope="module")
def torch_cells(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, registered(EXAMPLE, tmp_path_factory.mktemp("site"), patch):
        yield


def findings(name: str, model: str, backend) -> dict[str, tuple[bool, str]]:
    found = check(name, model, lambda protocol, departures, device: backend(protocol, departures, device, 1))
    return {finding.check: (finding.passed, finding.found) for finding in found}


def test_the_backend_without_a_fault_passes(torch_cells):
    found = findings("torch-cells", "bilstm", TorchCells)
    assert [(check, told) for check, (passed, told) in found.items() if not passed] == []


@pytest.mark.parametrize("backend", FAULTS, ids=lambda backend: backend.__name__)
def test_a_planted_fault_is_found_and_named(torch_cells, backend):
    where, reason = FAULTS[backend]
    found = findings("torch-cells", "bilstm", backend)
    passed, told = found[where]
    assert not passed and reason in told, told
    assert sum(not passed for passed, _ in found.values()) < len(found) - 5  # the rest of the contract is seen to hold


class AnotherEpsilon(Torch):
    def _adam(self):
        adam = super()._adam()
        adam.param_groups[0]["eps"] = 1e-7
        return adam


class DropsInPrediction(Torch):
    def predict(self, x):
        eval, self.model.eval = self.model.eval, self.model.train
        found = super().predict(x)
        self.model.eval = eval
        return found


class MendedByTheLoss(Torch):
    """Trains on the logits before the softmax, as Keras's loss does on TensorFlow where nothing stands between."""

    def train_epoch(self, *arguments, **how):
        last, self.model.last = self.model.last, torch.nn.Identity()
        found = super().train_epoch(*arguments, **how)
        self.model.last = last
        return found


@pytest.mark.parametrize(
    ("backend", "departure", "told"),
    [
        (AnotherEpsilon, "framework-epsilon", r"framework-epsilon: \S+ after one step: found"),
        (DropsInPrediction, "own-dropout", "own-dropout: probabilities, which dropout leaves alone: found"),
        (MendedByTheLoss, "double-softmax", "double-softmax: losses: found"),
    ],
    ids=lambda value: value if value in registry.departures() else "",
)
def test_a_departure_that_is_made_otherwise_than_described_is_found(backend, departure, told):
    trial = Trial("torch", "transformer", lambda protocol, departures, device: backend(protocol, departures, device, 1))
    right = Trial("torch", "transformer", lambda protocol, departures, device: Torch(protocol, departures, device, 1))
    made_right(right, departure, right.made(frozenset({departure})))
    with pytest.raises(Fault, match=told):
        made_right(trial, departure, trial.made(frozenset({departure})))


SCORES = "attended = functional.scaled_dot_product_attention(query, key, value{})"
LINES = {
    ("transformer", "torch"): [
        (SCORES.format(""), SCORES.format(", scale=1.0"), "attention's scores are not divided by √(width of a head)"),
        (SCORES.format(""), SCORES.format(", is_causal=True"), "attention is causal"),
        ("DEPARTURES = (", "EPSILON = 1e-3\nDEPARTURES = (", "LayerNorm's ε is 1e-03 instead of 1e-06"),
        (
            "unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)",
            "unflatten(-1, (self.head_width, self.heads)).permute(0, 3, 1, 2)",
            "heads and their width are mixed up where queries, keys and values are split",
        ),
        (
            "attended.transpose(1, 2).flatten(-2)",
            "attended.reshape(features.shape[0], features.shape[1], -1)",
            "the heads' results are reshaped without transposing back",
        ),
        (
            "functional.relu(self.feed_forward_1(features))",
            "self.feed_forward_1(features)",
            "the feed-forward layer's ReLU is left out",
        ),
        ("functional.relu(self.dense(features))", "functional.gelu(self.dense(features))", "the dense layer's ReLU is replaced by GELU"),
        (
            "self.tokens(tokens) + self.positions.weight",
            "self.tokens(tokens) + torch.cat([self.positions.weight[1:], self.positions.weight[-1:]])",
            "positions are counted from 1",
        ),
        (
            "self.key = nn.Linear(width, heads * head_width)",
            "self.key = nn.Linear(width, heads * head_width).requires_grad_(False)",
            "parameters: found",
        ),
        ("features.mean(dim=1)", "features[:, -1]", "the dense layer reads the last token, not the mean"),
        ('if "double-softmax" in departures else nn.Identity()', "", "double-softmax: The model ends in a softmax"),
    ],
    ("cnn", "torch"): [
        (
            "self.conv_2 = nn.Conv1d(sizes.filters, sizes.filters, sizes.width, sizes.stride)",
            "self.conv_2 = nn.Conv1d(sizes.filters, sizes.filters, sizes.width, 1)",
            "the convolutions have the strides 2 and 1 instead of 2",
        ),
        ("features.amax(dim=2)", "features.mean(dim=2)", "time is reduced by its mean instead of its maximum"),
        ("self.conv_2(features).relu()", "self.conv_2(features)", "no ReLU after conv_2"),
        ("self.hidden(features).relu()", "self.hidden(features)", "no ReLU after hidden"),
        (
            "nn.Embedding(protocol.vocabulary, sizes.embedding)",
            "nn.Embedding(protocol.vocabulary, sizes.embedding, padding_idx=0)",
            "one step: the embedding of id 0 is not trained (padding_idx)",
        ),
        (
            "self.conv_1(features.mT)",
            "self.conv_1(features.reshape(len(tokens), -1, tokens.shape[1]))",
            "the embedded words are reshaped to (batch, channels, time), not transposed",
        ),
    ],
    ("cnn", "jax"): [
        ('"VALID"', '"SAME"', "the convolutions pad as `same` does in Keras and Flax"),
        ("lax.conv_general_dilated(features, kernel,", "lax.conv_general_dilated(features, kernel[::-1],", "a true convolution"),
    ],
    ("transformer", "jax"): [
        ("DEPARTURES = (", "EPSILON = 1e-5\nDEPARTURES = (", "LayerNorm's ε is 1e-05 instead of 1e-06"),
    ],
}  # fmt: skip
"""Model and builder: a line as it stands there, one that someone might write in its place, and what is told: of the outputs, or
of the check that is named."""


def changed(model: str, framework: str, line: str, other: str, folder: Path):
    """The builder with one line changed, as a module."""
    source = Path(importlib.util.find_spec(registry.builder_module(model, framework)).origin).read_text(encoding="utf-8")
    assert source.count(line) == 1, f"{line!r} is no single line of {model}/{framework}.py any more"
    file = folder / f"{framework}.py"
    file.write_text(source.replace(line, other), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"faulty_{model}_{framework}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("model", "framework", "line", "other", "told"),
    [
        pytest.param(*where, *fault, marks=[] if where[1] == "torch" else pytest.mark.long)
        for where, faults in LINES.items()
        for fault in faults
    ],
    ids=lambda value: value if value in registry.models() else "",
)
def test_a_wrong_line_of_a_builder_is_found_and_named(tmp_path, monkeypatch, model, framework, line, other, told):
    module = changed(model, framework, line, other, tmp_path)
    monkeypatch.setattr(registry, "builder", lambda *_: module)
    monkeypatch.delitem(CHECKS, "departures")  # they are the same line's fault, and take most of the time
    found = findings(framework, model, load_backend(framework))
    check, _, reason = told.partition(": ") if told.partition(": ")[0] in found else ("outputs", "", told)
    passed, why = found[check]
    assert not passed and reason in why, why
    assert found["weights"][0] and found["inputs"][0]  # the rest of the contract is seen to hold
