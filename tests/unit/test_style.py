"""The package is written as pyproject.toml asks: ruff's rules and format, and its types under `mypy --strict`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def said(*command: str) -> str:
    """What a tool complains of; empty where it has nothing to say against the checkout."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("command", [("check", "--no-cache"), ("format", "--check", "--no-cache")], ids=["rules", "format"])
def test_ruff_has_nothing_to_say(command):
    assert not said("ruff", *command)


@pytest.mark.long
def test_mypy_has_nothing_to_say(tmp_path):
    assert not said("mypy", "--cache-dir", str(tmp_path))
