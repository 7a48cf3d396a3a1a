"""The two places where a framework's Adam is not the protocol's: the example scripts still show what the docs say they show."""

import subprocess
import sys
from pathlib import Path


def printed(script: str) -> str:
    done = subprocess.run([sys.executable, Path(__file__).parent / script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_keras_on_tensorflow_squares_duplicate_slices_one_by_one():
    told = printed("keras_embedding_adam.py")
    assert "row 0 moved by -0.001414, row 1 by -0.001000" in told and "both by -0.001000" in told


def test_torch_has_keras_form_with_epsilon_scaled_at_each_step():
    framework, scaled, by_hand = (line.rpartition(" ")[2] for line in printed("torch_epsilon.py").splitlines())
    assert scaled == by_hand and framework != by_hand
