"""What the tests of containers stand on: a runtime, a base, and a working folder whose images outlive one test run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path("~/.cache/levelfield-tests").expanduser()
"""Runtime, base and images: about 4 GB, made in some minutes, kept between test runs."""


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment variables with a container runtime in PATH, installed first where there is none.

    Skips, loudly, where none can be had: no test of containers has then been passed.
    """
    own = CACHE / "apptainer"
    path = [str(Path(sys.executable).parent), str(own / "bin"), os.environ["PATH"]]
    values = os.environ | {"PATH": os.pathsep.join(path)}
    if not shutil.which("apptainer", path=values["PATH"]):
        done = subprocess.run([ROOT / ".ci/install-apptainer", own], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"NO CONTAINER RUNTIME, nothing of containers was tested: {done.stderr.strip()[-500:]}")
    return values


@pytest.fixture(scope="session")
def base(environment) -> Path:
    """A root file system from the packages of this machine's Debian mirror."""
    folder = CACHE / "base"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "levelfield", "images", "base", folder], env=environment, check=True)
    return folder


@pytest.fixture(scope="session")
def workspace() -> Path:
    """Snakemake's working folder; images stay in it, the results of earlier test runs do not."""
    folder = CACHE / "work"
    for old in folder.glob("results/[!.]*"):
        shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
