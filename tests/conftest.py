"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Gives back the environment that a test found: Keras, once imported on JAX or PyTorch, sets a variable of TensorFlow."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
