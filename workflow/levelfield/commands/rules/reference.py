"""Computes the float64 trajectory that backends are measured against, and the bounds that rounding gives to it."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.data.arrays import load_split
from levelfield.errors import UserError
from levelfield.level.bounds import proven
from levelfield.level.start import load_start
from levelfield.study.departures import too_few
from levelfield.study.protocol import Protocol


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--protocol", type=json.loads, required=True, metavar="JSON")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--start", type=Path, required=True, metavar="NPZ", help="start/seed-<n>.npz of the study")
    parser.add_argument("--out", type=Path, required=True, metavar="NPZ")


def run(args: Namespace) -> None:
    protocol = Protocol.of(args.protocol)
    start, _ = load_start(args.start)
    x, y = load_split(args.data, "train", protocol)
    if reason := too_few((), protocol.batch_size, len(x), None):
        raise UserError(f"{args.data}: {reason}")
    found = proven(protocol, start.weights, x, y, start.order[0])
    found.save(args.out)
    print(f"{len(found.losses)} steps in float64: loss {found.losses[0]:.6f} to {found.losses[-1]:.6f}")
