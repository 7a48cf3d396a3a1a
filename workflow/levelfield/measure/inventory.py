"""What this machine has: which backends can be imported and what they would run on, tools, and whether data can be had."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from levelfield import registry
from levelfield.host import cpus_available

PROBE = """
import json, sys
from levelfield import registry
from levelfield.backends import load_backend
from levelfield.errors import UserError
from levelfield.study.protocol import Protocol
try:
    model = next(model for name, model in registry.models().items() if registry.supports(sys.argv[1], name))
    backend = load_backend(sys.argv[1])(Protocol(model=model.small, vocabulary=8, length=12), frozenset(), "auto", 1)
    print(json.dumps({"device": backend.device, "versions": backend.versions()}))
except UserError as error:
    print(json.dumps({"missing": str(error)}))
"""


ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Available:
    """What a backend is on this machine."""

    device: str | None = None
    """`cpu` or `cuda`: what `device: auto` would use; None where it cannot run."""
    versions: dict[str, str] = field(default_factory=dict)
    missing: str | None = None
    """Why it cannot run."""


def available_backends() -> dict[str, Available]:
    """Each registered backend, built in a process of its own, since a process holds one framework."""
    with ThreadPoolExecutor(min(4, cpus_available())) as pool:
        return dict(zip(registry.backends(), pool.map(_probe, registry.backends()), strict=True))


def _probe(name: str) -> Available:
    command = [sys.executable, "-c", PROBE, name]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        return Available(missing=(done.stderr.strip().splitlines() or ["no word"])[-1])
    return Available(**json.loads(done.stdout.splitlines()[-1]))


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
        return f"LEVELFIELD_IMDB: {own}" if os.path.exists(own) else f"LEVELFIELD_IMDB names {own}, which is not there"
    try:
        requests.head(url, timeout=5).raise_for_status()
    except OSError:  # requests' own errors are such, and so is a certificate file that is not there
        return "Keras's file cannot be reached: the snippets stand in; LEVELFIELD_IMDB=<imdb.npz> gives the reviews"
    return "Keras's published file, which can be reached"
