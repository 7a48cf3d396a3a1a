"""Runs the contract's tests on a backend, also one that another package registered."""

from levelfield.backends import confine, load_class
from levelfield.check import check


def arguments(parser):
    parser.add_argument("backend")
    parser.add_argument("--threads", type=int, default=1)


def run(args):
    threads = confine("auto", args.threads)
    backend_class = load_class(args.backend)
    findings = check(args.backend, lambda protocol, departures, device: backend_class(protocol, departures, device, threads))
    for finding in findings:
        print(f"{'ok  ' if finding.passed else 'FAIL'}  {finding.check:13} {finding.found}")
    failed = sum(not finding.passed for finding in findings)
    print(f"{args.backend}: {len(findings) - failed} of {len(findings)} checks passed")
    return 1 if failed else 0
