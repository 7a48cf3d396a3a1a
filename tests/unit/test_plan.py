"""What a study would ask of a cluster, told without one."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from checkout import ROOT
from made_study import make_study
from snakemake.exceptions import WorkflowError
from snakemake.utils import format

from levelfield.commands.cli import main
from levelfield.plan import plan as planning
from levelfield.plan.budget import minutes
from levelfield.plan.plan import Plan, refuse_torn_paths, refuse_unnamed
from levelfield.study.config import read_study
from levelfield.study.protocol import Protocol
from levelfield.tell.collect import collect

CONFIG = """
study: small
data: {synthetic: true, train: 1000, validation: 1000}
cases: [torch, jax]
seeds: [0, 1]
"""
PROFILE = """
default-resources: {slurm_partition: fast}
set-resources: {train: {gpu: 1, gpu_model: a100, mem_mb: 8000 * attempt}}
set-threads: {train: 8}
jobs: 50
"""


def test_the_time_granted_grows_with_the_work():
    article = minutes(Protocol(), 25_000, 25_000)
    assert 20 < article < 60
    assert minutes(Protocol(epochs=4), 25_000, 25_000) == pytest.approx(2 * article - 10, abs=1)
    assert minutes(Protocol(), 100, 100) == 11


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder with a study, a profile, and no Slurm."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    (tmp_path / "config.yaml").write_text(PROFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("levelfield.commands.plan.shutil.which", lambda program: None)
    return tmp_path


def test_plan_tells_jobs_and_hours_before_anything_runs(checkout, capsys):
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    told = capsys.readouterr().out
    assert "6 jobs, each with 1 a100, 8 threads, 8000 * attempt MB; at most 50" in told
    assert "at most 1.2 hours of a GPU" in told and "queue: fast" in told


def test_finished_runs_are_not_planned_again_and_tell_how_long_the_others_take(checkout, capsys):
    run = checkout / "results/small/runs/torch/seed-0/run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps({"times": {"process_seconds": 1800.0}}))
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    told = capsys.readouterr().out
    assert "5 jobs" in told and "0.5 hours by the finished runs of the same cases, 2 runs unknown" in told


def test_cases_that_differ_in_a_size_can_be_told_apart(checkout, capsys):
    study = yaml.safe_load(CONFIG) | {"vary": {"batch_size": [32, 1000]}, "cases": ["keras-tensorflow"]}
    (checkout / "small.yaml").write_text(yaml.safe_dump(study))
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    told = capsys.readouterr().out
    assert "finished" in told and "keras-tensorflow+batch_size=32 " in told and "keras-tensorflow+batch_size=1000 " in told


def test_what_a_study_could_show_is_told_beforehand_by_the_spread_of_earlier_results(checkout, capsys):
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    assert "what it could show: unknown before a first result" in capsys.readouterr().out
    collect(make_study(checkout / "earlier", cases=["torch", "jax"], seeds=range(5), steps=5))
    told = {}
    for seeds in ([0, 1], [0, 1, 2], list(range(12))):
        (checkout / "small.yaml").write_text(yaml.safe_dump(yaml.safe_load(CONFIG) | {"seeds": seeds}))
        assert main(["plan", "small.yaml", "--profile", ".", "--results", "earlier"]) == 0
        told[len(seeds)] = capsys.readouterr().out
    assert "no ratio of times from 2 clean pairs; 1.05 would take" in told[2]
    shown = {
        pairs: float(re.search(rf"a ratio of times of (\d\.\d\d) from {pairs} clean pairs", told[pairs])[1])
        for pairs in (3, 12)
    }
    assert 1 < shown[12] < shown[3] and "equivalence within 0.5 points takes" in told[12]


def test_a_case_accepted_as_failing_is_not_planned(checkout, capsys):
    (checkout / "small.yaml").write_text(CONFIG + "accepted: {jax: no kernel for this processor}\n")
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    told = capsys.readouterr().out
    assert "1 case, 2 runs, and 1 accepted as failing" in told and "3 jobs" in told


LISTED = """
default-resources: [slurm_partition=fast, mem_mb=100]
set-resources: ["train:gpu=1", "train:gpu_model=a100", "block:mem_mb=7"]
set-threads: [train=8]
config: runs=blocks
"""


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ("default-resources:\nset-resources:\nset-threads:\nconfig:\n", "6 jobs, each with GPU, 1 threads, default MB"),
        ("set-resources: {train: }\nset-threads: {train: }\n", "6 jobs, each with GPU, 1 threads, default MB"),
        (LISTED, "4 jobs, each with 1 a100, 8 threads, 100 MB"),
        ("default-resources: {slurm_partition: 7}\nconfig: {runs: blocks}\n", "4 jobs, each with GPU, 1 threads"),
    ],
    ids=["empty", "a rule without any", "as on the command line", "a number's name"],
)
def test_a_profile_may_have_its_keys_empty_or_as_on_the_command_line(checkout, capsys, profile, told):
    (checkout / "config.yaml").write_text(profile)
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    said = capsys.readouterr().out
    assert told in said
    partition = {"fast": "queue: fast;", ": 7": "queue: 7;"}
    assert next((line for name, line in partition.items() if name in profile), "queue: Slurm’s default partition;") in said


def test_what_is_not_there_is_named(checkout, capsys):
    assert main(["plan", "large.yaml"]) == 2
    assert "large.yaml is not there" in capsys.readouterr().err


def test_a_checkout_whose_path_a_list_of_folders_tears_apart_is_refused(tmp_path, monkeypatch):
    refuse_torn_paths(tmp_path / "a, é (b)/workflow")
    monkeypatch.setattr(planning, "PACKAGE", tmp_path / "run:2/workflow/levelfield")
    with pytest.raises(WorkflowError, match=r"run:2.*ends a folder in PATH and PYTHONPATH: rename or move the checkout"):
        Plan.read(yaml.safe_load(CONFIG), [])


def test_a_proof_that_was_tried_and_is_not_there_holds_up_no_block(checkout):
    """Of a case whose framework cannot be imported there is a log and no record; of one that was not tried, neither."""
    plan = Plan(read_study(yaml.safe_load(CONFIG), "small.yaml"), runs="blocks")
    block = SimpleNamespace(block="seed-0")
    both = {"results/small/parity/torch.json", "results/small/parity/jax.json"}
    assert set(plan.blocks.parity_files(block)) == both
    log = checkout / "results/small/logs/parity/jax.log"
    log.parent.mkdir(parents=True)
    log.write_text("ModuleNotFoundError")
    assert plan.blocks.parity_files(block) == ["results/small/parity/torch.json"]
    record = checkout / "results/small/parity/jax.json"
    record.parent.mkdir()
    record.write_text("{}")
    assert set(plan.blocks.parity_files(block)) == both


SEEDS = ["1e999", "NaN", "-1", "true", "1.5", '"7"', "null", "99999999999", "[" * 100_000]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed[:12])
def test_a_parity_that_tells_no_seed_leaves_it_to_the_next_one_or_the_study(checkout, seed):
    study, parity = read_study(yaml.safe_load(CONFIG), "small.yaml"), checkout / "results/small/parity"
    parity.mkdir(parents=True)
    (parity / "jax.json").write_text(f'{{"seed": {seed}}}')
    assert Plan(study).proof.seed == 0
    (parity / "torch.json").write_text('{"seed": 1}')
    assert Plan(study).proof.seed == 1


def test_a_block_is_granted_the_time_of_its_runs_and_its_share_of_the_cores(checkout, monkeypatch):
    plan = Plan(read_study(yaml.safe_load(CONFIG), "small.yaml"), runs="blocks")
    one = plan.minutes(SimpleNamespace(case="torch"), 1)
    assert plan.blocks.minutes(SimpleNamespace(block="seed-1"), 2) == 2 * 2 * one
    for cards, threads in ((0, 16), (1, 16), (2, 8), (3, 5), (32, 1)):
        monkeypatch.setattr("levelfield.plan.plan.visible", lambda cards=cards: [None] * cards)
        assert plan.threads(16) == threads and plan.threads(None) == 1


def test_a_profile_of_blocks_has_a_job_a_block_and_sessions_are_told(checkout, capsys):
    (checkout / "config.yaml").write_text(PROFILE + "config: [steps=here, runs=blocks]\n")
    (checkout / "small.yaml").write_text(CONFIG + "sessions: 2\n")
    assert main(["plan", "small.yaml", "--profile", "."]) == 0
    told = capsys.readouterr().out
    assert "4 jobs, each with 1 a100" in told, "two proofs, two blocks"
    assert "session 2 of 2 misses 1 blocks: seed 1" in told and "waits until 2 runs of seed 0 have ended" in told


@pytest.mark.parametrize("name", ["a{b}", "my {lab}'s", "{}", "a}b{"])
def test_braces_in_the_checkouts_path_reach_the_commands_as_they_are(tmp_path, monkeypatch, name):
    """Snakemake formats the prefix as it formats a command."""
    monkeypatch.setattr("levelfield.plan.plan.PACKAGE", tmp_path / name / "levelfield")
    plan = Plan(read_study(yaml.safe_load(CONFIG), "small.yaml"))
    prefix = format(plan.shell_prefix, stepout=2)
    done = subprocess.run(["bash", "-c", f'{prefix} echo "$PYTHONPATH"'], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / name}\n"


def test_a_workflow_that_is_read_from_afar_says_how_to_use_it(tmp_path):
    """A repository on this disk stands for one on a server: Snakemake knows both by an address."""
    for name in ("workflow/Snakefile", "config/config.yaml"):
        (tmp_path / "origin" / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / "origin" / name)
    git = [
        "git",
        "-C",
        str(tmp_path / "origin"),
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "--no-verify", "-m", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    here = tmp_path / "here"
    here.mkdir()
    (here / "Snakefile").write_text(
        f"""
module levelfield:
    snakefile: "git+file://{tmp_path}/origin/workflow/Snakefile@main"
    config: {{"study": "small", "cases": ["torch"]}}

use rule * from levelfield
"""
    )
    done = subprocess.run([sys.executable, "-m", "snakemake", "-n"], cwd=here, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "`git clone` the repository" in said and "ModuleNotFoundError" not in said, said[-2000:]


@pytest.mark.parametrize(
    ("files", "told"),
    [(["mine/config.yaml"], "mine/config.yaml"), (["config/config.yaml", "a.yaml"], "a.yaml"),
     (["config/config.yaml"], "config/config.yaml or --config"), ([], "config/config.yaml or --config")],
)  # fmt: skip
def test_an_error_names_the_persons_file_whatever_it_is_called(files, told):
    with pytest.raises(WorkflowError, match=f"^{re.escape(told)}: protocl: unknown key"):
        Plan.read({"study": "s", "cases": ["torch"], "protocl": {}}, files)


@pytest.mark.parametrize(
    ("given", "files", "told"),
    [({"cases": ["torch"]}, ["mine.yaml"], "mine.yaml"), ({"seeds": [0]}, [Path("a.yaml"), Path("b.yaml")], "a.yaml, b.yaml"),
     ({"cases": ["torch"]}, [], "--config")],
)  # fmt: skip
def test_a_config_without_a_name_is_not_taken_for_the_usual_study(given, files, told):
    """config/config.yaml, which names that one, comes in beneath it."""
    with pytest.raises(WorkflowError, match=f"^{re.escape(told)}: study: missing, .* write `study: <name>`"):
        refuse_unnamed(given, files)


@pytest.mark.parametrize(
    ("given", "files"),
    [({}, []), ({"images": {"kind": "cpu"}}, []), ({"study": "quick"}, []), ({"study": "s", "cases": ["jax"]}, ["s.yaml"])],
)
def test_the_usual_study_needs_no_name(given, files):
    refuse_unnamed(given, files)
