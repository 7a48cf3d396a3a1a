"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# the same examples each time, on any machine however busy; nothing is written beside the tests
settings.register_profile("levelfield", derandomize=True, deadline=None, database=None)
settings.load_profile("levelfield")


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Gives back the environment that a test found: Keras, once imported on JAX or PyTorch, sets a variable of TensorFlow."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
