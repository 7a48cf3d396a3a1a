"""A small study, run once to the end, and copies of it to be changed."""

import shutil

import pytest
from checkout import Checkout


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A checkout whose study `small` was run to the end."""
    checkout = Checkout.made(tmp_path_factory.mktemp("finished"))
    checkout.study()
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout[-5000:]
    return checkout


@pytest.fixture
def copy(finished, tmp_path) -> Checkout:
    """A copy of the finished checkout, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Checkout(tmp_path / "copy")
