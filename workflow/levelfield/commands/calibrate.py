"""Measure what this machine can do at most: matrix products, memory bandwidth, on a GPU the bare cuDNN LSTM."""

import os
from pathlib import Path

from levelfield.protocol import Protocol


def arguments(parser):
    parser.add_argument("path", type=Path, help="JSON file to write; times of other bare LSTMs in it are kept")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--gpu", metavar="NAME", help="measure the first visible GPU, and call it so")
    defaults = Protocol()
    parser.add_argument("--precision", default=defaults.precision, choices=["float32", "tf32", "bfloat16"])
    for name in ("batch_size", "length", "embedding", "units"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name), help="of the bare LSTM")


def run(args):
    for library in ("OPENBLAS", "MKL", "OMP"):  # a BLAS reads them once, when NumPy is imported
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    from levelfield.measure import calibrate

    sizes = {name: getattr(args, name) for name in ("precision", "batch_size", "length", "embedding", "units")}
    found = calibrate.measure(args.path, args.threads, args.gpu, Protocol(**sizes))
    rates = ", ".join(f"{rate / 1e9:,.0f} billion operations/s in {name}" for name, rate in found.products_per_second.items())
    print(f"{found.library}, {found.threads} threads: {rates}; {found.bytes_per_second / 1e9:.1f} GB/s copied; {args.path}")
