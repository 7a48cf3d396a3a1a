"""Precision and determinism mean the same in every backend: the float32 step, coarsened by bfloat16 no further than its digits."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ["keras-tensorflow", "keras-jax", "keras-torch", "torch", "jax", "flax"]
COARSE = {"bilstm": 1e-3, "transformer": 2e-2, "cnn": 1e-3}
"""More than bfloat16 may move a logit: 8 bits of mantissa are a relative error of 4e-3 in each of 16 steps of two LSTM layers and
of two convolutions, on logits of up to 0.02 and 0.04; those of the Transformer, behind LayerNorm, are of the size of 1."""
EACH = [(backend, model) for backend in BACKENDS for model in COARSE]
pytestmark = pytest.mark.long
SCRIPT = Path(__file__).parent / "try_settings.py"


@cache
def tried(backend: str, **environment: str) -> dict:
    command = [sys.executable, SCRIPT, backend]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def difference(backend: str, model: str, setting: str, what: str) -> float:
    found = tried(backend)[model]
    return float(np.abs(np.subtract(found[setting][what], found["float32"][what])).max())


@pytest.mark.parametrize(("backend", "model"), EACH)
def test_bfloat16_coarsens_the_layers_and_nothing_else(backend, model):
    assert 1e-6 < difference(backend, model, "bfloat16", "logits") < COARSE[model]
    assert 1e-7 < difference(backend, model, "bfloat16", "losses") < COARSE[model]
    assert tried(backend)[model]["bfloat16"]["weights"] == ["float32"]
    logits = np.array(tried(backend)[model]["bfloat16"]["logits"], np.float32)
    assert (logits.view(np.uint32) & 0xFFFF).any(), (
        "the last layer computes in float32: its logits have more than bfloat16's 8 bits"
    )


@pytest.mark.parametrize(("backend", "model"), EACH)
def test_tf32_is_float32_where_there_is_no_gpu(backend, model):
    assert difference(backend, model, "tf32", "logits") < 1e-6


@pytest.mark.parametrize(("backend", "model"), EACH)
def test_deterministic_runs_are_equal_to_the_bit(backend, model):
    assert tried(backend)[model]["deterministic"] == tried(backend)[model]["deterministic again"]
    assert difference(backend, model, "deterministic", "logits") < 1e-6


@pytest.mark.parametrize("model", COARSE)
def test_bfloat16_is_the_same_coarseness_in_all(model):
    differences = [difference(backend, model, "bfloat16", "logits") for backend in BACKENDS]
    assert max(differences) < 10 * min(differences), dict(zip(BACKENDS, differences, strict=True))


@pytest.mark.parametrize("model", COARSE)
def test_pytorch_computes_in_bfloat16_on_a_cpu_without_avx512(model):
    """There oneDNN has no LSTM in bfloat16, and PyTorch asks it for one all the same."""
    found = tried("torch", ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")[model]
    for what in ("logits", "losses"):
        assert 1e-7 < np.abs(np.subtract(found["bfloat16"][what], found["float32"][what])).max() < COARSE[model]
