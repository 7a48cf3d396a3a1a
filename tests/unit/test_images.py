"""Images where the paths are odd, or pip is not there: what is told before anything is built; and records that are not whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from levelfield.commands.images import build
from levelfield.data.origin import own_file
from levelfield.errors import UserError
from levelfield.images import images, lockfiles
from levelfield.measure.inventory import reviews
from levelfield.plan.containers import Containers
from levelfield.study.config import read_study
from levelfield.study.data import Data


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_ready_image_and_a_base_may_lie_in_the_home(home):
    (home / "torch.sif").write_bytes(b"x" * 32 + b"SIF_MAGIC".ljust(16, b"\0") + b"0123456789abcdef")
    image = images.ready("torch", "~/torch.sif")
    assert image == images.ready("torch", str(home / "torch.sif")) and image.source == str(home / "torch.sif")
    (home / "base/var/lib/dpkg").mkdir(parents=True)
    (home / "base/var/lib/dpkg/status").touch()
    assert images.built("torch", "cpu", "~/base") == images.built("torch", "cpu", str(home / "base"))


def test_the_home_of_nobody_is_no_such_file(home, monkeypatch):
    with pytest.raises(UserError, match=r"~nosuch/x.*no such file"):
        images.ready("torch", "~nosuch/x")
    monkeypatch.setenv("LEVELFIELD_IMDB", "~nosuch/x")
    assert own_file(Data()) == (Path("~nosuch/x"), "LEVELFIELD_IMDB")
    assert reviews("https://example.invalid", "~nosuch/x") == "LEVELFIELD_IMDB names ~nosuch/x, which is not there"


def test_reviews_in_the_home_are_found(home):
    (home / "imdb.npz").touch()
    assert reviews("https://example.invalid", "~/imdb.npz") == "LEVELFIELD_IMDB: ~/imdb.npz"


@pytest.mark.parametrize("work", ["lock", "image"])
def test_an_environment_without_pip_is_told_how_to_get_it(tmp_path, monkeypatch, work):
    """`python -m pip install --upgrade pip` would be of no use there."""

    def without_pip(command, **_):
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: No module named pip\n")

    monkeypatch.setattr(lockfiles.subprocess, "run", without_pip)
    monkeypatch.setattr(images, "PYTHON", f"{sys.version_info.major}.{sys.version_info.minor}")
    with pytest.raises(UserError, match=r"this environment has none: install it \(`.* -m ensurepip`"):
        if work == "lock":
            lockfiles.resolve("torch", "cpu")
        else:
            lockfiles.download(images.lock_file("torch", "cpu"), tmp_path)


@pytest.fixture
def apptainer(tmp_path, monkeypatch):
    """A program that writes down how it was called, and does of `%files` what Apptainer does."""
    monkeypatch.setattr("levelfield.commands.images.lockfiles.download", lambda lock, wheels: wheels.mkdir())
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import shutil, subprocess, sys
lock = next(word.removeprefix("LOCK=") for word in sys.argv if word.startswith("LOCK="))
assert " " not in lock
shutil.copy(subprocess.check_output(["sh", "-c", f'for n in {{lock}}; do printf "$n"; done'], text=True), sys.argv[-2])
"""
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("name", ["my lab", "lab's (2)", "a$b {c}"])
def test_an_image_is_built_in_a_folder_with_any_name(tmp_path, monkeypatch, apptainer, name):
    """Apptainer copies by a shell: the lock is named from its own folder."""
    work = tmp_path / name / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / name)
    build(apptainer, images.built("torch", "cpu"), Path("work/torch.sif"), Path("work/wheels"))
    assert (work / "torch.sif").read_text() == images.lock_file("torch", "cpu").read_text()


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (None, "is not there"),
        ("", "is damaged"),
        ('{"digest": "sha256:0', "is damaged"),
        ("{}", r"is damaged \(KeyError: 'digest'\)"),
        ("[]", "is damaged"),
        ('{"digest": 7}', "its digest is no text"),
        ("[" * 100_000, "is damaged"),
    ],
    ids=["gone", "empty", "half", "another's", "a list", "a number", "nested"],
)
def test_an_image_whose_record_is_not_whole_is_told_with_the_way_out(tmp_path, monkeypatch, record, why):
    image = tmp_path / "jax-cpu-00000000.sif"
    image.write_bytes(b"x")
    monkeypatch.setenv("APPTAINER_CONTAINER", str(image))
    file = image.with_suffix(".json")
    file.write_text(json.dumps({"digest": images.digest(image), "stamp": images.stamp(image)}))
    assert images.digest_in_use(image) == images.digest(image)
    file.unlink() if record is None else file.write_text(record)
    told = rf"^{file}: the image's record .*{why}.*remove it and {image.name}, then `snakemake images`"
    with pytest.raises(UserError, match=told) as refused:
        images.digest_in_use(image)
    assert "\n" not in str(refused.value)


def test_an_image_is_asked_for_without_its_record_so_that_both_must_go_to_be_made_anew():
    """By whose image `snakemake images` says what is there: with the record alone gone it would make nothing."""
    study = read_study({"study": "s", "cases": ["torch"], "images": {"kind": "cpu"}}, "s.yaml")
    files = Containers(study, [], []).files()
    assert files and all(file.endswith(".sif") for file in files)


@pytest.mark.parametrize("name", ["a,b", "a:b"])
def test_a_folder_that_apptainer_takes_apart_is_refused_before_anything_is_downloaded(tmp_path, monkeypatch, apptainer, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match="move the checkout"):
        build(apptainer, images.built("torch", "cpu"), Path("torch.sif"), Path("wheels"))
    assert not os.listdir()
