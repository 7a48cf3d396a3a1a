"""Which failed jobs are tried again: a real Snakemake with `--retries`, whose jobs fail in one way or another."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from levelfield.backends.base import DeviceError
from levelfield.commands.cli import main
from levelfield.commands.rules import train
from levelfield.errors import NodeError, UserError
from levelfield.plan import retries as plan_retries
from levelfield.plan.outcome import failed_for_good_by
from levelfield.plan.retries import Retries

PACKAGE = Path(plan_retries.__file__).parents[2]
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(PACKAGE)!r})
from levelfield.plan.retries import Retries

onstart:
    Retries("results/small").attach(workflow.scheduler)

rule all:
    input: expand("results/small/runs/{{case}}/seed-0/run.json", case=["refused", "killed", "mended", "unbegun"]), "results/small/parity/a.json"

rule parity:
    output: "results/small/parity/a.json"
    log: "results/small/logs/parity/a.log"
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "echo x >> parity.tries; echo 'levelfield parity: no such package' > {{log}}; exit 2"

rule train:
    output: "results/small/runs/{{case}}/seed-0/run.json"
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "echo x >> {{wildcards.case}}.tries; sh {{wildcards.case}}.sh $(dirname {{output}}) {{resources.mem_mb}}"
"""


def told(**fields) -> str:
    return json.dumps({"error": "a reason"} | fields)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study whose cases fail as they are called; `unbegun` left its reason at an earlier start, and dies before it leaves another."""
    folder = tmp_path_factory.mktemp("retries")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "refused.sh").write_text(f"echo '{told(for_good=True)}' > $1/failure.json; exit 2\n")
    (folder / "killed.sh").write_text(f"echo '{told()}' > $1/failure.json; exit 137\n")
    (folder / "mended.sh").write_text(f"echo '{told()}' > $1/failure.json; test $2 -ge 200 && touch $1/run.json\n")
    (folder / "unbegun.sh").write_text("exit 1\n")
    earlier = folder / "results/small/runs/unbegun/seed-0/failure.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text(told(for_good=True))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--retries", "2", "--keep-going", "--scheduler", "greedy"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    )
    assert done.returncode == 1, done.stderr[-3000:]
    return folder, done.stderr


@pytest.mark.parametrize(("case", "tries"), [("refused", 1), ("parity", 1), ("killed", 3), ("mended", 2), ("unbegun", 3)])
def test_only_what_another_attempt_may_mend_is_tried_again(ran, case, tries):
    folder, _ = ran
    assert (folder / f"{case}.tries").read_text().count("x") == tries


def test_it_is_said_why_a_job_is_not_tried_again(ran):
    _, said = ran
    assert "(train) would fail again, and is not tried again: a reason" in said
    assert "(parity) would fail again, and is not tried again: levelfield parity: no such package" in said


@pytest.fixture
def study(tmp_path):
    """Writes what jobs left; tells of a block of two runs whether it would fail again."""

    class Left:
        runs = tuple(tmp_path / f"runs/{case}/seed-0/run.json" for case in ("a", "b"))

        def failed(self, case: str, **fields) -> None:
            file = tmp_path / f"runs/{case}/seed-0/failure.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(told(**fields))

        def finished(self, case: str) -> None:
            folder = tmp_path / f"runs/{case}/seed-0"
            folder.mkdir(parents=True)
            for name in ("run.json", "epochs.csv", "steps.npz", "weights.npz"):
                (folder / name).touch()

        def unproven(self, case: str, log: str) -> None:
            file = tmp_path / f"logs/parity/{case}.log"
            file.parent.mkdir(parents=True)
            file.write_text(log)

        def of_block(self) -> str | None:
            return retries.reason(SimpleNamespace(rule=SimpleNamespace(name="block"), params=SimpleNamespace(runs=self.runs)))

    retries = Retries(str(tmp_path))
    return Left()


def test_a_block_all_of_whose_missing_runs_failed_for_good_is_not_tried_again(study):
    study.finished("a")
    study.failed("b", for_good=True)
    assert study.of_block() == "b: a reason"


def test_a_block_is_tried_again_for_one_run_that_may_be_mended(study):
    study.failed("a", for_good=True)
    assert study.of_block() is None, "the other has not begun"
    study.failed("b")
    assert study.of_block() is None, "the other was killed"


def test_a_block_that_waits_for_a_proof_that_cannot_be_made_is_not_tried_again(study):
    study.failed("a", for_good=True)
    study.unproven("b", "some warning\nlevelfield parity: no such package\n")
    assert study.of_block() == "a: a reason; b: levelfield parity: no such package"


def test_a_block_whose_runs_are_all_there_was_ended_from_outside(study):
    study.finished("a")
    study.finished("b")
    assert study.of_block() is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"for_good": true}'])
def test_a_failure_that_cannot_be_read_is_no_reason(study, content):
    study.finished("a")
    study.failed("b")
    study.runs[1].with_name("failure.json").write_text(content)
    assert study.of_block() is None


@pytest.mark.parametrize(
    ("log", "for_good"),
    [
        ("levelfield parity: backend 'x' needs the package 'x'\n", True),
        ("Traceback …\nlevelfield.backends.base.DeviceError: this GPU's compute capability is 3.5\nlate words\n", False),
        (f"levelfield parity: {NodeError('no GPU can be held: NVML is silent')}\n", False),
        ("Traceback …\ntorch.OutOfMemoryError: CUDA out of memory\n", False),
        ("slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n", False),
        ("epoch 1\n", False),
    ],
)
def test_a_log_tells_a_reason_of_the_programs_own_from_an_end_from_outside(tmp_path, log, for_good):
    (tmp_path / "x.log").write_text(log)
    assert (failed_for_good_by(tmp_path / "x.log") is not None) == for_good
    assert failed_for_good_by(tmp_path / "none.log") is None


def test_a_full_disk_may_be_mended(tmp_path, capsys, monkeypatch):
    """By the words that the command says itself."""

    def fails(error):
        def run(args):
            raise error

        monkeypatch.setattr("levelfield.commands.doctor.run", run)
        assert main(["doctor"]) == 2
        (tmp_path / "x.log").write_text(capsys.readouterr().err)
        return failed_for_good_by(tmp_path / "x.log")

    assert fails(OSError(28, "No space left on device", "x")) is None
    assert fails(UserError("no such package")) == "levelfield doctor: no such package"


def test_a_run_marks_what_it_said_itself_and_not_what_ended_it():
    assert train.for_good(UserError("failed parity"))
    ended = [train.TakeError("SIGKILL", ""), train.EndedFromOutside("SIGTERM"), RuntimeError("CUDA error"), MemoryError()]
    ended += [DeviceError("PyTorch finds no GPU"), NodeError("waited 24 hours")]  # another node may do
    assert not any(map(train.for_good, ended))
