"""What this machine has: which backends can be imported and what they would run on, tools, and whether data can be had."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from levelfield import registry
from levelfield.host import cpus_available

PROBE = """
import json, sys
from levelfield import registry
from levelfield.backends import load_backend
from levelfield.errors import UserError
from levelfield.measure.inventory import TOLD
from levelfield.study.protocol import Protocol
for name in sys.argv[1:]:
    try:
        model = next(model for model in registry.models() if registry.supports(name, model))
        protocol = Protocol(model=registry.model(model).small, vocabulary=8, length=12)
        backend = load_backend(name)(protocol, frozenset(), "auto", 1)
        told = {"device": backend.device, "versions": backend.versions()}
    except UserError as error:
        told = {"missing": str(error)}
    except Exception as error:  # whatever it is, the others of its framework are there all the same
        told = {"missing": f"{type(error).__name__}: {error}"}
    print()  # the end of a line that a framework may have begun
    print(TOLD + json.dumps({name: told}, default=str), flush=True)
"""
TOLD = "levelfield told: "
"""How a line of the probe's begins: a framework may print what it likes while it is imported."""


ANSWER_SECONDS = 30
PROBE_SECONDS = 300
"""For a framework to be imported, were it from a slow network's disk, and a model to be built."""


@dataclass(frozen=True)
class Available:
    """What a backend is on this machine."""

    device: str | None = None
    """`cpu` or `cuda`: what `device: auto` would use; None where it cannot run."""
    versions: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    """Why it cannot run."""


def available_backends() -> dict[str, Available]:
    """Each registered backend; a process holds one framework, and so its rows are built in one."""
    together = defaultdict(list)
    for name, known in registry.backends().items():
        together[known.module, known.image].append(name)
    with ThreadPoolExecutor(min(4, cpus_available())) as pool:
        found = {name: one for told in pool.map(_probe, together.values()) for name, one in told.items()}
    return {name: found[name] for name in registry.backends()}


def _probe(names: list[str]) -> dict[str, Available]:
    command = [sys.executable, "-c", PROBE, *names]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    )
    try:
        answer, errors = process.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: a call into a driver that hangs cannot be ended
        return {name: Available(missing=f"no answer in {PROBE_SECONDS} s: its import or the driver hangs") for name in names}
    said = (errors.strip().splitlines() or ["no word"])[-1]
    lines = [json.loads(line.removeprefix(TOLD)) for line in answer.split("\n") if line.startswith(TOLD)]
    told = {name: Available(**values) for line in lines for name, values in line.items()}
    return {name: told.get(name, Available(missing=said)) for name in names}


def tool(*command: str) -> str | None:
    """The first line that a tool says of itself; None where it is not installed or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def reviews(url: str, own: str | None) -> str:
    """Where a study's reviews would come from."""
    import requests

    if own:
        there = os.path.exists(os.path.expanduser(own))
        return f"LEVELFIELD_IMDB: {own}" if there else f"LEVELFIELD_IMDB names {own}, which is not there"
    try:
        requests.head(url, timeout=5).raise_for_status()
    except OSError:  # requests' own errors are such, and so is a certificate file that is not there
        return "Keras's file cannot be reached: the snippets stand in; LEVELFIELD_IMDB=<imdb.npz> gives the reviews"
    return "Keras's published file, which can be reached"
