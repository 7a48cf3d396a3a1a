"""The start: for one seed, the initial weights and the batch order of every epoch, as a file that every backend loads.

Weights stand in the canonical layout, which is Keras's, and are drawn with numpy alone, so that no framework's generator is
in play; from which distributions a model's folder says.
"""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from levelfield import registry
from levelfield.errors import UserError
from levelfield.models.base import MATCHED, Weight, model_of, weights_of
from levelfield.models.initial import draw
from levelfield.records import load_arrays, save_arrays, write_whole
from levelfield.study.protocol import Protocol

Weights = dict[str, np.ndarray]
ORDER = 1_000  # first spawn key of the batch orders, beyond those of the weights


def generator(seed: int, key: int) -> np.random.Generator:
    """A stream of its own for each weight and each epoch."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(key,))))


def initial_weights(
    protocol: Protocol, seed: int, departures: frozenset[str] = MATCHED, framework: str | None = None
) -> Weights:
    """The model's initial weights for a seed. framework: whose own distributions `framework-init` takes."""
    found = weights_of(protocol, departures)
    if "framework-init" in departures:
        module = registry.builder_module(protocol.model.name, framework)
        own = registry.declared(module, "FRAMEWORK_INIT")
        if own is None:
            raise UserError(
                f"{module} makes framework-init, and has no `FRAMEWORK_INIT`: by the last part of each weight's name a function of "
                "models/initial.py and what it takes"
            )
        found = {name: _by_framework(name, weight, own) for name, weight in found.items()}
    # a weight that a departure adds leaves the streams of the others as they are
    keys = {name: key for key, name in enumerate(dict.fromkeys([*weights_of(protocol), *found]))}
    return {name: draw(weight, generator(seed, keys[name])) for name, weight in found.items()}


def _by_framework(name: str, weight: Weight, own: dict[str, tuple[str, str | float | None]]) -> Weight:
    """The weight with the framework's distribution for the last part of its name, which its builder declares.

    The scale of a distribution may be given as `1/sqrt(fan_in)`: by the inputs of a kernel, or the width of an embedding.
    """
    initial, scale = own[name.rpartition("/")[2]]
    if scale == "1/sqrt(fan_in)":
        scale = weight.fan_in**-0.5
    assert not isinstance(scale, str), f"{name}: a scale of {scale!r} is not known"
    return replace(weight, initial=initial, scale=scale)


@dataclass(frozen=True)
class Start:
    """Initial weights, batch order (int32, (epochs, sequences)) and the seed that they came from."""

    seed: int
    weights: Weights
    order: np.ndarray

    def weights_for(self, protocol: Protocol, departures: frozenset[str], framework: str | None = None) -> Weights:
        """The weights that a case loads: the file's own, or those that its departures ask for."""
        kinds = {name: departure.kind for name, departure in model_of(protocol).departures.items()}
        other = {name for name in departures if kinds.get(name) == "weights"}
        if other or weights_of(protocol, departures) != weights_of(protocol):
            return initial_weights(protocol, self.seed, departures, framework)
        return self.weights


def make_start(protocol: Protocol, seed: int, sequences: int) -> Start:
    """Draws the start for `sequences` training sequences."""
    order = np.stack([generator(seed, ORDER + epoch).permutation(sequences) for epoch in range(protocol.epochs)])
    return Start(seed, initial_weights(protocol, seed), order.astype(np.int32))


def save_start(path: Path, start: Start) -> None:
    """Writes `seed-<n>.npz` and beside it `seed-<n>.npz.sha256`, as `sha256sum` writes and checks it."""
    path = Path(path)
    save_arrays(path, {**start.weights, "order": start.order, "seed": np.array(start.seed)})
    write_whole(path.with_name(path.name + ".sha256"), f"{file_sha256(path)}  {path.name}\n".encode())


def load_start(path: Path) -> tuple[Start, str]:
    """The start and its sha256; raises UserError where the file is not the one that was written."""
    path = Path(path)
    beside = path.with_name(path.name + ".sha256")
    if not beside.is_file():
        raise UserError(f"{beside} is not there: delete {path} and run snakemake again")
    found, (expected, *_) = file_sha256(path), [*beside.read_text(encoding="utf-8", errors="replace").split(), ""]
    if found != expected:
        raise UserError(f"{path} is altered: sha256 {found}, written with {expected}; delete it and run snakemake again")
    arrays = load_arrays(path)
    if missing := sorted({"order", "seed"} - arrays.keys()):
        raise UserError(f"{path} has no {missing[0]}: it is no start; delete it and run snakemake again")
    order, seed = arrays.pop("order"), int(arrays.pop("seed"))
    return Start(seed, arrays, order), found


def file_sha256(path: Path) -> str:
    return sha256(Path(path).read_bytes()).hexdigest()
