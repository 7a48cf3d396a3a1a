"""No false bar and no false pass: distances of right and of wrong programs as a share of the derived bounds (run me by hand).

    python tests/parity/bounds_study.py FOLDER --models bilstm --backends torch jax --batches 32 256 --lengths 200 --steps 2

Each figure is kept in FOLDER as soon as it is there, so that a run that was stopped goes on; the tables at the end are of all that is
there. On IMDB where LEVELFIELD_IMDB names an `imdb.npz`, else on synthetic sequences. A batch of the LSTM takes minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np

from levelfield import registry
from levelfield.data.arrays import load_split
from levelfield.level import mistakes
from levelfield.level.parity import share
from levelfield.level.trajectory import Trajectory, distance, weight_distances
from levelfield.study.protocol import Case, Protocol

ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def levelfield(*arguments) -> None:
    command = [sys.executable, "-m", "levelfield", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def prepared(folder: Path, protocol: Protocol, steps: int, seed: int) -> None:
    """Data, start and reference with its bounds."""
    if (folder / "reference.npz").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    given, data = json.dumps(asdict(protocol)), folder / "data"
    settings = {"train": max(2, steps) * protocol.batch_size, "validation": 8, "synthetic": "LEVELFIELD_IMDB" not in os.environ}
    sizes = ("--vocabulary", protocol.vocabulary, "--length", protocol.length)
    levelfield("data", "--settings", json.dumps(settings), *sizes, "--downloads", folder, "--out", data)
    levelfield("start", "--protocol", given, "--seed", seed, "--data", data, "--out", folder / "start.npz")
    began = time.monotonic()
    known = ("--data", data, "--start", folder / "start.npz")
    levelfield("reference", "--protocol", given, *known, "--out", folder / "reference.npz")
    (folder / "seconds.json").write_text(json.dumps(time.monotonic() - began))


def measured(folder: Path, backend: str, protocol: Protocol, departures: tuple[str, ...] = ()) -> None:
    name = "+".join((backend, *departures))
    out = folder / f"{name}.json"
    if not out.exists():
        Case(name, backend, departures, protocol, "cpu").write(folder / "case.json")
        known = ("--data", folder / "data", "--start", folder / "start.npz", "--reference", folder / "reference.npz")
        levelfield("parity", "--case", folder / "case.json", *known, "--threads", 1, "--out", out)


def fault_shares(protocol: Protocol, reference: Trajectory, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Each mistake's largest share of a bound: of the outputs and, where they do not show it, of a gradient; of the weights after
    one step for a mistake of the optimiser. x, y: the first batch."""
    bounds, start = reference.bounds[protocol.precision], reference.start

    def wrong_slope(name: str, tensor: str, place: int, step: float = 1e-4) -> float:
        """The mistaken program's gradient at one entry, by central differences."""
        losses = []
        for sign in (1, -1):
            moved = {**start, tensor: start[tensor].copy()}
            moved[tensor].flat[place] += sign * step
            found = dict(mistakes.of_outputs(protocol, moved, x))[name]()
            right = found[:, 0] if found.shape[1] == 1 else found[np.arange(len(y)), y.astype(int)]
            losses.append(-np.mean(np.log(np.where(y > 0, right, 1 - right) if found.shape[1] == 1 else right)))
        return (losses[0] - losses[1]) / (2 * step)

    def by_gradients(name: str) -> float:
        shares = [0.0]
        for tensor, slope in reference.gradients.items():
            place = int(np.abs(slope).argmax())
            off = abs(wrong_slope(name, tensor, place) / slope.flat[place] - 1)
            shares.append(share(off, max(bounds["gradients"][tensor], 1e-6)))  # differences tell no less than that
            if shares[-1] > 1:
                break
        return max(shares)

    found = {}
    for name, wrong in mistakes.of_outputs(protocol, start, x):
        found[name] = share(distance(wrong(), reference.probabilities), bounds["probabilities"]["probabilities"])
        if found[name] <= 1:
            found[name] = max(found[name], by_gradients(name))
    for name, wrong in mistakes.of_update(protocol, start, x, y):
        if name != f"Adam's ε is {protocol.epsilon:.0e} instead of the protocol's {protocol.epsilon:.0e}":
            off = weight_distances(1, wrong(), reference.weights[1], start)
            found[name] = max(share(value, bounds[kind][tensor]) for kind in off for tensor, value in off[kind].items())
    return found


def faults(folder: Path, protocol: Protocol) -> None:
    out = folder / "faults.json"
    if not out.exists():
        reference = Trajectory.load(folder / "reference.npz")
        x, y = load_split(folder / "data", "train", protocol)
        rows = reference.rows[: protocol.batch_size]
        out.write_text(json.dumps(fault_shares(protocol, reference, x[rows], y[rows].astype(float)), indent=1))


def told(folder: Path) -> None:
    """Both tables, of everything under the folder."""
    print("| model | precision | batch | length | seed | backend | largest share | of |\n|---|---|--:|--:|--:|---|--:|---|")
    for file in sorted(folder.glob("*/*.json")):
        record = json.loads(file.read_text())
        if isinstance(record, dict) and "shares" in record:
            quantity = max(
                record["shares"], key=lambda name: np.inf if record["shares"][name] is None else record["shares"][name]
            )
            place = " | ".join(file.parent.name.split("_"))
            print(f"| {place} | {file.stem} | {record['shares'][quantity]:.2f} | {quantity}: {record['nearest'][quantity]} |")
    print(
        "\n| model | precision | batch | length | seed | mistakes | outside | smallest share outside | inside |\n|---|---|--:|--:|--:|--:|--:|--:|---|"
    )
    for file in sorted(folder.glob("*/faults.json")):
        shares = json.loads(file.read_text())
        outside, inside = [v for v in shares.values() if v > 1], [f"{name} ({v:.2g})" for name, v in shares.items() if v <= 1]
        place = " | ".join(file.parent.name.split("_"))
        print(f"| {place} | {len(shares)} | {len(outside)} | {min(outside):.3g} | {'; '.join(inside)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", default=list(registry.models()))
    parser.add_argument("--backends", nargs="*", default=["torch", "jax", "keras-tensorflow"])
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 32, 64, 128, 256])
    parser.add_argument("--lengths", nargs="*", type=int, default=[40, 200])
    parser.add_argument("--precisions", nargs="*", default=["float32"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--faults", action="store_true", help="the mistakes, and PyTorch's departures, too")
    args = parser.parse_args()
    grid = product(args.models, args.precisions, args.batches, args.lengths, args.seeds)
    for model, precision, batch, length, seed in grid:
        sizes = registry.model(model).sizes()
        protocol = Protocol(model=sizes, length=length, batch_size=batch, epochs=1, precision=precision)
        folder = args.folder / f"{model}_{precision}_{batch}_{length}_{seed}"
        wanted = [folder / f"{backend}.json" for backend in args.backends] + [folder / "faults.json"] * args.faults
        if all(file.exists() for file in wanted):
            continue
        prepared(folder, protocol, args.steps, seed)
        for backend in args.backends:
            measured(folder, backend, protocol)
        if args.faults:
            for name, departure in registry.possible("torch", model).items():
                if departure.kind in ("model", "optimiser"):
                    measured(folder, "torch", protocol, (name,))
            faults(folder, protocol)
    told(args.folder)


if __name__ == "__main__":
    main()
