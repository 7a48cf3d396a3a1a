"""Measures what this machine can do at most: matrix products, memory bandwidth, on a GPU a model's bare fused kernel."""

import json
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.host import cpus_available, end_with_the_job
from levelfield.study.protocol import Protocol


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="JSON file to write; times of other bare kernels in it are kept")
    parser.add_argument("--threads", type=int, default=cpus_available(), help="CPU threads")
    parser.add_argument("--gpu", metavar="NAME", help="measure the first visible GPU, and call it so")
    parser.add_argument("--job-pid", type=int, metavar="PID", help="of the run that it ends with")
    parser.add_argument("--protocol", type=json.loads, metavar="JSON", help="whose model's bare kernel is timed on the GPU")


def run(args: Namespace) -> None:
    end_with_the_job(args.job_pid)
    for library in ("OPENBLAS", "MKL", "OMP"):  # a BLAS reads them once, when NumPy is imported
        os.environ[f"{library}_NUM_THREADS"] = str(args.threads)
    from levelfield.measure import calibrate

    protocol = Protocol.of(args.protocol) if args.protocol else None
    found = calibrate.measure(args.path, args.threads, args.gpu, protocol)
    rates = ", ".join(f"{rate / 1e9:,.0f} billion operations/s in {name}" for name, rate in found.products_per_second.items())
    print(f"{found.library}, {found.threads} threads: {rates}; {found.bytes_per_second / 1e9:.1f} GB/s copied; {args.path}")
