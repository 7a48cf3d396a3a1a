"""A real Slurm of this machine, and studies that go through it."""

import tempfile
from pathlib import Path

import pytest
from slurm import Slurm, missing
from submitted import Submitted, made


@pytest.fixture(scope="session")
def running_slurm():
    if reason := missing():
        pytest.skip(f"NO SLURM, the cluster is not tested: {reason}")
    with tempfile.TemporaryDirectory(prefix="lf-", ignore_cleanup_errors=True) as folder:
        slurm = Slurm(Path(folder))
        try:
            slurm.start()
            yield slurm
        finally:
            slurm.stop()


@pytest.fixture
def slurm(running_slurm):
    yield running_slurm
    running_slurm.clear()


@pytest.fixture
def submitted(slurm, tmp_path) -> Submitted:
    """A checkout with a site's profile and the small study without parity."""
    return made(tmp_path / "checkout", slurm)


@pytest.fixture(scope="session")
def finished(running_slurm, tmp_path_factory) -> Submitted:
    """A study of two cases and three seeds with parity, gone through the cluster."""
    checkout = made(tmp_path_factory.mktemp("cluster") / "checkout", running_slurm, parity=True, seeds=[0, 1, 2])
    done = checkout.submit()
    assert done.returncode == 0, done.stdout[-6000:]
    return checkout
