"""The material of the contract's tests: a small protocol, made-up data and weights, and what the reference makes of them.

Every weight differs from 0, so that none can be forgotten unseen, and no setting of Adam is a framework's default.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from levelfield import registry
from levelfield.backends.base import Backend, Progress, silent
from levelfield.level.reference import Adam, gradients, logits, right
from levelfield.level.start import generator, make_start
from levelfield.level.trajectory import Weights
from levelfield.models.base import shapes
from levelfield.study.protocol import Protocol

SEQUENCES = 31
"""Seven batches of 4 and one of 3."""
SEED = 11


def small_protocol(model: str, data_on: registry.DataOn = "host") -> Protocol:
    """The contract's tests' protocol for a model."""
    return Protocol(
        model=registry.model(model).small, vocabulary=40, length=12, batch_size=4, epochs=1,
        learning_rate=2e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-4, data_on=data_on,
    )  # fmt: skip


def weights_without_zeros(protocol: Protocol, departures: frozenset[str] = frozenset()) -> Weights:
    """Weights of the size of PyTorch's defaults, U(±1/√width), one that is called `embedding` N(0, 1)."""
    found = {}
    for key, (name, shape) in enumerate(shapes(protocol, departures).items()):
        rng = generator(SEED, key)
        found[name] = (rng.normal(size=shape) if name == "embedding" else rng.uniform(-0.45, 0.45, shape)).astype(np.float32)
    return found


class Trial:
    """The material of the checks: data, weights, the reference's figures, and the backend, freshly loaded when asked for."""

    def __init__(
        self,
        name: str,
        model: str,
        make: Callable[[Protocol, frozenset[str], str], Backend],
        data_on: registry.DataOn = "host",
        devices: int = 1,
    ):
        self.name, self.make = name, make
        self.protocol = replace(small_protocol(model, data_on), devices=devices)
        rng = np.random.default_rng(SEED)
        self.x = rng.integers(0, self.protocol.vocabulary, (SEQUENCES, self.protocol.length)).astype(np.int32)
        labels = rng.random(SEQUENCES) < 0.5
        self.y = labels.astype(np.float32 if self.protocol.model.outputs == 1 else np.int32)
        self.order = make_start(self.protocol, SEED, SEQUENCES).order[0].astype(np.int64)
        self.kept = [self.x.copy(), self.y.copy(), self.order.copy()]
        self.weights = weights_without_zeros(self.protocol)
        self.exact: Weights = {name: value.astype(np.float64) for name, value in self.weights.items()}
        self.batches = np.split(self.order, range(self.protocol.batch_size, SEQUENCES, self.protocol.batch_size))
        self.first = self.x[self.batches[0]], self.y[self.batches[0]]
        self.losses, self.correct, self.trained = self.reference(self.weights, epochs=2)
        self._backend: Backend | None = None

    def reference(
        self,
        start: Weights,
        epochs: int,
        clip_norm: float = np.inf,
        departures: frozenset[str] = frozenset(),
        y: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[Weights]]:
        """The reference's loss and right answers of each step, and its weights after each step. y: other labels."""
        labels = self.y if y is None else y
        weights = {name: value.astype(np.float64) for name, value in start.items()}
        adam, losses, correct, trained = Adam(self.protocol, weights), [], [], []
        for rows in self.batches * epochs:
            x, right_ones = self.x[rows], labels[rows]
            correct.append(int(right(logits(self.protocol, weights, x, departures), right_ones).sum()))
            loss, slopes = gradients(self.protocol, weights, x, right_ones, departures)
            norm = np.sqrt(sum(np.sum(value**2) for value in slopes.values()))
            adam.update(weights, {name: value * min(1, clip_norm / norm) for name, value in slopes.items()})
            losses.append(loss)
            trained.append({name: value.copy() for name, value in weights.items()})
        return np.array(losses), np.array(correct), trained

    @property
    def last_layer(self) -> tuple[str, str | None]:
        """The last weight with more than one axis, a kernel or an embedding, and the bias of each output behind it, where there is one."""
        *_, kernel = (name for name, value in self.weights.items() if value.ndim > 1)
        *_, last = self.weights
        return kernel, last if self.weights[last].shape == (self.protocol.model.outputs,) else None

    def undecided(self) -> Weights | None:
        """Weights with which half of the first batch is of class 1, each by about what one step changes; None of a model whose last layer
        has no bias to move its answers by."""
        kernel, bias = self.last_layer
        if bias is None:
            return None
        found = {name: value.copy() for name, value in self.weights.items()}

        def ahead() -> np.ndarray:
            """How far the first batch's logits of class 1 are ahead of the others."""
            exact = {name: value.astype(np.float64) for name, value in found.items()}
            z = logits(self.protocol, exact, self.first[0])
            return z[:, 0] if z.shape[1] == 1 else z[:, 1] - np.delete(z, 1, axis=1).max(axis=1)

        found[kernel] *= self.protocol.learning_rate / np.ptp(ahead())
        found[bias][min(1, self.protocol.model.outputs - 1)] -= np.median(ahead())
        return found

    def made(self, departures: frozenset[str]) -> Backend:
        """Another backend of this kind, with departures."""
        return self.make(self.protocol, departures, "auto")

    @property
    def backend(self) -> Backend:
        """The backend as built, the start not loaded anew."""
        if self._backend is None:
            self._backend = self.made(frozenset())
            self._backend.load(self.weights)
        return self._backend

    @property
    def loaded(self) -> Backend:
        """The backend after `load`."""
        self.backend.load(self.weights)
        return self.backend

    def train(
        self, backend: Backend, order: np.ndarray | None = None, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        return backend.train_epoch(self.x, self.y, self.order if order is None else order, progress=progress, wait=wait)
