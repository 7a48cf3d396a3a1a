"""The material of the contract's tests: a small protocol, made-up data and weights, and what the reference makes of them.

Every weight differs from 0, so that none can be forgotten unseen, and no setting of Adam is a framework's default.
"""

import numpy as np

from levelfield import mistakes
from levelfield.backends.base import Backend
from levelfield.protocol import Protocol
from levelfield.reference import Adam, Weights, gradients
from levelfield.start import make_start, naive_weights

PROTOCOL = Protocol(
    vocabulary=40, length=7, embedding=6, units=5, batch_size=4, epochs=1,
    learning_rate=2e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-4,
)  # fmt: skip
SEQUENCES = 31
"""Seven batches of 4 and one of 3."""
SEED = 11


class Trial:
    """The material of the checks: data, weights, the reference's figures, and the backend, freshly loaded when asked for."""

    def __init__(self, name: str, make):
        self.name, self.make = name, make
        rng = np.random.default_rng(SEED)
        self.x = rng.integers(0, PROTOCOL.vocabulary, (SEQUENCES, PROTOCOL.length)).astype(np.int32)
        self.y = (rng.random(SEQUENCES) < 0.5).astype(np.float32)
        self.order = make_start(PROTOCOL, SEED, SEQUENCES).order[0].astype(np.int64)
        self.kept = [self.x.copy(), self.y.copy(), self.order.copy()]
        self.weights = naive_weights(PROTOCOL, SEED)
        self.exact: Weights = {name: value.astype(np.float64) for name, value in self.weights.items()}
        self.batches = np.split(self.order, range(PROTOCOL.batch_size, SEQUENCES, PROTOCOL.batch_size))
        self.first = self.x[self.batches[0]], self.y[self.batches[0]]
        self.losses, self.correct, self.trained = self.reference(self.weights, epochs=2)
        self._backend: Backend | None = None

    def reference(self, start: Weights, epochs: int, clip_norm: float = np.inf) -> tuple[np.ndarray, np.ndarray, list[Weights]]:
        """The reference's loss and right answers of each step, and its weights after each step."""
        weights = {name: value.astype(np.float64) for name, value in start.items()}
        adam, losses, correct, trained = Adam(PROTOCOL, weights), [], [], []
        for rows in self.batches * epochs:
            x, y = self.x[rows], self.y[rows]
            correct.append(int(((mistakes.outputs(weights, x) > 0.5) == (y > 0.5)).sum()))
            loss, slopes = gradients(weights, x, y)
            norm = np.sqrt(sum(np.sum(value**2) for value in slopes.values()))
            adam.update(weights, {name: value * min(1, clip_norm / norm) for name, value in slopes.items()})
            losses.append(loss)
            trained.append({name: value.copy() for name, value in weights.items()})
        return np.array(losses), np.array(correct), trained

    @property
    def backend(self) -> Backend:
        """The backend as built, the start not loaded anew."""
        if self._backend is None:
            self._backend = self.make(PROTOCOL, frozenset(), "auto")
            self._backend.load(self.weights)
        return self._backend

    @property
    def loaded(self) -> Backend:
        """The backend after `load`."""
        self.backend.load(self.weights)
        return self.backend

    def train(self, backend: Backend, order: np.ndarray | None = None, **how) -> tuple[np.ndarray, np.ndarray]:
        return backend.train_epoch(self.x, self.y, self.order if order is None else order, **how)
