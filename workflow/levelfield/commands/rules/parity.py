"""Measures a case against the float64 reference: outputs, gradients and first steps."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.data.arrays import load_description, load_split
from levelfield.images.images import digest_in_use
from levelfield.level.parity import Parity, computed_in, judge, measure
from levelfield.level.start import load_start
from levelfield.level.trajectory import Trajectory
from levelfield.measure import environment
from levelfield.measure.device import hold_devices
from levelfield.measure.gpu import as_one
from levelfield.measure.hang import HANG, end_if_it_hangs
from levelfield.measure.steering import refuse_contradictions
from levelfield.study.protocol import Case, digest
from levelfield.training.departed import sequences_of
from levelfield.training.train import check_device


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--case", type=Path, required=True, metavar="JSON")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--start", type=Path, required=True, metavar="NPZ")
    parser.add_argument("--reference", type=Path, required=True, metavar="NPZ", help="trajectory of the same start")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--image", type=Path, nargs="?", metavar="SIF", help="the image that this must run in")
    parser.add_argument("--minutes", type=int, help=f"what a job is granted; after {HANG} times as long it is ended as hung")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON")


def run(args: Namespace) -> None:
    image = digest_in_use(args.image)
    case = Case.read(args.case)
    refuse_contradictions(os.environ, case)
    start, start_sha256 = load_start(args.start)
    x, y = load_split(args.data, "train", case.protocol)
    departures = frozenset(case.departures)
    x = sequences_of(x, departures)
    threads = confine(case.device, args.threads)
    weights = start.weights_for(case.protocol, departures, registry.backend(case.backend).framework)
    reference = Trajectory.load(args.reference)
    with hold_devices(case.device, case.protocol.devices) as gpus:
        end_if_it_hangs(args.minutes)
        backend = load_backend(case.backend, case.protocol.devices)(case.protocol, departures, case.device, threads)
        backend.draw_from(start.seed)
        found = measure(backend, weights, reference, x, y, departures)
        check_device(backend, case)
        machine = environment.machine(backend, threads, as_one(gpus))
    precision = computed_in(case.protocol.precision, backend.device)
    finer = None if precision == "float32" else reference.bounds.get("float32")
    parity = Parity(
        case=case.name,
        backend=case.backend,
        departures=list(case.departures),
        matched=case.matched,
        seed=start.seed,
        device=backend.device,
        precision=case.protocol.precision,
        versions=backend.versions(),
        protocol_sha256=digest(case.protocol),
        start_sha256=start_sha256,
        corpus=load_description(args.data)["title"],
        cpu=machine.cpu,
        gpu=machine.gpu,
        image=image,
        **judge(found, reference.bounds[precision], finer),
    )
    parity.write(args.out)
    verdict = "within the bounds" if parity.passed else "; ".join(parity.missed)
    print(f"{case.name}, {parity.steps} steps: {verdict}")
