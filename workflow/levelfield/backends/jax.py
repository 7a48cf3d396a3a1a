"""JAX with Optax: pure functions of a tree of weights, one jitted training step.

On a GPU both LSTM layers are one call of the cuDNN LSTM (`jax.experimental.rnn`), elsewhere a `lax.scan` a direction.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import optax
from jax import lax
from jax import numpy as jnp
from jax.experimental import rnn

from levelfield.backends.base import Backend, DeviceError, Progress, Weights, silent
from levelfield.protocol import Protocol
from levelfield.start import shapes

CLIP_NORM = 5.0
DIRECTIONS = ("forward", "backward")


def scan_lstm(weights: Weights, layer: str, direction: str, features: jax.Array) -> jax.Array:
    """features (length, batch, inputs) -> hidden states (length, batch, units), in the order of the input."""
    kernel, recurrent, bias = (weights[f"{layer}/{direction}/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))
    projected = features @ kernel + bias  # all time steps in one product
    zeros = jnp.zeros((features.shape[1], recurrent.shape[0]), features.dtype)

    def step(state, inputs):
        hidden, cell = state
        gate_i, gate_f, candidate, gate_o = jnp.split(inputs + hidden @ recurrent, 4, axis=1)
        cell = jax.nn.sigmoid(gate_f) * cell + jax.nn.sigmoid(gate_i) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(gate_o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    return lax.scan(step, (zeros, zeros), projected, reverse=direction == "backward")[1]


def scan_features(weights: Weights, embedded: jax.Array) -> jax.Array:
    """embedded (length, batch, embedding) -> the second layer's states (length, batch, 2·units)."""
    for layer in ("lstm_1", "lstm_2"):
        embedded = jnp.concatenate([scan_lstm(weights, layer, direction, embedded) for direction in DIRECTIONS], axis=2)
    return embedded


def flat_weights(weights: Weights) -> jax.Array:
    """cuDNN's one flat vector: of each layer and direction the input and recurrent kernels, transposed; then all biases,
    the second of the two being 0 (order as in `jax.experimental.rnn.unpack_lstm_weights`)."""
    kernels, biases = [], []
    for layer in ("lstm_1", "lstm_2"):
        for direction in DIRECTIONS:
            kernel, recurrent, bias = (weights[f"{layer}/{direction}/{n}"] for n in ("kernel", "recurrent_kernel", "bias"))
            kernels += [kernel.T.ravel(), recurrent.T.ravel()]
            biases += [bias, jnp.zeros_like(bias)]
    return jnp.concatenate(kernels + biases)


def cudnn_features(weights: Weights, embedded: jax.Array, lstm=rnn.lstm) -> jax.Array:
    """The same as `scan_features` in one call of the fused kernel."""
    length, batch, inputs = embedded.shape
    units = weights["lstm_1/forward/recurrent_kernel"].shape[0]
    zeros = jnp.zeros((4, batch, units), embedded.dtype)
    output, _, _ = lstm(
        jnp.swapaxes(embedded, 0, 1),
        zeros,
        zeros,
        flat_weights(weights),
        jnp.full((batch,), length, jnp.int32),
        input_size=inputs,
        hidden_size=units,
        num_layers=2,
        dropout=0.0,
        bidirectional=True,
    )
    return jnp.swapaxes(output, 0, 1)


def logits(weights: Weights, tokens: jax.Array, lstm_features, last_step: bool, tanh: bool, dtype) -> jax.Array:
    """tokens int32 (batch, length) -> logits float32 (batch,)."""
    cast = {name: value.astype(dtype) for name, value in weights.items()}
    states = lstm_features(cast, cast["embedding"][tokens.T])
    units = states.shape[2] // 2
    # final states: the forward direction's after the last token, the backward direction's after the first
    features = states[-1] if last_step else jnp.concatenate([states[-1, :, :units], states[0, :, units:]], axis=1)
    if tanh:
        features = jnp.tanh(features)
    return (features.astype(jnp.float32) @ weights["dense/kernel"] + weights["dense/bias"])[:, 0]


def loss_and_correct(weights: Weights, tokens: jax.Array, labels: jax.Array, model) -> tuple[jax.Array, jax.Array]:
    scores = model(weights, tokens)
    loss = optax.sigmoid_binary_cross_entropy(scores, labels).mean()
    return loss, ((scores > 0) == (labels > 0.5)).sum(dtype=jnp.int32)


def adam(protocol: Protocol, departures: frozenset[str]) -> optax.GradientTransformation:
    """Optax divides by √v̂ + ε, the protocol by √v + ε: the same where ε is scaled as v̂ is, step by step."""
    betas = {"b1": protocol.beta_1, "b2": protocol.beta_2}
    if "framework-epsilon" in departures:
        update = optax.adam(protocol.learning_rate, **betas)
    else:
        steps_done = lambda count: protocol.epsilon / jnp.sqrt(1 - protocol.beta_2 ** (count + 1.0))  # noqa: E731
        update = optax.inject_hyperparams(optax.adam)(protocol.learning_rate, eps=steps_done, **betas)
    return optax.chain(optax.clip_by_global_norm(CLIP_NORM), update) if "clip-norm" in departures else update


def profiled(work: Callable[[], object]) -> list[str]:
    """Names of the operations and GPU kernels that `work` ran."""
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            work()
        profiles = [jax.profiler.ProfileData.from_file(str(file)) for file in Path(folder).rglob("*.xplane.pb")]
    return sorted({event.name for p in profiles for plane in p.planes for line in plane.lines for event in line.events})


def be_deterministic(wanted: bool) -> None:
    """Asks XLA for deterministic kernels on a GPU; it reads the variable when the first device is asked for."""
    if wanted:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


class Jax(Backend):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        be_deterministic(protocol.deterministic)
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        self.device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        if device == "cuda" and self.device == "cpu":
            raise DeviceError("device is cuda, but JAX finds no GPU: set `device: cpu` or `auto`")
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if protocol.precision == "tf32" else "float32")
        self.protocol = protocol
        self.departures = departures
        self.adam = adam(protocol, departures)
        fused = partial(rnn.lstm, precision=None if protocol.precision == "tf32" else lax.Precision.HIGHEST)
        self.model = partial(
            logits,
            lstm_features=partial(cudnn_features, lstm=fused) if self.device == "cuda" else scan_features,
            last_step="last-step-output" in departures,
            tanh="extra-tanh" in departures,
            dtype=jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32,
        )
        self.gradient = jax.jit(jax.value_and_grad(partial(loss_and_correct, model=self.model), has_aux=True))
        self.step = jax.jit(self._step, donate_argnums=(0,))
        self.forward = jax.jit(self.model)

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    def load(self, weights: Weights) -> None:
        held = {name: jnp.array(weights[name]) for name in shapes(self.protocol)}
        self.state = (held, self.adam.init(held))

    def weights(self) -> Weights:
        return {name: np.array(value) for name, value in self.state[0].items()}

    def parameters(self) -> int:
        return sum(value.size for value in self.state[0].values())

    def _step(self, state, tokens, labels):
        weights, moments = state
        (loss, correct), gradients = self.gradient(weights, tokens, labels)
        updates, moments = self.adam.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), moments), loss, correct

    def train_epoch(self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False):
        size = self.protocol.batch_size
        if "drop-last-batch" in self.departures:
            order = order[: len(order) // size * size]
        tokens, labels = x[order], y[order]
        losses, corrects = [], []
        for first in range(0, len(order), size):
            batch = slice(first, first + size)
            self.state, loss, correct = self.step(self.state, tokens[batch], labels[batch])
            losses.append(loss)
            corrects.append(correct)
            if wait:
                self.synchronize()
            progress(
                len(losses),
                lambda: (float(np.mean(losses)), sum(map(int, corrects)) / min(len(losses) * size, len(order))),
            )
        return np.array(jax.device_get(losses), np.float32), np.array(jax.device_get(corrects), np.int32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        size = self.protocol.batch_size
        found = [self.forward(self.state[0], x[first : first + size]) for first in range(0, len(x), size)]
        return np.concatenate(jax.device_get(found))

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        (loss, _), found = self.gradient(self.state[0], x, y)
        return float(loss), {name: np.array(value) for name, value in found.items()}

    def synchronize(self) -> None:
        jax.block_until_ready(self.state)

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "optax": optax.__version__}

    def flags(self) -> dict[str, str]:
        return {"precision": self.protocol.precision, "matmul_precision": str(jax.config.jax_default_matmul_precision)}

    def peak_memory(self) -> tuple[int | None, int | None]:
        if self.device == "cpu":
            return None, None
        found = jax.devices()[0].memory_stats()
        return found.get("peak_bytes_in_use"), found.get("peak_pool_bytes")

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))))
