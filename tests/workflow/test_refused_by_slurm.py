"""What the Snakefile refuses before it submits anything, however the resources were taken away. Slurm is pretended, and never asked."""

import pytest
import yaml
from checkout import ROOT, Checkout

pytestmark = pytest.mark.long
PREFIX = "--slurm-jobname-prefix=levelfield"


@pytest.fixture
def login_node(tmp_path, monkeypatch):
    """A checkout whose study says `device: auto`, where every program of Slurm says that it was called; starts Snakemake there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "squeue", "sacct", "sinfo", "sacctmgr", "scontrol"):
        (programs / name).write_text(f"#!/bin/sh\ntest {name} != sbatch || touch {tmp_path}/submitted\n")
        (programs / name).chmod(0o755)
    (tmp_path / "checkout").mkdir()
    checkout = Checkout.made(tmp_path / "checkout")
    checkout.study(device="auto")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    for name in ("software-deployment-method", "apptainer-args"):
        del profile[name]
    (checkout.folder / "workflow/profiles/slurm/config.yaml").write_text(yaml.safe_dump(profile))

    def started(*arguments: str) -> str:
        done = checkout.snakemake("--jobs", "1", *arguments)
        assert done.returncode != 0 and not (tmp_path / "submitted").exists(), done.stdout[-3000:]
        return done.stdout

    return started


@pytest.mark.parametrize("named", ["--profile", "--workflow-profile"])
def test_a_command_line_that_takes_the_gpus_of_all_rules_away(login_node, named):
    said = login_node(named, "workflow/profiles/slurm", "--set-resources", "train:gpu=1")
    assert "of `parity` hold none" in said and "for each of `train`, `parity`, `evaluate_others` (gpu: 1)" in said, said[-3000:]


def test_no_profile_at_all(login_node):
    said = login_node("--executor", "slurm", PREFIX)
    assert "the study says `device: auto`, but the resources of `train`, `parity` hold none" in said, said[-3000:]


def test_names_that_the_next_start_would_not_find(login_node):
    said = login_node("--executor", "slurm", "--set-resources", "train:gpu=1", "parity:gpu=1")
    assert "Add `--slurm-jobname-prefix levelfield`" in said, said[-3000:]


def test_blocks_that_lost_theirs(login_node):
    said = login_node("--executor", "slurm", PREFIX, "--set-resources", "parity:gpu=1", "--config", "runs=blocks")
    assert "of `block` hold none" in said, said[-3000:]
