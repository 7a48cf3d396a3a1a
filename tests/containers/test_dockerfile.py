"""The Dockerfile, built for real where there is neither a daemon nor a registry: Debian's buildah in a chroot, on a base of Debian's packages."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from levelfield.images import images, lockfiles

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
NAME, KIND = "jax", "cpu"


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> dict[str, str]:
    """The environment of a buildah that keeps its images in a folder of this test's own."""
    if not shutil.which("buildah"):
        pytest.skip("NO BUILDAH, the Dockerfile was not built: `apt-get install --no-install-recommends buildah`")
    folder = tmp_path_factory.mktemp("storage")
    settings = folder / "storage.conf"
    settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/images"\nrunroot = "{folder}/run"\n')
    yield os.environ | {"CONTAINERS_STORAGE_CONF": str(settings), "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    shutil.rmtree(folder)


def test_it_builds_and_holds_the_packages_of_the_lock_by_hash(storage, base, tmp_path):
    lock = images.lock_file(NAME, KIND)
    lockfiles.download(lock, tmp_path)
    command = [images.CONTAINERS / "with-buildah", base, tmp_path, NAME, KIND]
    done = subprocess.run(command, env=storage, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def buildah(*arguments: str) -> str:
        return subprocess.run(["buildah", *arguments], env=storage, capture_output=True, text=True, check=True).stdout

    container = buildah("from", "--pull-never", f"levelfield-{NAME}-{KIND}").strip()
    text = Path(images.__file__).with_name("inside.py").read_text()
    inside = json.loads(buildah("run", container, "--", "python", "-c", text))
    assert lockfiles.pins(lock.read_text()).items() <= inside["packages"].items()
    assert inside["cuda_libraries"] == {"found": {}, "missing": {}, "cudnn": {}}
    assert buildah("run", container, "--", "sh", "-c", "echo $PYTHONNOUSERSITE $HOME").split() == ["1", "/tmp"]


def test_a_wheel_of_another_hash_stops_the_build(storage, base, tmp_path):
    """The lock's own line of one package, altered; the base of the test before is in the storage."""
    folder = tmp_path / "containers"
    shutil.copytree(images.CONTAINERS, folder)
    wheels = tmp_path / "wheels"
    lockfiles.download(images.lock_file("analysis", "cpu"), wheels)
    line = next(line for line in (folder / "jax.cpu.lock").read_text().splitlines() if line.startswith("tqdm=="))
    (folder / "jax.cpu.lock").write_text(f"{line[:-1]}{'1' if line[-1] == '0' else '0'}\n")
    done = subprocess.run([folder / "with-buildah", base, wheels, NAME, KIND], env=storage, capture_output=True, text=True)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stdout + done.stderr
