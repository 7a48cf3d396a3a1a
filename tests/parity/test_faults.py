"""Plants faults in a backend, one at a time, and sees the contract's tests find each one and give its reason."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from levelfield.level.check import check

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parent / "example_backend"))
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
        after = [((self.predict(x[rows]) > 0) == (y[rows] > 0.5)).sum() for rows in np.split(order, range(4, len(order), 4))]
        return losses, np.array(after)


class IgnoresDepartures(TorchCells):
    def __init__(self, protocol, departures, device, threads):
        super().__init__(protocol, frozenset(), device, threads)


class SilentlyOnTheCpu(TorchCells):
    def __init__(self, protocol, departures, device, threads):
        super().__init__(protocol, departures, "cpu", threads)


FAULTS = {
    WrongGateOrder: ("outputs", "the gates stand in the order i, f, o, c instead of i, f, c, o"),
    LastStepOutput: ("outputs", "reads the last time step"),
    ExtraTanh: ("outputs", "a tanh before the dense layer"),
    Float16Slip: ("outputs", "half precision"),
    ScaledGradients: ("gradients", "over its largest entry: found 3"),
    EpsilonInAnotherPlace: ("one step", "ε stands beside √v̂"),
    FrameworksEpsilon: ("one step", "ε is 1e-07 instead of the protocol's 1e-04"),
    DoubledBias: ("one step", "a second bias is trained"),
    DroppedBatch: ("every batch", "the smaller last batch is left out"),
    UnshuffledOrder: ("order", "`order` was not followed"),
    ShuffledOnceMore: ("trajectory", "losses: found"),
    StaleOptimiser: ("warm-up", "the optimiser kept its state"),
    WeightsOffAfterWarmUp: ("warm-up", "must be those given, bit for bit"),
    OptimiserForgetsEachEpoch: ("second epoch", "the optimiser's state carried on: found"),
    AnswersAfterTheUpdate: ("answers", "counted before the update?"),
    IgnoresDepartures: ("departures", "last-step-output: probabilities"),
    SilentlyOnTheCpu: ("device", "expected a DeviceError"),
}


def findings(backend) -> dict[str, tuple[bool, str]]:
    found = check("torch-cells", lambda protocol, departures, device: backend(protocol, departures, device, 1))
    return {finding.check: (finding.passed, finding.found) for finding in found}


def test_the_backend_without_a_fault_passes():
    assert [(check, found) for check, (passed, found) in findings(TorchCells).items() if not passed] == []


@pytest.mark.parametrize("backend", FAULTS, ids=lambda backend: backend.__name__)
def test_a_planted_fault_is_found_and_named(backend):
    where, reason = FAULTS[backend]
    found = findings(backend)
    passed, told = found[where]
    assert not passed and reason in told, told
    assert sum(not passed for passed, _ in found.values()) < len(found) - 5  # the rest of the contract is seen to hold
