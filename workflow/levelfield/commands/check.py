"""Runs the contract's tests on a backend, also one that another package registered."""

from argparse import ArgumentParser, Namespace

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.errors import UserError
from levelfield.level.check import check


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("backend")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--devices", type=int, choices=(1, 2, 4), default=1, help="how many to train on; no departures are made there"
    )
    parser.add_argument(
        "--model", action="append", default=[], help="only this model; all that the backend trains where none is named"
    )


def run(args: Namespace) -> int:
    threads = confine("auto", args.threads)
    known = registry.backend(args.backend)
    trained = [name for name in registry.models() if registry.supports(args.backend, name)]
    for model in args.model:
        if model not in trained:
            raise UserError(f"{args.backend} does not train the model {model!r}; it trains {', '.join(trained)}")
    make, checked, failed = load_backend(args.backend, args.devices), 0, 0
    for model in args.model or trained:
        findings = check(
            args.backend, model, lambda protocol, departures, device: make(protocol, departures, device, threads), args.devices
        )
        for finding in findings:
            print(f"{'ok  ' if finding.passed else 'FAIL'}  {model:12} {finding.check:13} {finding.found}", flush=True)
        checked += len(findings)
        failed += sum(not finding.passed for finding in findings)
    print(
        f"{args.backend} ({known.framework}): {checked - failed} of {checked} checks passed, {', '.join(args.model or trained)}"
    )
    return 1 if failed else 0
