"""A study in real containers: images built, runs made in them without a network, and the results those of the host."""

import json
import shutil
import subprocess
import sys
from hashlib import file_digest
from pathlib import Path

import numpy as np
import pytest
import yaml

from levelfield.images import images, lockfiles

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
CASES = {"torch": "torch", "keras-tensorflow": "tensorflow", "jax": "jax"}
"""Image of each case."""
STUDY = {
    "data": {"synthetic": True, "train": 320, "validation": 64},
    "protocol": {"model": {"name": "bilstm", "embedding": 16, "units": 8}, "vocabulary": 500, "length": 40, "epochs": 1},
    "cases": list(CASES),
    "seeds": [0],
    "device": "cpu",
    "retakes": 0,
}


def snakemake(environment, folder, *arguments, network=True, check=True):
    """Runs the workflow as a person would; without network, in a namespace that has the loopback interface alone."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--directory",
        folder,
        "--cores",
        "2",
        *arguments,
    ]
    if not network:
        alone = 'ip link set lo up && test "$(ip -o link show up | grep -cv LOOPBACK)" = 0 && exec "$@"'
        command = ["unshare", "--net", "sh", "-c", alone, "sh", *command]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout[-5000:] + done.stderr[-10000:]
    return done


def inside(environment, image, *command, cwd=None):
    return subprocess.run(["apptainer", "exec", image, *command], env=environment, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="session")
def config(base, workspace):
    def write(name: str) -> Path:
        file = workspace / f"{name}.yaml"
        file.write_text(yaml.safe_dump({"study": name, **STUDY, "images": {"kind": "cpu", "base": str(base)}}))
        return file

    return write


@pytest.fixture(scope="session")
def built(environment, config, workspace, base) -> dict[str, Path]:
    """The study's images by name, built by the workflow where an earlier test run has not left them."""
    wanted = {name: images.built(name, "cpu", str(base)) for name in [*CASES.values(), "analysis"]}
    for old in (workspace / images.FOLDER).glob("*"):
        if old.stem not in {image.stem for image in wanted.values()}:
            old.unlink()
    snakemake(environment, workspace, "images", "--configfile", config("contained"))
    return {name: workspace / image.file for name, image in wanted.items()}


@pytest.fixture(scope="session")
def contained(environment, config, workspace, built) -> Path:
    """The study, prepared with the network and run without it, each rule in its container."""
    options = ["--configfile", config("contained"), "--sdm", "apptainer"]
    snakemake(environment, workspace, "prepare", *options)
    snakemake(environment, workspace, *options, network=False)
    return workspace / "results/contained"


@pytest.fixture(scope="session")
def plain(environment, config, workspace) -> Path:
    """The same study on the host."""
    snakemake(environment, workspace, "--configfile", config("plain"))
    return workspace / "results/plain"


def run_of(study: Path, case: str) -> dict:
    return json.loads((study / f"runs/{case}/seed-0/run.json").read_text())


def record_of(image: Path) -> dict:
    return json.loads(image.with_suffix(".json").read_text())


def test_an_image_holds_the_packages_of_its_lock_and_is_recorded(built):
    for name, image in built.items():
        record = record_of(image)
        with image.open("rb") as file:
            assert record["digest"] == f"sha256:{file_digest(file, 'sha256').hexdigest()}"
        assert lockfiles.pins(images.lock_file(name, "cpu").read_text()).items() <= record["packages"].items()


def test_images_are_not_built_twice(environment, config, workspace, built):
    before = {image: image.stat().st_mtime_ns for image in built.values()}
    again = snakemake(environment, workspace, "images", "--configfile", config("contained"))
    assert "Nothing to be done" in again.stderr
    assert before == {image: image.stat().st_mtime_ns for image in built.values()}


@pytest.mark.parametrize("case", CASES)
def test_a_run_names_its_image_and_the_versions_found_inside(contained, built, case):
    run, record = run_of(contained, case), record_of(built[CASES[case]])
    assert run["image"] == record["digest"]
    assert run["machine"]["python"] == record["python"]
    for package, version in run["machine"]["versions"].items():
        assert record["packages"].get(package, version) == version


@pytest.mark.parametrize("case", CASES)
def test_parity_is_proven_inside(contained, case):
    parity = json.loads((contained / f"parity/{case}.json").read_text())
    assert parity["passed"] is True, parity["missed"]


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_the_host(contained, plain, case):
    ours, theirs = run_of(contained, case), run_of(plain, case)
    assert theirs["image"] is None
    for what in ("protocol_sha256", "data_sha256", "start_sha256", "parameters"):
        assert ours[what] == theirs[what], what
    losses = [np.load(study / f"runs/{case}/seed-0/steps.npz")["loss"] for study in (contained, plain)]
    assert len(losses[0]) == 10
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-6)


def test_the_tables_name_the_images(contained, built):
    told = "".join(file.read_text() for file in contained.glob("tables/*.csv"))
    for case, image in CASES.items():
        assert record_of(built[image])["digest"].removeprefix("sha256:")[:12] in told, case


def test_what_only_the_host_has_cannot_be_imported(environment, built, tmp_path):
    user_site = tmp_path / ".local/lib/python3.11/site-packages"
    user_site.mkdir(parents=True)
    for folder in (tmp_path, user_site):
        (folder / "only_here.py").write_text("")
    hosts = environment | {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", "import only_here, pandas, snakemake"], env=hosts).returncode == 0
    for module in ("only_here", "pandas", "snakemake", "tensorflow", "jax"):
        done = inside(hosts, built["torch"], "python", "-c", f"import {module}", cwd=ROOT / "tests")
        assert f"No module named '{module}'" in done.stderr, module


def test_caches_go_to_the_temporary_folder_not_to_the_home(environment, built, tmp_path):
    code = "import keras, os; print(os.path.expanduser('~'))"
    done = inside(
        environment | {"HOME": str(ROOT), "TMPDIR": "/tmp", "KERAS_BACKEND": "torch"}, built["torch"], "python", "-c", code
    )
    assert done.stdout.strip() == "/tmp", done.stderr


def test_torch_compile_finds_its_compiler(environment, built):
    code = "import torch; print(float(torch.compile(lambda x: x.sin() * 2)(torch.zeros(3)).sum()))"
    done = inside(environment, built["torch"], "python", "-c", code)
    assert done.stdout.strip() == "0.0", done.stderr


def train(image: Path, planned: Path) -> list[str]:
    code = f"from pathlib import Path; from levelfield.images.images import digest_in_use; print(digest_in_use(Path({str(planned)!r})))"
    return ["env", f"PYTHONPATH={ROOT / 'workflow'}", "python", "-c", code]


def test_a_run_in_another_image_than_the_planned_is_refused(environment, built):
    own, other = built["torch"], built["jax"]
    bound = environment | {"APPTAINER_BIND": f"{ROOT},{own.parent}"}
    assert record_of(own)["digest"] in inside(bound, own, *train(own, own)).stdout
    refused = inside(bound, other, *train(other, own))
    assert f"plan's image is {own}, but this process runs in {other}" in refused.stderr
    outside = subprocess.run(train(own, own), env=environment, capture_output=True, text=True)
    assert "outside any: add `--sdm apptainer`" in outside.stderr


def test_an_image_that_was_replaced_is_refused(environment, built, tmp_path):
    copy = tmp_path / built["jax"].name
    copy.symlink_to(built["jax"])
    stale = record_of(built["jax"]) | {name: record_of(built["torch"])[name] for name in ("stamp", "digest")}
    built_record = built["jax"].with_suffix(".json")
    saved = built_record.read_text()
    try:
        built_record.write_text(json.dumps(stale))
        bound = environment | {"APPTAINER_BIND": f"{ROOT},{built['jax'].parent}"}
        assert "is not the file of its record" in inside(bound, built["jax"], *train(built["jax"], built["jax"])).stderr
    finally:
        built_record.write_text(saved)


def test_a_wrong_hash_in_a_lock_stops_the_build(environment, base, tmp_path):
    for folder in ("workflow", "containers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    lock = tmp_path / "containers/jax.cpu.lock"
    text = lock.read_text()
    right = text.partition("absl-py==")[2].partition("sha256:")[2][:64]
    lock.write_text(text.replace(right, "0" * 64))
    code = [sys.executable, "-m", "levelfield", "images", "build", "jax", "--kind", "cpu", "--base", base]
    done = subprocess.run(
        code, env=environment | {"PYTHONPATH": str(tmp_path / "workflow")}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout + done.stderr
    assert "could not be had as they are pinned" in done.stderr
    assert list((tmp_path / images.FOLDER).iterdir()) == []


def test_a_changed_lock_means_a_new_image_and_new_runs(environment, config, contained, workspace, tmp_path):
    for folder in ("workflow", "containers", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    with (tmp_path / "containers/jax.cpu.lock").open("a") as lock:
        lock.write("# another\n")
    options = ["--configfile", config("contained"), "--sdm", "apptainer", "--dry-run", "--quiet", "rules"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", tmp_path / "Snakefile", "--cores", "2", *options]
    plan = subprocess.run(command, env=environment, cwd=workspace, capture_output=True, text=True, check=True)
    jobs = dict(line.split() for line in plan.stdout.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert (jobs.get("image"), jobs.get("train"), jobs.get("parity")) == ("1", "1", "1"), plan.stdout + plan.stderr


def test_without_a_runtime_snakemake_says_what_to_install(environment, config, workspace, tmp_path):
    hidden = tmp_path / "bin"
    hidden.mkdir()
    for folder in environment["PATH"].split(":"):
        for program in Path(folder).glob("*"):
            if program.name not in ("apptainer", "singularity") and not (hidden / program.name).exists():
                (hidden / program.name).symlink_to(program)
    bare = environment | {"PATH": str(hidden)}
    options = ["--configfile", config("contained"), "--sdm", "apptainer", "--dry-run"]
    done = snakemake(bare, workspace, *options, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "install the package `apptainer`" in said
    assert "Traceback" not in said


def test_a_ready_image_is_taken_as_it_is(environment, built, tmp_path):
    code = [sys.executable, "-m", "levelfield", "images", "build", "jax", "--ready", built["jax"]]
    subprocess.run(code, env=environment, cwd=tmp_path, capture_output=True, check=True)
    image = tmp_path / images.ready("jax", str(built["jax"])).file
    assert record_of(image)["digest"] == record_of(built["jax"])["digest"]
    assert image.read_bytes()[:4096] == built["jax"].read_bytes()[:4096]
