"""Precision and determinism mean the same in every backend: the float32 step, coarsened by bfloat16 no further than its digits."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ["keras-tensorflow", "keras-jax", "keras-torch", "torch", "jax"]
pytestmark = pytest.mark.long
SCRIPT = Path(__file__).parent / "try_settings.py"


@cache
def tried(backend: str) -> dict:
    done = subprocess.run([sys.executable, SCRIPT, backend], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def difference(backend: str, setting: str, what: str) -> float:
    return float(np.abs(np.subtract(tried(backend)[setting][what], tried(backend)["float32"][what])).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_coarsens_the_layers_and_nothing_else(backend):
    # 8 bits of mantissa: a relative error of 4e-3 in each of 16 steps of two layers, on logits of up to 0.018
    assert 1e-6 < difference(backend, "bfloat16", "logits") < 1e-3
    assert 1e-7 < difference(backend, "bfloat16", "losses") < 1e-3
    assert tried(backend)["bfloat16"]["weights"] == ["float32"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_tf32_is_float32_where_there_is_no_gpu(backend):
    assert difference(backend, "tf32", "logits") < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_deterministic_runs_are_equal_to_the_bit(backend):
    assert tried(backend)["deterministic"] == tried(backend)["deterministic again"]
    assert difference(backend, "deterministic", "logits") < 1e-6


def test_bfloat16_is_the_same_coarseness_in_all():
    differences = [difference(backend, "bfloat16", "logits") for backend in BACKENDS]
    assert max(differences) < 10 * min(differences), dict(zip(BACKENDS, differences, strict=True))
