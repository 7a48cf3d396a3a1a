"""Flax NNX with Optax: a module and its optimiser, whose states go through one jitted training step.

The step is jitted by `jax.jit`, with `nnx.split` and `nnx.merge` around it, as the guide "Performance considerations" in Flax's
documentation has it: `nnx.jit` walks through both objects in Python at every call. That made a step of a small LSTM on a CPU
take 3.3 ms instead of 0.35 ms; the reference experiment's takes 155 ms either way.
"""

from typing import Any

import flax
import jax
import numpy as np
from flax import nnx
from jax import numpy as jnp

from levelfield import registry
from levelfield.backends.base import Weights
from levelfield.backends.jax import Jax, JaxScan, Labels, State, adam, loss_and_correct, preallocates, set_framework
from levelfield.study.protocol import Protocol

BACKENDS = {
    "flax": {
        "class": "Flax",
        "image": "jax",
        "devices": "levelfield.backends.jax_devices:FlaxDevices",
        "departures": ["clip-norm", "framework-epsilon"],
        "data_on": ["host", "device"],
    },
    "flax-scan": {"like": "flax", "class": "FlaxScan", "data_on": ["device"]},
}


def loss_and_right(model: nnx.Module, tokens: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    return loss_and_correct(model(tokens), labels)


class Flax(Jax):
    """The loop and the instruments are those of `jax`; the state is the model's and the optimiser's.

    A departure's own dropout draws from the model's `nnx.Rngs`, whose counts are a part of its state.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        self.device = set_framework(protocol, device)
        self.preallocates = preallocates(self.device)
        self.protocol = protocol
        self.departures = departures
        self.adam = adam(protocol, departures)
        self.builder = registry.builder(protocol.model.name, "flax")
        self.start = jax.jit(self._start)
        self.gradient = jax.jit(self._gradient)
        self.step = jax.jit(self._step, donate_argnums=(0,))
        self.forward = jax.jit(self._forward)

    def _start(self, weights: dict[str, jax.Array], key: jax.Array) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Model and optimiser, each split. Jitted, since what Flax draws for the weights is then left out."""
        model = self.builder.Model(self.protocol, self.departures, nnx.Rngs(key))
        for name, parameter, _, from_canonical in model.layout():
            parameter[...] = from_canonical(weights[name])
        return nnx.split(model), nnx.split(nnx.Optimizer(model, self.adam, wrt=nnx.Param))

    def load(self, weights: Weights) -> None:
        self.state = ()  # two of them need not fit into memory
        held = {name: jnp.array(value) for name, value in weights.items()}
        (self.model, parameters), (self.optimizer, moments) = self.start(held, jax.random.key(self.seed))
        self.state = (parameters, moments)

    def weights(self) -> Weights:
        model = nnx.merge(self.model, self.state[0])
        return {name: np.array(into_canonical(parameter[...])) for name, parameter, into_canonical, _ in model.layout()}

    def parameters(self) -> int:
        return sum(value.size for value in jax.tree.leaves(nnx.filter_state(self.state[0], nnx.Param)))

    def _step(self, state: State, tokens: jax.Array, labels: Labels) -> tuple[State, jax.Array, jax.Array]:
        model, optimizer = nnx.merge(self.model, state[0]), nnx.merge(self.optimizer, state[1])
        model.train()
        (loss, correct), gradients = nnx.value_and_grad(loss_and_right, has_aux=True)(model, tokens, labels)
        optimizer.update(model, gradients)
        return (nnx.state(model), nnx.state(optimizer)), loss, correct

    def _forward(self, parameters: Any, tokens: jax.Array) -> jax.Array:
        model = nnx.merge(self.model, parameters)
        model.eval()
        logits: jax.Array = model(tokens)
        return logits

    def _gradient(self, parameters: Any, tokens: jax.Array, labels: Labels) -> tuple[jax.Array, dict[str, jax.Array]]:
        model = nnx.merge(self.model, parameters)
        model.train()
        (loss, _), gradients = nnx.value_and_grad(loss_and_right, has_aux=True)(model, tokens, labels)
        nnx.update(model, gradients)
        return loss, {name: into_canonical(slope[...]) for name, slope, into_canonical, _ in model.layout()}

    def gradients(self, x: np.ndarray, y: Labels) -> tuple[float, Weights]:
        loss, found = self.gradient(self.state[0], x, y)
        return float(loss), {name: np.array(value) for name, value in found.items()}

    def versions(self) -> dict[str, str]:
        return super().versions() | {"flax": flax.__version__}


class FlaxScan(JaxScan, Flax):
    pass
