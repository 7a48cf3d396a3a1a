"""What an image is made of: locks that answer what is asked, one base, a Dockerfile that a linter accepts. Builds nothing."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from levelfield import registry
from levelfield.commands.images import refuse_incomplete
from levelfield.errors import UserError
from levelfield.images import images, inside, lockfiles

KINDS = [(name, kind) for name in images.names() for kind in images.kinds(name)]
ROOT = images.CONTAINERS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str, kind: str) -> dict[str, str]:
    return {
        canonicalize_name(package): version
        for package, version in lockfiles.pins(images.lock_file(name, kind).read_text()).items()
    }


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_lock_answers_its_in_file(name, kind):
    text = images.lock_file(name, kind).read_text()
    assert lockfiles.asked(text) == lockfiles.requirements(name, kind), f"renew it: levelfield images lock {name}"
    for line in lockfiles.requirements(name, kind):
        asked = Requirement(line)
        assert asked.specifier.contains(pins(name, kind)[canonicalize_name(asked.name)], prereleases=True), line


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_package_of_a_lock_has_a_hash_and_no_place(name, kind):
    text = images.lock_file(name, kind).read_text()
    packages = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(packages) == len(pins(name, kind)) > 0
    assert "//" not in text and "@ " not in text


def test_a_lock_that_was_not_renewed_is_noticed(tmp_path, monkeypatch):
    for name in ("jax.in", "jax.cpu.lock"):
        (tmp_path / name).write_text((images.CONTAINERS / name).read_text())
    monkeypatch.setattr(images, "CONTAINERS", tmp_path)
    (tmp_path / "jax.in").write_text("jax==0.10.3   # cpu\n")
    assert lockfiles.asked((tmp_path / "jax.cpu.lock").read_text()) != lockfiles.requirements("jax", "cpu")


def test_images_hold_the_versions_that_the_project_installs():
    for line in PROJECT["optional-dependencies"]["frameworks"]:
        wanted = Requirement(line)
        found = [pins(name, kind).get(canonicalize_name(wanted.name)) for name, kind in KINDS]
        assert any(found), wanted.name
        assert all(wanted.specifier.contains(version) for version in found if version), wanted.name
    analysis = {Requirement(line).name for line in lockfiles.requirements("analysis", "cpu")}
    beyond = {Requirement(line).name for line in PROJECT["dependencies"]} - analysis
    assert beyond == {"snakemake", "snakemake-executor-plugin-slurm"}


def test_every_backend_has_an_image():
    assert {backend.image for backend in registry.backends().values()} | {"analysis"} == set(images.names())


def test_frameworks_run_the_same_cudnn():
    cudnn = {
        name: version
        for image in ("tensorflow", "torch", "jax")
        for name, version in pins(image, "cuda").items()
        if "cudnn" in name
    }
    assert len(set(cudnn.values())) == 1, cudnn
    assert pins("torch", "cuda")["nvidia-cuda-runtime"] == pins("jax", "cuda")["nvidia-cuda-runtime"]


def test_the_name_of_an_image_tells_what_it_is_made_of(tmp_path, monkeypatch):
    before = images.built("torch", "cpu").stem
    assert before == images.built("torch", "cpu").stem
    for file in images.CONTAINERS.iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(images, "CONTAINERS", tmp_path)
    monkeypatch.setattr(images, "TEMPLATE", tmp_path / "levelfield.def")
    assert images.built("torch", "cpu").stem == before
    assert images.built("torch", "cpu", f"debian@sha256:{'0' * 64}").stem != before
    assert images.built("analysis", "cuda").kind == "cpu"
    with (tmp_path / "torch.cpu.lock").open("a") as lock:
        lock.write("# changed\n")
    assert images.built("torch", "cpu").stem != before


@pytest.mark.parametrize("source", ["docker://python:3.11-slim", "/nowhere/torch.sif"])
def test_a_ready_image_is_named_by_its_digest_or_is_a_file(source):
    with pytest.raises(UserError, match=re.escape(source)):
        images.ready("torch", source)


def test_a_base_that_may_change_under_its_name_is_refused():
    with pytest.raises(UserError, match="levelfield images base debian:12"):
        images.built("torch", "cpu", "debian:12")


def test_without_a_runtime_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install the package `apptainer`"):
        images.runtime()


def test_docker_and_apptainer_start_from_the_same_base():
    digests = [
        re.findall(r"@(sha256:[0-9a-f]{64})", (images.CONTAINERS / file).read_text())
        for file in ("Dockerfile", "levelfield.def")
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 1


def test_a_linter_accepts_the_dockerfile():
    subprocess.run([Path(sys.executable).with_name("hadolint"), images.CONTAINERS / "Dockerfile"], check=True)


def test_a_host_that_runs_containers_needs_no_more_than_snakemake():
    absent = ["numpy", "pandas", "pyarrow", "scipy", "altair", "torch", "tensorflow", "jax", "keras"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import levelfield.plan.plan, levelfield.plan.containers, levelfield.commands.images"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_left_out_is_told_by_kind_and_changes_the_image(tmp_path, monkeypatch):
    for file in [*images.CONTAINERS.glob("*.in"), *images.CONTAINERS.glob("*.lock"), images.TEMPLATE]:
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(images, "CONTAINERS", tmp_path)
    before = images.built("jax", "cuda").stem, images.built("jax", "cpu").stem
    with (tmp_path / "jax.in").open("a") as asked:
        asked.write("# without cuda: nvidia/*/extra nvidia/more\n")
    assert images.without("jax", "cuda")[-2:] == ["nvidia/*/extra", "nvidia/more"]
    assert "nvidia/more" not in images.without("jax", "cpu")
    assert images.built("jax", "cuda").stem != before[0] and images.built("jax", "cpu").stem == before[1]


@pytest.fixture
def in_use(tmp_path, monkeypatch) -> Path:
    """The image that this process is told to run in, with its record."""
    file = tmp_path / "jax-cuda-00000000.sif"
    file.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0".ljust(64, b"\1") + bytes(100_000))
    record = {"digest": images.digest(file), "stamp": images.stamp(file)}
    file.with_suffix(".json").write_text(json.dumps(record))
    monkeypatch.setenv("APPTAINER_CONTAINER", str(file))
    return file


def test_the_digest_of_a_run_is_of_the_file_that_runs(in_use):
    planned = json.loads(in_use.with_suffix(".json").read_text())["digest"]
    assert images.digest_in_use(in_use) == planned
    os.utime(in_use, ns=(1, 1))  # moved, copied, touched: it is read, and is the same
    assert images.digest_in_use(in_use) == planned


def test_an_image_whose_header_is_the_same_and_its_content_is_not_is_refused(in_use):
    header = images.sif_id(in_use)
    with in_use.open("r+b") as file:
        file.seek(50_000)
        file.write(b"\1")
    assert images.sif_id(in_use) == header
    with pytest.raises(UserError, match="is not the file of its record"):
        images.digest_in_use(in_use)


def test_cuda_libraries_that_are_not_in_an_image_are_named():
    image = images.Image("jax", "cuda", None, "00000000")
    refuse_incomplete(image, {"missing": {}, "cudnn": {"nvidia/cudnn/lib": 92000}})
    with pytest.raises(UserError, match=r"libcufft\.so\.12 \(for jaxlib/a\.so\)"):
        refuse_incomplete(image, {"missing": {"libcufft.so.12": ["jaxlib/a.so"]}, "cudnn": {}})
    with pytest.raises(UserError, match="cuDNN more than once"):
        refuse_incomplete(image, {"missing": {}, "cudnn": {"nvidia/cudnn/lib": 92000, "torch/lib": 91900}})


def test_names_of_libraries_and_search_paths_are_read_from_a_file(tmp_path):
    file = tmp_path / "package/a.so"
    file.parent.mkdir()
    names = b"\0libcudnn.so.9\0_ZN3tsl15GetNcclDsoHandleEv\0GetTensorRtDsoHandle\0libcudnn_graph.so.9\0xlibcublasLt.so.13\0libcurl.so.4\0libcudart.so\0libcuda.so.1\0libnccl.so.2\0"
    file.write_bytes(b"\x7fELF" + names + b"$ORIGIN/../nvidia/cu13/lib:$ORIGIN/lib\0")
    found, parts, folders = inside.named(file)
    assert parts == {"nccl"}
    assert found == {"libcudnn.so.9", "libcudnn_graph.so.9", "libcublasLt.so.13", "libnccl.so.2"}
    assert folders == {tmp_path / "nvidia/cu13/lib", tmp_path / "package/lib"}
