"""Evaluates with one case the weights that others trained."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.backends import confine, load_backend
from levelfield.data.arrays import load_description, load_split
from levelfield.images.images import digest_in_use
from levelfield.level.exchange import Exchanged, evaluate_all, trained_by
from levelfield.level.parity import computed_in
from levelfield.measure.device import hold_devices
from levelfield.measure.hang import HANG, end_if_it_hangs
from levelfield.measure.steering import refuse_contradictions
from levelfield.records import write_json
from levelfield.study.protocol import Case


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--case", type=Path, required=True, metavar="JSON", help="the case that evaluates")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument(
        "--weights", type=Path, required=True, nargs="+", metavar="NPZ", help="runs/<case>/seed-<n>/weights.npz"
    )
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--image", type=Path, nargs="?", metavar="SIF", help="the image that this must run in")
    parser.add_argument("--minutes", type=int, help=f"what a job is granted; after {HANG} times as long it is ended as hung")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")


def run(args: Namespace) -> None:
    digest_in_use(args.image)
    case = Case.read(args.case)
    refuse_contradictions(os.environ, case)
    x, y = load_split(args.data, "val", case.protocol)
    threads = confine(case.device, args.threads)
    with hold_devices(case.device, case.protocol.devices):
        end_if_it_hangs(args.minutes)
        backend = load_backend(case.backend, case.protocol.devices)(
            case.protocol, frozenset(case.departures), case.device, threads
        )
        precision = computed_in(case.protocol.precision, backend.device)
        accuracy, loss, undecided = evaluate_all(backend, args.weights, x, y, precision)
    seed, corpus = trained_by(args.weights[0])[1], load_description(args.data)["title"]
    write_json(args.out, Exchanged(case.name, case.backend, backend.device, seed, corpus, len(x), accuracy, loss, undecided))
    for name, value in accuracy.items():
        found = "not finite" if (known := loss[name]) is None else f"{known:.6f}"
        print(f"{name} trained, {case.name} evaluated: accuracy {value:.4f}, loss {found}")
