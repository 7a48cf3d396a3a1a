"""JAX with Optax: pure functions of a tree of weights, one jitted training step; or an epoch in one call, or memory in huge pages."""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from levelfield import registry
from levelfield.backends.base import (
    CUDA_MAJORS,
    Backend,
    DeviceError,
    Progress,
    Weights,
    cuda_versions,
    installed,
    no_logits,
    no_steps,
    refuse_without_glibc,
    refuse_without_huge_pages,
    silent,
)
from levelfield.backends.departures import CLIP_NORM
from levelfield.host import huge_pages, started_with
from levelfield.models.base import shapes
from levelfield.study.protocol import Protocol

BACKENDS = {
    "jax": {
        "class": "Jax",
        "image": "jax",
        "devices": "levelfield.backends.jax_devices:JaxDevices",
        "departures": ["clip-norm", "framework-epsilon"],
        "data_on": ["host", "device"],
    },
    "jax-scan": {"like": "jax", "class": "JaxScan", "data_on": ["device"]},
    "jax-huge-pages": {"like": "jax", "class": "JaxHugePages", "environment": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}},
}

State = tuple[Any, ...]
"""What a step takes and gives back: weights, the optimiser's moments, and a key where the model draws; in Flax the model's
state and the optimiser's."""
Labels = Any
"""A batch's labels; on several devices a pair, of them and of each sequence's share of the batch's mean."""
Pair = tuple[jax.Array, jax.Array]
"""Tokens and labels of batches, or their losses and right answers."""

GPU_PLANE = "/device:GPU"
"""How XLA's profiles name what a GPU did (xla/tsl/profiler/utils/xplane_schema.cc)."""
SLOW_SCATTER_UNTIL = (0, 11, 1)
SLOW_SCATTER = (
    "jax#38806: reported of this jaxlib that it adds an embedding's gradient slowly on a GPU, and that 0.11.1 does not"
)


def losses_and_right(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each sequence's cross-entropy of logits (batch, outputs), binary for one output, and which answers are right."""
    if logits.shape[1] == 1:
        scores = logits[:, 0]
        return optax.sigmoid_binary_cross_entropy(scores, labels), (scores > 0) == (labels > 0.5)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), logits.argmax(axis=1) == labels


def loss_and_correct(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy, and the number of right answers."""
    losses, right = losses_and_right(logits, labels)
    return losses.mean(), right.sum(dtype=jnp.int32)


def adam(protocol: Protocol, departures: frozenset[str]) -> optax.GradientTransformation:
    """Optax divides by √v̂ + ε, the protocol by √v + ε: the same where ε is scaled as v̂ is, step by step."""
    betas = {"b1": protocol.beta_1, "b2": protocol.beta_2}
    if "framework-epsilon" in departures:
        update = optax.adam(protocol.learning_rate, **betas)
    else:
        steps_done = lambda count: protocol.epsilon / jnp.sqrt(1 - protocol.beta_2 ** (count + 1.0))  # noqa: E731
        update = optax.inject_hyperparams(optax.adam)(protocol.learning_rate, eps=steps_done, **betas)
    return optax.chain(optax.clip_by_global_norm(CLIP_NORM), update) if "clip-norm" in departures else update


def profiled(work: Callable[[], object], device: str) -> list[str]:
    """Names of the operations and GPU kernels that `work` ran; empty where it ran on a GPU and no kernel of it is named."""
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            work()
        profiles = [jax.profiler.ProfileData.from_file(str(file)) for file in Path(folder).rglob("*.xplane.pb")]
    names = {(plane.name, event.name) for p in profiles for plane in p.planes for line in plane.lines for event in line.events}
    told = device == "cpu" or any(plane.startswith(GPU_PLANE) for plane, _ in names)
    return sorted({name for _, name in names}) if told else []


def versions_of_cuda(device: str) -> dict[str, str]:
    """Versions of CUDA and cuDNN, of the installed packages for the CUDA that JAX's plugin is built for; JAX tells of neither."""
    if device == "cpu":
        return {}
    plugins = [major for major in CUDA_MAJORS if installed(f"jax-cuda{major}-plugin")]
    return cuda_versions(plugins[0] if len(plugins) == 1 else None)


def known_faults(device: str) -> dict[str, str]:
    """What is known to slow this version down on the device, as a flag of the record; empty where nothing is."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version("jaxlib"))[:3])
    return {"known_fault": SLOW_SCATTER} if device == "cuda" and numbers < SLOW_SCATTER_UNTIL else {}


def preallocates(device: str) -> bool:
    """Whether JAX takes three quarters of the GPU's memory at its start (its documentation, "GPU memory allocation")."""
    return device == "cuda" and os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "").lower() not in ("false", "0")


def be_deterministic(wanted: bool) -> None:
    """Asks XLA for deterministic kernels on a GPU; it reads the variable when the first device is asked for."""
    if wanted:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def set_framework(protocol: Protocol, device: str) -> str:
    """Device, precision and determinism in JAX's words; returns the device in use. Raises DeviceError for `cuda` without a GPU."""
    be_deterministic(protocol.deterministic)
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    used = "cuda" if jax.default_backend() == "gpu" else "cpu"
    if device == "cuda" and used == "cpu":
        raise DeviceError("device is cuda, but JAX finds no GPU: set `device: cpu` or `auto`")
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if protocol.precision == "tf32" else "float32")
    return used


def peak_memory(device: str) -> tuple[int | None, int | None]:
    """Peak bytes in use and of the pool; None on a CPU, where JAX counts none, and on a GPU that does not tell."""
    if device == "cpu":
        return None, None
    found = jax.devices()[0].memory_stats() or {}
    return found.get("peak_bytes_in_use"), found.get("peak_pool_bytes")


@partial(jax.jit, static_argnames="size")
def cut(arrays: tuple[jax.Array, ...], first: int, size: int) -> tuple[jax.Array, ...]:
    """Rows `first` to `first + size` of each array."""
    return tuple(jax.lax.dynamic_slice_in_dim(whole, first, size) for whole in arrays)


class Jax(Backend):
    state: State

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        self.device = set_framework(protocol, device)
        self.preallocates = preallocates(self.device)
        self.protocol = protocol
        self.departures = departures
        self.adam = adam(protocol, departures)
        self.dropout = "own-dropout" in departures
        self.model = registry.builder(protocol.model.name, "jax").build(protocol, departures, self.device)
        self.gradient = jax.jit(jax.value_and_grad(self._loss, has_aux=True))
        self.step = jax.jit(self._step, donate_argnums=(0,))
        self.forward = jax.jit(partial(self.model, key=None))

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    @property
    def lies_on(self) -> str:
        platforms = {device.platform for device in jax.tree.leaves(self.state)[0].devices()}
        return "cuda" if platforms == {"gpu"} else "cpu"

    def load(self, weights: Weights) -> None:
        held = {name: jnp.array(weights[name]) for name in shapes(self.protocol, self.departures)}
        self.state = (held, self.adam.init(held), jax.random.key(self.seed) if self.dropout else None)

    def weights(self) -> Weights:
        return {name: np.array(value) for name, value in self.state[0].items()}

    def parameters(self) -> int:
        return sum(value.size for value in self.state[0].values())

    def _loss(
        self, weights: dict[str, jax.Array], tokens: jax.Array, labels: Labels, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        return loss_and_correct(self.model(weights, tokens, key), labels)

    def _step(self, state: State, tokens: jax.Array, labels: Labels) -> tuple[State, jax.Array, jax.Array]:
        weights, moments, key = state
        key, mine = jax.random.split(key) if self.dropout else (None, None)
        (loss, correct), gradients = self.gradient(weights, tokens, labels, mine)
        updates, moments = self.adam.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), moments, key), loss, correct

    def _batches(self, *arrays: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """Pair in order, as a jitted function takes them: of the host's memory, or cut on the device."""
        size, count = self.protocol.batch_size, len(arrays[0])
        if self.protocol.data_on == "device":
            put = jax.device_put(arrays)
            del arrays  # the host's need not stay
            for first in range(0, count, size):
                yield cut(put, first, size=min(size, count - first))
        else:
            for first in range(0, count, size):
                yield tuple(whole[first : first + size] for whole in arrays)

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.protocol.batch_size
        if not len(order):
            return no_steps()
        fetched = Fetched(size, len(order))
        for tokens, labels in self._batches(x[order], y[order]):
            self.state, loss, correct = self.step(self.state, tokens, labels)
            fetched.losses.append(loss)
            fetched.corrects.append(correct)
            if wait:
                self.synchronize()
            progress(len(fetched.losses), fetched.so_far)
        return fetched.all()

    def warm_up(self, x: np.ndarray, y: np.ndarray, weights: Weights, validated: int = 0) -> None:
        super().warm_up(x, y, weights, validated)
        if self.protocol.data_on == "device":  # what cuts a batch is compiled for the number of sequences
            for arrays in ((x, y), (np.zeros((validated, x.shape[1]), x.dtype),)):
                for _ in self._batches(*arrays):
                    pass
            self.synchronize()

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        return np.concatenate(jax.device_get([self.forward(self.state[0], *batch) for batch in self._batches(x)]))

    def gradients(self, x: np.ndarray, y: Labels) -> tuple[float, Weights]:
        (loss, _), found = self.gradient(self.state[0], x, y, jax.random.key(self.seed) if self.dropout else None)
        return float(loss), {name: np.array(value) for name, value in found.items()}

    def synchronize(self) -> None:
        jax.block_until_ready(self.state)

    def versions(self) -> dict[str, str]:
        found = {"jax": jax.__version__, "jaxlib": version("jaxlib"), "optax": optax.__version__}
        return found | versions_of_cuda(self.device)

    def flags(self) -> dict[str, str]:
        return {
            "precision": self.protocol.precision,
            "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
            **known_faults(self.device),
        }

    def peak_memory(self) -> tuple[int | None, int | None]:
        return peak_memory(self.device)

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))), self.device)


class Fetched:
    """What the steps of an epoch gave, on the device, and fetched once each when it is told: however long the epoch, a report costs
    what came since the last one."""

    def __init__(self, size: int, sequences: int):
        self.size, self.sequences = size, sequences
        self.losses: list[jax.Array] = []
        self.corrects: list[jax.Array] = []
        self.done, self.loss, self.right = 0, 0.0, 0

    def so_far(self) -> tuple[float, float]:
        """Mean loss, and share of right answers."""
        since = slice(self.done, len(self.losses))
        losses, corrects = jax.device_get((self.losses[since], self.corrects[since]))
        self.loss, self.right = self.loss + float(sum(losses)), self.right + int(sum(corrects))
        self.done = len(self.losses)
        return self.loss / self.done, self.right / min(self.done * self.size, self.sequences)

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Each step's loss float32 and right answers int32, (steps,)."""
        return np.array(jax.device_get(self.losses), np.float32), np.array(jax.device_get(self.corrects), np.int32)


class JaxScan(Jax):
    """An epoch in one call: `lax.scan` over its whole batches, all on the device; the smaller last one by itself."""

    steps_a_call: int | None = None

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        super().__init__(protocol, departures, device, threads)
        self.programs: dict[int, Any] = {}

    def _epoch(self, state: State, batches: Pair) -> tuple[State, Pair]:
        def step(state: State, batch: Pair) -> tuple[State, Pair]:
            state, loss, correct = self._step(state, *batch)
            return state, (loss, correct)

        return jax.lax.scan(step, state, batches)

    def _stacked(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The whole batches: (batches, batch, length) and (batches, batch)."""
        size = self.protocol.batch_size
        whole = len(x) // size
        return x[: whole * size].reshape(whole, size, -1), y[: whole * size].reshape(whole, size)

    def _compiled(self, batches: Pair) -> Any:
        """The program for so many batches; what it needs of the state are types and shapes."""
        if len(batches[0]) not in self.programs:
            lowered = jax.jit(self._epoch, donate_argnums=(0,)).lower(self.state, batches)
            self.programs[len(batches[0])] = lowered.compile()
        return self.programs[len(batches[0])]

    def warm_up(self, x: np.ndarray, y: np.ndarray, weights: Weights, validated: int = 0) -> None:
        """And an epoch's whole batches once: the first time that a program runs is not as the others. Then loads `weights` again."""
        super().warm_up(x, y, weights, validated)
        if len(x) >= self.protocol.batch_size:
            batches = jax.device_put(self._stacked(x, y))
            self.state, _ = self._compiled(batches)(self.state, batches)
            self.load(weights)
            self.synchronize()

    def _calls(self, x: np.ndarray, y: np.ndarray) -> Iterator[Pair]:
        """Losses and right answers that each call of an epoch gave, on the device: those of all whole batches, that of the last one."""
        size = self.protocol.batch_size
        if len(x) >= size:
            batches = jax.device_put(self._stacked(x, y))
            self.state, found = self._compiled(batches)(self.state, batches)
            yield found
        if rest := len(x) % size:
            self.state, loss, correct = self.step(self.state, *jax.device_put((x[-rest:], y[-rest:])))
            yield loss, correct

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.protocol.batch_size
        if not len(order):
            return no_steps()
        losses: list[jax.Array] = []
        corrects: list[jax.Array] = []
        done = 0

        def so_far() -> tuple[float, float]:
            return _whole(losses).mean(), _whole(corrects).sum() / min(done * size, len(order))

        for loss, correct in self._calls(x[order], y[order]):
            losses.append(loss)
            corrects.append(correct)
            if wait:
                self.synchronize()
            done = sum(each.size for each in losses)
            progress(done, so_far)
        return _whole(losses).astype(np.float32), _whole(corrects).astype(np.int32)

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        if len(x) >= self.protocol.batch_size:
            self._compiled(jax.device_put(self._stacked(x, y)))  # else the profile would be of the compiler
        return super().kernels(x, y)


def _whole(parts: list[jax.Array]) -> np.ndarray:
    """What the calls gave, fetched and in one array."""
    return np.hstack(jax.device_get(parts))


class JaxHugePages(Jax):
    """The same program on a CPU, its memory in pages of 2 MiB: the C library's own switch (glibc 2.35), which it reads at its start."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        refuse_without_huge_pages("jax-huge-pages", device)
        refuse_without_glibc("jax-huge-pages", device, (2, 35))
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"huge_pages": str(huge_pages()), "malloc": started_with("GLIBC_TUNABLES") or "default"}
