"""No false bar and no false pass: distances of right and of wrong programs as a share of the derived bounds (run me by hand).

    python tests/parity/bounds_study.py FOLDER --models bilstm --backends torch jax --batches 32 256 --lengths 200

A point is a model, precision, corpus, batch, length and seed. Each has a folder in FOLDER, and each figure is kept there as soon as it
is known, so that a study that was stopped goes on. First come the points' references, then each backend in a process of its own.
`numpy` is the reference's own program in float32; with `--precisions tf32` its products' inputs are rounded to TF32 as a GPU does.
`bounds_told.py` makes the tables and the figure. With OPENBLAS_NUM_THREADS=1 the references take less time, since products are small.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from autograd.extend import VSpace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vspaces import ArrayVSpace

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.data.corpus import Corpus, find_corpus
from levelfield.data.encode import encode, shuffled_orders
from levelfield.errors import UserError
from levelfield.level import mistakes, reference
from levelfield.level.bounds import proven
from levelfield.level.parity import Measured, computed_in, judge, measure, share
from levelfield.level.start import make_start
from levelfield.level.trajectory import (
    TRAINED,
    Trajectory,
    Weights,
    distance,
    first_distances,
    output_distances,
    weight_distances,
)
from levelfield.records import load_arrays, save_arrays, write_json
from levelfield.study.config import Data
from levelfield.study.protocol import Protocol

CHECKOUT = Path(__file__).resolve().parents[2]
BACKENDS = ["torch", "jax", "flax", "keras-tensorflow", "keras-jax", "keras-torch"]
LINES = 12
"""Lines of this repository that make one text of the corpus `lines`."""


@dataclass(frozen=True)
class Point:
    """One protocol on one corpus from one start."""

    model: str
    """`bilstm` at its published sizes, `bilstm-small` at those of the contract's tests."""
    precision: str
    corpus: str
    batch: int
    length: int
    seed: int
    steps: int

    @property
    def name(self) -> str:
        return "_".join(str(value) for value in asdict(self).values())

    @property
    def protocol(self) -> Protocol:
        model = registry.model(self.model.removesuffix("-small"))
        sizes = model.small if self.model.endswith("-small") else model.sizes()
        return Protocol(model=sizes, length=self.length, batch_size=self.batch, epochs=1, precision=self.precision)


@cache
def corpus(kind: str, folder: Path) -> Corpus:
    """`imdb` (LEVELFIELD_IMDB names the file), `snippets`, `synthetic`, or `lines`: own text, this repository's, code or prose."""
    if kind != "lines":
        return find_corpus(folder, Data(source=kind, train=4_096, validation=8), vocabulary=20_000)
    table, rows = folder / "lines.jsonl", []
    listed = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        lines = (CHECKOUT / name).read_text(encoding="utf-8").splitlines()
        for first in range(0, len(lines), LINES):
            text = " ".join(lines[first : first + LINES])
            rows.append(json.dumps({"text": text, "label": "code" if name.endswith(".py") else "prose"}))
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return find_corpus(folder, Data(source="text", file=table, text="text", label="label"), vocabulary=20_000, work=folder)


def batches(point: Point, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and labels of twice as many batches as there are steps, so that one of uneven labels can come first."""
    found, protocol = corpus(point.corpus, folder), point.protocol
    rows = shuffled_orders(len(found.train), len(found.validation))[0][: 2 * point.steps * point.batch]
    x, _ = encode(found.train, rows, protocol.vocabulary, point.length, protocol.padding, protocol.truncation)
    return x, found.train.labels[rows].astype(np.float32 if protocol.model.outputs == 1 else np.int32)


def prepared(folder: Path, point: Point) -> Trajectory:
    """The reference with its bounds, kept with its data until all backends are measured."""
    own = folder / point.name
    if (own / "reference.npz").exists():
        return Trajectory.load(own / "reference.npz")
    own.mkdir(parents=True, exist_ok=True)
    protocol, (x, y) = point.protocol, batches(point, folder)
    if len(x) < point.steps * point.batch:
        raise UserError(f"{point.corpus} has {len(x):,} sequences, {point.steps} steps take {point.steps * point.batch:,}")
    start, began = make_start(protocol, point.seed, len(x)), time.monotonic()
    order = start.order[0]
    if point.steps == 1:  # the batch that would come first of more
        clear = reference.clear_of_kinks
        exact = {name: value.astype(np.float64) for name, value in start.weights.items()}
        whole = [order[first : first + point.batch] for first in range(0, len(order) - point.batch + 1, point.batch)]
        uneven = sorted(whole, key=lambda rows: -np.bincount(y[rows].astype(int)).max())
        order = next((rows for rows in uneven if clear(protocol, exact, x[rows])), uneven[0])
    else:
        order = order[: point.steps * point.batch]
    found = proven(protocol, start.weights, x, y, order)
    found.save(own / "reference.npz")
    save_arrays(own / "data.npz", {"x": x, "y": y})
    slightest = {kind: slightest_caught(found, known) for kind, known in found.bounds.items()}
    told = {"reference_seconds": time.monotonic() - began, "slightest": slightest, "bounds": found.bounds}
    write_json(own / "point.json", asdict(point) | told)
    return found


def slightest_caught(found: Trajectory, bounds: dict) -> dict[str, float]:
    """What a fault of a known size must reach to miss a bound: 1e-4 is one of 0.01 %.

    logits: a factor 1 + ε on them. gradient: such a factor on one tensor's gradient, of the median of all tensors; worst_gradient: of
    the tensor whose bound is widest. rate: such a factor on the learning rate.
    """
    p = found.probabilities
    z = np.log(p) - np.log1p(-p) if p.shape[1] == 1 else np.log(p)
    moved = p * (1 - p) * z if p.shape[1] == 1 else p * (z - (p * z).sum(axis=1, keepdims=True))
    return {
        "logits": bounds["probabilities"]["probabilities"] / float(np.abs(moved).max()),
        "gradient": float(np.median(list(bounds["gradients"].values()))),
        "worst_gradient": max(bounds["gradients"].values()),
        "rate": min(bounds["moved_step_1"].values()),
    }


class Tf32(np.ndarray):
    """A float32 array whose products round their inputs to TF32's 10 bits behind the point, to the nearest even one."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        plain = [value.view(np.ndarray) if isinstance(value, Tf32) else value for value in inputs]
        if ufunc is np.matmul:
            plain = [to_tf32(value) for value in plain]
        if out:
            settings["out"] = tuple(value.view(np.ndarray) if isinstance(value, Tf32) else value for value in out)
        found = getattr(ufunc, method)(*plain, **settings)
        if out:
            return out[0]
        return found.view(Tf32) if isinstance(found, np.ndarray) else found


ArrayBox.register(Tf32)
VSpace.register(Tf32, lambda value: ArrayVSpace(value.view(np.ndarray)))


def to_tf32(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def by_numpy(protocol: Protocol, found: Trajectory, x: np.ndarray, y: np.ndarray) -> Measured:
    """The reference's own program in float32 or TF32, as numpy rounds it, for one step; the optimiser is the reference's."""
    rows = found.rows[: protocol.batch_size]
    kind = Tf32 if protocol.precision == "tf32" else np.ndarray
    single = {name: value.astype(np.float32).view(kind) for name, value in found.start.items()}
    logits, back = reference.logits_and_back(protocol, single, x[rows])
    logits = np.asarray(logits).view(np.ndarray).astype(np.float32)
    loss, slope = reference.loss_and_slope(logits, y[rows].astype(np.float32))
    slopes = {name: np.asarray(value).view(np.ndarray) for name, value in back(slope.astype(np.float32)).items()}
    weights = {name: value.copy() for name, value in found.start.items()}
    reference.Adam(protocol, weights).update(weights, slopes)
    after = {name: value.astype(np.float32) for name, value in weights.items()}
    distances = {"weights_after_warm_up": dict.fromkeys(after, 0.0)}
    distances |= first_distances(reference.probabilities(logits), slopes, found.probabilities, found.gradients)
    distances |= weight_distances(1, after, found.weights[1], found.start)
    trained, _ = reference.logits_and_back(protocol, {name: value.view(kind) for name, value in after.items()}, x[rows])
    outputs = reference.probabilities(np.asarray(trained).view(np.ndarray).astype(np.float32))
    distances |= output_distances(TRAINED, outputs, found.trained)
    distances["loss_step_1"] = {"loss": abs(float(loss) - found.losses[0])}
    return Measured(1, distances, [distances["loss_step_1"]["loss"]])


def kept(file: Path, backend: str, judged: dict, seconds: float) -> None:
    write_json(file, {"backend": backend, "seconds": seconds} | {key: judged[key] for key in ("shares", "nearest", "missed")})


def measured_by_numpy(folder: Path, point: Point, found: Trajectory) -> None:
    own, began = folder / point.name, time.monotonic()
    data = load_arrays(own / "data.npz")
    told = by_numpy(point.protocol, found, data["x"], data["y"])
    kept(own / "numpy.json", "numpy", judge(told, found.bounds[point.precision]), time.monotonic() - began)
    if point.precision == "tf32":  # where float32 was asked
        kept(own / "numpy-for-float32.json", "numpy", judge(told, found.bounds["float32"]), 0.0)


def measured(folder: Path, backend: str, points: list[Point]) -> None:
    """All points by one backend; this process has no other framework."""
    threads = confine("cpu", 1)
    make = load_backend(backend)
    for point in points:
        own, began = folder / point.name, time.monotonic()
        found, data, protocol = Trajectory.load(own / "reference.npz"), load_arrays(own / "data.npz"), point.protocol
        weights = {name: value.astype(np.float32) for name, value in found.start.items()}
        try:
            made = make(protocol, frozenset(), "cpu", threads)
            told = measure(made, weights, found, data["x"], data["y"])
        except Exception as error:  # what a framework cannot do is told, not counted
            write_json(own / f"{backend}.json", {"backend": backend, "error": f"{type(error).__name__}: {error}"[:300]})
            continue
        judged = judge(told, found.bounds[computed_in(protocol.precision, "cpu")])
        kept(own / f"{backend}.json", backend, judged, time.monotonic() - began)
        print(f"{point.name} {backend}: {max(v or 0 for v in judged['shares'].values()):.2f}", *judged["missed"], flush=True)


def fault_shares(protocol: Protocol, found: Trajectory, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Each mistake's largest share of a bound: of the outputs and, where they do not show it, of a gradient; of the weights after
    one step for a mistake of the optimiser. x, y: the first batch."""
    return dict(fault_share(protocol, found, x, y))


def fault_share(protocol: Protocol, found: Trajectory, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[str, float]]:
    bounds, start = found.bounds[protocol.precision], found.start

    @cache
    def slope_of(name: str | None, tensor: str, step: float = 1e-4) -> float:
        """The mistaken program's gradient, or the right one's, at the entry that is largest in the right one; by central differences."""
        losses = []
        for sign in (1, -1):
            moved = {**start, tensor: start[tensor].copy()}
            moved[tensor].flat[int(np.abs(found.gradients[tensor]).argmax())] += sign * step
            if name is None:
                wrong = mistakes.outputs(protocol, moved, x)
            else:
                wrong = dict(mistakes.of_outputs(protocol, moved, x))[name]()
            right = wrong[:, 0] if wrong.shape[1] == 1 else wrong[np.arange(len(y)), y.astype(int)]
            losses.append(-np.mean(np.log(np.where(y > 0, right, 1 - right) if wrong.shape[1] == 1 else right)))
        return (losses[0] - losses[1]) / (2 * step)

    def by_gradients(name: str) -> float:
        shares = [0.0]
        for tensor, slope in found.gradients.items():
            # against the right program's differences, not its slope: both cross the kinks that lie within a step
            off = abs(slope_of(name, tensor) - slope_of(None, tensor)) / np.abs(slope).max()
            shares.append(share(off, max(bounds["gradients"][tensor], 1e-6)))  # differences tell no less than that
            if shares[-1] > 1:
                break
        return max(shares)

    def of_weights(wrong: Weights) -> float:
        off = weight_distances(1, wrong, found.weights[1], start)
        return max(share(value, bounds[kind][tensor]) for kind in off for tensor, value in off[kind].items())

    for name, wrong in mistakes.of_outputs(protocol, start, x):
        part = share(distance(wrong(), found.probabilities), bounds["probabilities"]["probabilities"])
        yield name, part if part > 1 else max(part, by_gradients(name))
    for name, wrong in mistakes.of_update(protocol, start, x, y):
        yield name, of_weights(wrong())
    # of the optimiser of all models: a gradient clipped, where its norm reaches 5, and the first step without bias correction
    norm = np.sqrt(sum(np.sum(slope**2) for slope in found.gradients.values()))
    if norm > 5:
        yield f"the gradient's norm of {norm:.0f} is clipped to 5", of_weights(stepped(protocol, found, 5 / norm))
    wrong = replace(protocol, learning_rate=protocol.learning_rate * 1.01)
    yield "the learning rate is 1 % too large", of_weights(stepped(wrong, found))


def stepped(protocol: Protocol, found: Trajectory, factor: float = 1.0) -> Weights:
    """The weights after a step of Adam with the reference's gradient times a factor."""
    weights = {name: value.copy() for name, value in found.start.items()}
    reference.Adam(protocol, weights).update(weights, {name: factor * slope for name, slope in found.gradients.items()})
    return weights


def faults(folder: Path, point: Point, found: Trajectory) -> None:
    data, rows = load_arrays(folder / point.name / "data.npz"), found.rows[: point.batch]
    shares = fault_shares(point.protocol, found, data["x"][rows], data["y"][rows].astype(float))
    write_json(folder / point.name / "faults.json", shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", default=list(registry.models()), help="also `bilstm-small` and so on")
    parser.add_argument("--backends", nargs="*", default=BACKENDS)
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 32, 64, 128, 256])
    parser.add_argument("--lengths", nargs="*", type=int, default=[40, 200])
    parser.add_argument("--precisions", nargs="*", default=["float32"])
    parser.add_argument("--corpora", nargs="*", default=["imdb"], help="imdb, snippets, synthetic, lines (this repository's)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--faults", action="store_true", help="the mistakes, too")
    parser.add_argument("--grids", type=Path, metavar="FILE", help="a file of such options, a grid a line, taken as one")
    parser.add_argument("--measure", metavar="BACKEND", help="what the script calls itself with")
    args = parser.parse_args()
    grids = [args]
    if args.grids:
        grids = [parser.parse_args([str(args.folder), *line.split()]) for line in args.grids.read_text().splitlines() if line]
    wanted: dict[Point, set[str]] = {}
    for grid in grids:
        for values in product(grid.models, grid.precisions, grid.corpora, grid.batches, grid.lengths, grid.seeds):
            point = Point(*values, grid.steps)
            files = {*grid.backends, *["faults"] * grid.faults, *["numpy"] * (point.precision != "bfloat16")}
            known = {file.stem for file in (args.folder / point.name).glob("*.json")}
            wanted[point] = wanted.get(point, set()) | files - known
    if args.measure:
        own = [point for point, files in wanted.items() if args.measure in files]
        return measured(args.folder, args.measure, [p for p in own if (args.folder / p.name / "reference.npz").exists()])
    study(args.folder, wanted)
    return None


def study(folder: Path, wanted: dict[Point, set[str]]) -> None:
    """Each point's reference, mistakes and float32 program; then all points by each backend."""
    folder.mkdir(parents=True, exist_ok=True)
    for point, files in wanted.items():
        if not files:
            continue
        try:
            found = prepared(folder, point)
        except UserError as error:  # a model that cannot be so short, a corpus that has not so many
            print(f"{point.name}: {error}", flush=True)
            files.clear()
            continue
        if "numpy" in files:
            measured_by_numpy(folder, point, found)
        if "faults" in files:
            faults(folder, point, found)
        print(f"{point.name}: reference", flush=True)
    for backend in dict.fromkeys(name for files in wanted.values() for name in sorted(files)):
        if backend not in ("numpy", "faults"):
            one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--measure", backend], env=one_thread, check=True)
    for point in wanted:  # a reference takes 70 MB
        for file in ("reference.npz", "data.npz"):
            (folder / point.name / file).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
