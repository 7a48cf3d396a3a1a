"""What parity found, each thing in a script of its own: the scripts still show what the docs say they show."""

import os
import re
import subprocess
import sys
from pathlib import Path


def printed(script: str) -> str:
    command, one_thread = [sys.executable, Path(__file__).parent / script], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=one_thread)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_keras_on_tensorflow_squares_duplicate_slices_one_by_one():
    told = printed("keras_embedding_adam.py")
    assert "row 0 moved by -0.001414, row 1 by -0.001000" in told and "both by -0.001000" in told


def test_torch_has_keras_form_with_epsilon_scaled_at_each_step():
    framework, scaled, by_hand = (line.rpartition(" ")[2] for line in printed("torch_epsilon.py").splitlines())
    assert scaled == by_hand and framework != by_hand


def test_equal_windows_share_the_maximums_gradient_or_give_it_to_one_and_the_kernel_gets_the_same():
    """So that neither `amax` nor `max(dim)` is a departure: what windows are equal in, their kernel and words get once."""
    told = dict(line.split(": to the windows ") for line in printed("cnn_ties.py").splitlines())
    shared = {name for name, slopes in told.items() if slopes.startswith("[0.5 0.5 0. ]")}
    first = {name for name, slopes in told.items() if slopes.startswith("[1. 0. 0.]")}
    assert first == {"torch, max(dim)", "torch, adaptive_max_pool1d"} and shared | first == set(told) and len(told) == 6
    assert {slopes.rpartition("kernel ")[2] for slopes in told.values()} == {"[1. 2.]"}


def test_the_keys_bias_has_no_gradient_but_rounding_and_moves_nothing():
    single, moved, double, _ = printed("key_bias.py").splitlines()
    slopes = [{name: float(value) for name, value in re.findall(r"(\w+) (\d\.\de[+-]\d\d)", line)} for line in (single, double)]
    assert slopes[0]["key"] < 1e-5 * slopes[0]["query"] and slopes[1]["key"] < 1e-14 * slopes[1]["query"]
    assert float(moved.rpartition(" ")[2]) < 1e-6


def test_torch_adds_up_the_gradient_of_layer_norms_beta_row_by_row():
    off = [float(line.split("off by ")[1].split(",")[0]) for line in printed("layer_norm_sum.py").splitlines()]
    assert off[0] < 2e-6 < 2e-5 < off[1] < off[2] and off[2] > 3e-4
