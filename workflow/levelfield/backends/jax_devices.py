"""JAX and Flax on several devices: a mesh, the weights on each of its devices, a batch split between them.

`jax.shard_map` states what each device computes: the gradient of its part of the batch's mean loss, which `psum` adds up. (Left to
itself, XLA's partitioner has every device compute a call that it cannot split, such as cuDNN's LSTM, on the whole batch.) On a CPU
the devices are virtual ones of the one processor.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from levelfield.backends.base import Progress, Weights, no_logits, no_steps, silent
from levelfield.backends.devices import enough, filled
from levelfield.backends.flax import Flax
from levelfield.backends.jax import Fetched, Jax, Labels, State, losses_and_right
from levelfield.study.protocol import Protocol

AXIS = "devices"


def offer_devices(count: int) -> None:
    """Lets JAX's CPU be `count` virtual devices; to be called before the first device is asked for."""
    if jax.config.values["jax_num_cpu_devices"] != count:
        jax.config.update("jax_num_cpu_devices", count)


def devices_of(count: int, framework: str) -> list[jax.Device]:
    """The first `count` devices. Raises DeviceError where there are fewer."""
    enough(len(jax.devices()), count, framework)
    return jax.devices()[:count]


def peak_memory(device: str) -> tuple[int | None, int | None]:
    """As for one device, of all together; None where one of them does not tell."""
    if device == "cpu":
        return None, None
    found: list[dict[str, int]] = [one.memory_stats() or {} for one in jax.devices()]

    def together(name: str) -> int | None:
        told = [one[name] for one in found if name in one]
        return sum(told) if len(told) == len(found) else None

    return together("peak_bytes_in_use"), together("peak_pool_bytes")


def shared_loss(logits: jax.Array, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """A device's part of the batch's mean loss, and of its right answers. labels: and each sequence's share of the mean."""
    known, shares = labels
    losses, right = losses_and_right(logits, known)
    return jnp.sum(losses * shares), jnp.sum(right & (shares > 0), dtype=jnp.int32)


class Shared(Jax):
    """What JAX and Flax have in common: the mesh, and a loop that feeds each device its part."""

    def _make_mesh(self) -> None:
        self.mesh = Mesh(np.array(devices_of(self.protocol.devices, "JAX")), (AXIS,))
        self.whole, self.split = (NamedSharding(self.mesh, spec) for spec in (Spec(), Spec(AXIS)))

    def _on_each(self, function: Callable[..., Any], *specs: Spec, out: Spec) -> Callable[..., Any]:
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out, check_vma=False)

    def load(self, weights: Weights) -> None:
        super().load(weights)
        self.state = jax.device_put(self.state, self.whole)

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.protocol.batch_size
        if not len(order):
            return no_steps()
        rows, shares = filled(order, size, self.protocol.devices)
        tokens, labels = x[rows], y[rows]
        fetched = Fetched(size, len(order))
        for first in range(0, len(rows), size):
            batch = slice(first, first + size)
            self.state, loss, correct = self.step(self.state, tokens[batch], (labels[batch], shares[batch]))
            fetched.losses.append(loss)
            fetched.corrects.append(correct)
            if wait:
                self.synchronize()
            progress(len(fetched.losses), fetched.so_far)
        return fetched.all()

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        size = self.protocol.batch_size
        tokens = x[filled(np.arange(len(x)), size, self.protocol.devices)[0]]
        found = [self.forward(self.state[0], tokens[first : first + size]) for first in range(0, len(tokens), size)]
        return np.concatenate(jax.device_get(found))[: len(x)]

    def gradients(self, x: np.ndarray, y: Labels) -> tuple[float, Weights]:
        rows, shares = filled(np.arange(len(x)), self.protocol.batch_size, self.protocol.devices)
        return super().gradients(x[rows], (y[rows], shares))

    def flags(self) -> dict[str, str]:
        return super().flags() | {"distribution": "shard_map over a mesh"}

    def peak_memory(self) -> tuple[int | None, int | None]:
        return peak_memory(self.device)


class JaxDevices(Shared):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        offer_devices(protocol.devices)
        super().__init__(protocol, departures, device, threads)
        self._make_mesh()
        split = Spec(AXIS)
        self.gradient = jax.jit(self._on_each(self._added_up, Spec(), split, split, Spec(), out=Spec()))
        self.step = jax.jit(self._step, donate_argnums=(0,), in_shardings=(self.whole, self.split, self.split))
        self.forward = jax.jit(
            self._on_each(partial(self.model, key=None), Spec(), split, out=split), in_shardings=(self.whole, self.split)
        )

    def _loss(
        self, weights: dict[str, jax.Array], tokens: jax.Array, labels: Labels, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        return shared_loss(self.model(weights, tokens, key), labels)

    def _added_up(self, weights: dict[str, jax.Array], tokens: jax.Array, labels: Labels, key: jax.Array | None) -> Any:
        """Loss, right answers and gradients, over all devices."""
        return lax.psum(jax.value_and_grad(self._loss, has_aux=True)(weights, tokens, labels, key), AXIS)


class FlaxDevices(Shared, Flax):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        offer_devices(protocol.devices)
        super().__init__(protocol, departures, device, threads)
        self._make_mesh()
        split = Spec(AXIS)
        self.shared = self._on_each(self._added_up, Spec(), split, split, out=Spec())
        self.step = jax.jit(self._step, donate_argnums=(0,), in_shardings=(self.whole, self.split, self.split))
        self.forward = jax.jit(self._on_each(self._forward, Spec(), split, out=split), in_shardings=(self.whole, self.split))

    def _added_up(self, parameters: Any, tokens: jax.Array, labels: Labels) -> Any:
        """Loss, right answers and gradients, over all devices."""
        model = nnx.merge(self.model, parameters)
        model.train()
        loss_of = nnx.value_and_grad(lambda model: shared_loss(model(tokens), labels), has_aux=True)
        return lax.psum(loss_of(model), AXIS)

    def _step(self, state: State, tokens: jax.Array, labels: Labels) -> tuple[State, jax.Array, jax.Array]:
        (loss, correct), gradients = self.shared(state[0], tokens, labels)
        model, optimizer = nnx.merge(self.model, state[0]), nnx.merge(self.optimizer, state[1])
        optimizer.update(model, gradients)
        return (nnx.state(model), nnx.state(optimizer)), loss, correct

    def _gradient(self, parameters: Any, tokens: jax.Array, labels: Labels) -> tuple[jax.Array, dict[str, jax.Array]]:
        (loss, _), gradients = self.shared(parameters, tokens, labels)
        model = nnx.merge(self.model, parameters)
        nnx.update(model, gradients)
        return loss, {name: into_canonical(slope[...]) for name, slope, into_canonical, _ in model.layout()}
