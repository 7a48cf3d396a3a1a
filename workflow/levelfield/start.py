"""The start: for one seed, the initial weights and the batch order of every epoch, as a file that every backend loads.

Weights stand in Keras's layout (kernels (inputs, 4·units), gate order i, f, c, o) and are drawn from Keras's default
distributions, with numpy alone, so that no framework's generator is in play.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from levelfield.errors import UserError
from levelfield.protocol import Protocol
from levelfield.records import load_arrays, save_arrays

Weights = dict[str, np.ndarray]
ORDER = 1_000  # first spawn key of the batch orders, beyond those of the weights


def shapes(protocol: Protocol) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight in the canonical layout, in Keras's order of variables."""
    units, found = protocol.units, {"embedding": (protocol.vocabulary, protocol.embedding)}
    for layer, inputs in (("lstm_1", protocol.embedding), ("lstm_2", 2 * units)):
        for direction in ("forward", "backward"):
            found[f"{layer}/{direction}/kernel"] = (inputs, 4 * units)
            found[f"{layer}/{direction}/recurrent_kernel"] = (units, 4 * units)
            found[f"{layer}/{direction}/bias"] = (4 * units,)
    found["dense/kernel"] = (2 * units, 1)
    found["dense/bias"] = (1,)
    return found


def parameters(protocol: Protocol) -> int:
    """Trainable parameters of the protocol's model: 2,757,761 at the reference experiment's sizes."""
    return sum(int(np.prod(shape)) for shape in shapes(protocol).values())


def generator(seed: int, key: int) -> np.random.Generator:
    """A stream of its own for each weight and each epoch, so that one more of them leaves the others as they are."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(key,))))


def glorot_uniform(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """U(±√(6 / (inputs + outputs))) (Glorot and Bengio 2010)."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def orthogonal(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Orthonormal rows, uniformly distributed: Q of a normal matrix, signs fixed by R's diagonal (Saxe et al. 2014)."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q.T if rows < columns else q


def initial_weights(protocol: Protocol, seed: int) -> Weights:
    """Keras's defaults: embedding U(±0.05), kernels Glorot uniform, recurrent kernels orthogonal, forget biases 1, others 0."""
    weights = {}
    for key, (name, shape) in enumerate(shapes(protocol).items()):
        rng = generator(seed, key)
        if name == "embedding":
            value = rng.uniform(-0.05, 0.05, shape)
        elif name.endswith("recurrent_kernel"):
            value = orthogonal(shape, rng)
        elif name.endswith("kernel"):
            value = glorot_uniform(shape, rng)
        else:
            value = np.zeros(shape)
            if name.startswith("lstm"):
                value[protocol.units : 2 * protocol.units] = 1
        weights[name] = value.astype(np.float32)
    return weights


def naive_weights(protocol: Protocol, seed: int) -> Weights:
    """PyTorch's defaults: embedding N(0, 1), all else U(±1/√fan); an LSTM's bias is the sum of its two vectors."""
    weights = {}
    for key, (name, shape) in enumerate(shapes(protocol).items()):
        rng = generator(seed, key)
        limit = 1 / np.sqrt(2 * protocol.units if name.startswith("dense") else protocol.units)
        if name == "embedding":
            value = rng.normal(size=shape)
        elif name.startswith("lstm") and name.endswith("bias"):
            value = rng.uniform(-limit, limit, (2, *shape)).sum(axis=0)
        else:
            value = rng.uniform(-limit, limit, shape)
        weights[name] = value.astype(np.float32)
    return weights


def adapted_weights(protocol: Protocol, seed: int) -> Weights:
    """Keras's start with the embedding U(±0.5) and all biases 0, after torchMoji."""
    weights = {
        name: np.zeros_like(value) if name.endswith("bias") else value
        for name, value in initial_weights(protocol, seed).items()
    }
    weights["embedding"] = weights["embedding"] * np.float32(10)
    return weights


@dataclass(frozen=True)
class Start:
    """Initial weights, batch order (int32, (epochs, sequences)) and the seed that they came from."""

    seed: int
    weights: Weights
    order: np.ndarray

    def weights_for(self, protocol: Protocol, departures: frozenset[str]) -> Weights:
        """The weights that a case loads: the file's own, or those of its departure of kind `weights`."""
        if "naive-init" in departures:
            return naive_weights(protocol, self.seed)
        if "adapted-init" in departures:
            return adapted_weights(protocol, self.seed)
        return self.weights


def make_start(protocol: Protocol, seed: int, sequences: int) -> Start:
    """Draws the start for `sequences` training sequences."""
    order = np.stack([generator(seed, ORDER + epoch).permutation(sequences) for epoch in range(protocol.epochs)])
    return Start(seed, initial_weights(protocol, seed), order.astype(np.int32))


def save_start(path: Path, start: Start) -> None:
    """Writes `seed-<n>.npz` and beside it `seed-<n>.npz.sha256`, as `sha256sum` writes and checks it."""
    path = Path(path)
    save_arrays(path, {**start.weights, "order": start.order, "seed": np.array(start.seed)})
    path.with_name(path.name + ".sha256").write_text(f"{file_sha256(path)}  {path.name}\n")


def load_start(path: Path) -> tuple[Start, str]:
    """The start and its sha256; raises UserError where the file is not the one that was written."""
    path = Path(path)
    found, expected = file_sha256(path), path.with_name(path.name + ".sha256").read_text().split()[0]
    if found != expected:
        raise UserError(f"{path} is altered: sha256 {found}, written with {expected}; delete it and run snakemake again")
    arrays = load_arrays(path)
    order, seed = arrays.pop("order"), int(arrays.pop("seed"))
    return Start(seed, arrays, order), found


def file_sha256(path: Path) -> str:
    return sha256(Path(path).read_bytes()).hexdigest()
