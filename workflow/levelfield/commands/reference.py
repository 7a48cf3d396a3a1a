"""Computes the float64 trajectory that backends are measured against."""

from pathlib import Path

import numpy as np

from levelfield.protocol import Case
from levelfield.reference import trajectory
from levelfield.start import load_start


def arguments(parser):
    parser.add_argument("--case", type=Path, required=True, metavar="JSON", help="a case with the protocol: cases/<case>.json")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--start", type=Path, required=True, metavar="NPZ")
    parser.add_argument("--out", type=Path, required=True, metavar="NPZ")


def run(args):
    protocol = Case.read(args.case).protocol
    start, _ = load_start(args.start)
    x, y = (np.load(args.data / f"{name}_train.npy", mmap_mode="r") for name in "xy")
    found = trajectory(protocol, start.weights, x, y, start.order[0])
    found.save(args.out)
    print(f"{len(found.losses)} steps in float64: loss {found.losses[0]:.6f} to {found.losses[-1]:.6f}")
