"""A CUDA image, built for real from Debian's mirror: every CUDA library that is loaded is in it, and a backend runs there on the CPU.

One of the three, the smallest; the others by hand: `make cuda-images` (containers/README.md has what was seen).
"""

import json
import subprocess
import sys
from hashlib import file_digest
from pathlib import Path

import pytest

from levelfield.images import images, lockfiles

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
NAME = "jax"


@pytest.fixture(scope="module")
def folder(environment, base, tmp_path_factory) -> Path:
    """The working folder that the image was built in."""
    folder = tmp_path_factory.mktemp("cuda")
    command = [sys.executable, "-m", "levelfield", "images", "build", NAME, "--kind", "cuda", "--base", base]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    yield folder
    (folder / images.built(NAME, "cuda", str(base)).file).unlink()


@pytest.fixture(scope="module")
def image(folder, base) -> Path:
    return folder / images.built(NAME, "cuda", str(base)).file


def test_it_holds_the_packages_of_its_lock_and_its_digest_is_the_files(image):
    record = json.loads(image.with_suffix(".json").read_text())
    assert lockfiles.pins(images.lock_file(NAME, "cuda").read_text()).items() <= record["packages"].items()
    with image.open("rb") as file:
        assert record["digest"] == f"sha256:{file_digest(file, 'sha256').hexdigest()}"


def test_every_cuda_library_that_is_loaded_is_there_and_cudnn_once(image):
    libraries = json.loads(image.with_suffix(".json").read_text())["cuda_libraries"]
    assert libraries["missing"] == {}
    assert {"libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcusolver", "libcusparse", "libcupti"} <= {
        name.partition(".")[0] for name in libraries["found"]
    }
    (version,) = libraries["cudnn"].values()
    pinned = lockfiles.pins(images.lock_file(NAME, "cuda").read_text())["nvidia-cudnn-cu13"].split(".")
    assert version == int(pinned[0]) * 10000 + int(pinned[1]) * 100 + int(pinned[2])


def test_what_it_leaves_out_is_not_there(environment, image):
    for pattern in images.without(NAME, "cuda"):
        code = f"import numpy, pathlib; print(*pathlib.Path(numpy.__path__[0]).parent.glob({pattern!r}))"
        command = ["apptainer", "exec", "--contain", image, "python", "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "", pattern


def test_a_library_that_is_missed_is_named(environment, image):
    """The question put to the image while the folder of one library is hidden."""
    code = Path(images.__file__).with_name("inside.py").read_text()
    found = json.loads(image.with_suffix(".json").read_text())["cuda_libraries"]["found"]
    packages = subprocess.run(
        ["apptainer", "exec", "--contain", image, "python", "-c", "import numpy; print(numpy.__path__[0])"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip().rpartition("/")[0]  # fmt: skip
    hidden = f"{packages}/{Path(found['libcusparse.so.12']).parent}"
    command = ["apptainer", "exec", "--contain", "--bind", f"{image.parent}:{hidden}", image, "python", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    missing = json.loads(done.stdout)["cuda_libraries"]["missing"]
    # the folder is gone, and with it the version that XLA would put behind the name
    assert missing.get("libcusparse.so.12") or missing.get("libcusparse.so.*"), done.stderr


def test_a_backend_passes_the_contract_inside_on_the_cpu(environment, folder, base):
    command = [sys.executable, "-m", "levelfield", "images", "try", NAME, "--kind", "cuda", "--base", base, "--backend", "jax"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"{NAME}-cuda-" in done.stderr and "jax passed in" in done.stderr, done.stderr[-5000:]
