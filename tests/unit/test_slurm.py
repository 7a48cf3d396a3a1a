"""Slurm's answers, pretended: none, slow, odd; and a run that would be submitted without its GPU."""

import os
import sys
from types import SimpleNamespace

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from levelfield.commands.cli import main
from levelfield.plan import slurm


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes shell scripts that stand in for Slurm's programs; nothing else is in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def made(**scripts: str) -> None:
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (folder / name).chmod(0o755)

    return made


def test_without_squeue_it_says_so_at_once(programs):
    with pytest.raises(WorkflowError, match="this machine has no `squeue`"):
        slurm.jobs()


def test_a_busy_or_failing_controller_is_told(programs, monkeypatch):
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.3)
    programs(squeue="exec /bin/sleep 5")
    with pytest.raises(WorkflowError, match=r"no answer in 0.3 s; try again"):
        slurm.jobs()
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 30)
    programs(squeue="echo 'slurm_load_jobs error:\nUnable to contact' >&2; exit 1")
    with pytest.raises(WorkflowError, match=r"slurm_load_jobs error: Unable to contact$"):
        slurm.jobs()


def test_lines_of_other_shapes_and_encodings_are_no_jobs_of_ours(programs):
    programs(squeue=r"""printf 'other|1\nlevelfield_x|2|me|RUNNING|/here|caf\351 | bar\n\n'""")
    (job,) = slurm.jobs()
    assert (job.number, job.what) == ("2", "caf\N{REPLACEMENT CHARACTER} | bar")


@pytest.mark.parametrize("scontrol", ["exec /bin/sleep 5", "exit 1", None])
def test_a_comment_that_cannot_be_written_ends_no_job(programs, monkeypatch, scontrol):
    programs(scontrol=scontrol or "")
    if scontrol is None:
        monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
        os.unlink(f"{os.environ['PATH']}/scontrol")
    monkeypatch.setattr(slurm, "COMMENT_SECONDS", 0.3)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(sys, "argv", ["snakemake", "--target-jobs", "train:case=a,seed=0"])
    slurm.name_this_job()


@pytest.mark.parametrize(
    ("resources", "asks"),
    [
        ({"gpu": 1}, True),
        ({"gpu": "1 * attempt"}, True),
        ({"gres": "gpu:1"}, True),
        ({"gres": "'gpu:a100:1'"}, True),
        ({"slurm_extra": "--gpus=1"}, True),
        ({"gpu": 0, "gres": "gpu:1"}, True),
        ({"gpu_model": "a100"}, True),
        ({"tres_per_task": "gres/gpu:1"}, True),
        ({"slurm_extra": "'--reservation=week --gres=gpu:a100:1'"}, True),
        ({"slurm_extra": "--gpus-per-node a100:1"}, True),
        ({"slurm_extra": "-G 1"}, True),
        ({"slurm_extra": "-G1"}, True),
        ({"slurm_extra": "--reservation=gpu_week"}, False),
        ({"slurm_extra": "--partition=gpu --exclude=gpu-7"}, False),
        ({"slurm_extra": "--gres=lscratch:10"}, False),
        ({"gpu": 0, "gpu_model": "a100"}, False),
        ({"gpu": 0}, False),
        ({"mem_mb": 8000}, False),
        ({}, False),
    ],
)
def test_ways_to_ask_for_a_gpu(resources, asks):
    assert slurm.asks_for_gpu(resources) == asks


WITH_GPU = {"gpu": 1, "gpu_model": "a100", "mem_mb": 8000}
NEEDING = ("train", "parity", "evaluate_others")


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize("lacking", NEEDING)
def test_a_rule_that_lost_its_gpu_is_refused_whichever_it_is(device, lacking):
    """However that came: a `--set-resources train:…` of the command line leaves the other rules without theirs."""
    resources = dict.fromkeys(NEEDING, WITH_GPU) | {lacking: {"mem_mb": 16000}}
    with pytest.raises(WorkflowError, match=rf"without a GPU, and nothing was submitted.*of `{lacking}` hold none") as told:
        slurm.refuse_without_gpu(device, resources)
    assert "each of `train`, `parity`, `evaluate_others` (gpu: 1, gpu_model: a100)" in str(told.value)
    slurm.refuse_without_gpu("cpu", resources)
    slurm.refuse_without_gpu(device, resources | {lacking: {"gres": "gpu:1"}})


def test_a_cluster_without_gpus_is_used_where_the_study_says_so():
    """`device: auto` says nothing of it: a profile that was not read leaves as little."""
    resources = {rule: {"mem_mb": 8000} for rule in NEEDING}
    slurm.refuse_without_gpu("cpu", resources)
    with pytest.raises(WorkflowError, match=r"the study says `device: auto`.*`device: cpu` in the study runs without a GPU"):
        slurm.refuse_without_gpu("auto", resources)
    with pytest.raises(WorkflowError, match="add `--config gpu=unasked`"):
        slurm.refuse_without_gpu("cuda", {"train": {}})
    slurm.refuse_without_gpu("auto", {})


@pytest.mark.parametrize("prefix", [None, "", "mine", "levelfields"])
def test_jobs_that_the_next_start_would_not_find_are_refused(prefix):
    with pytest.raises(WorkflowError, match="--slurm-jobname-prefix levelfield"):
        slurm.refuse_another_prefix(prefix)


@pytest.mark.parametrize("prefix", ["levelfield", "levelfield_mine"])
def test_jobs_that_the_next_start_finds_are_not(prefix):
    slurm.refuse_another_prefix(prefix)


@pytest.mark.parametrize("python", ["/my lab/.venv/bin/python", "/lab(2)/bin/python", "/lab's/bin/python"])
def test_a_python_whose_path_a_jobs_command_does_not_hold_is_refused(python):
    with pytest.raises(WorkflowError, match=r"Nothing was submitted\. Way out: use an environment"):
        slurm.refuse_odd_paths(python, "/lab")


@pytest.mark.parametrize("folder", ["/a$b", "/a`b", '/a"b', "/a\\b"])
def test_a_checkout_whose_path_a_jobs_command_does_not_hold_is_refused(folder):
    with pytest.raises(WorkflowError, match="Way out: rename or move the checkout"):
        slurm.refuse_odd_paths("/lab/bin/python3.11", folder)
    slurm.refuse_odd_paths("/lab/bin/python3.11", "/my lab's")


def test_all_is_looked_at_before_anything_is_submitted(monkeypatch, programs):
    """What Snakemake has read is asked, from wherever it came, and the queue last."""
    made = {name: SimpleNamespace(raw=value) for name, value in WITH_GPU.items()}
    rules = [SimpleNamespace(name=name, resources=made) for name in NEEDING]
    settings = SimpleNamespace(array_jobs=None, jobname_prefix="levelfield")
    programs(squeue="exit 0")
    slurm.before_submitting("slurm", settings, "results/small", "auto", rules)
    with pytest.raises(WorkflowError, match="on 4 devices"):
        slurm.before_submitting("slurm", settings, "results/small", "auto", rules, 4)
    rules[1].resources = {}
    slurm.before_submitting("slurm", settings, "results/small", "auto", rules, 4, asks=False)
    with pytest.raises(WorkflowError, match="of `parity` hold none"):
        slurm.before_submitting("slurm", settings, "results/small", "auto", rules)
    settings.jobname_prefix = None
    with pytest.raises(WorkflowError, match="jobname-prefix"):
        slurm.before_submitting("slurm", settings, "results/small", "auto", rules)


NODES = "printf 'gpu*|2|idle|1:00:00|gpu:a100:4\\ngpu2|1|mixed|2:00:00|gpu:h100:8\\ncpu|9|idle|8:00:00|(null)\\n'"
CONFIG = "study: small\ndata: {synthetic: true, train: 1000, validation: 1000}\ncases: [torch]\nseeds: [0]\n"


def planned(tmp_path, partition: str | None) -> int:
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    default = {"slurm_partition": partition} if partition else {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"default-resources": default}), encoding="utf-8")
    return main(["plan", str(tmp_path / "small.yaml"), "--profile", str(tmp_path)])


def test_several_partitions_are_all_looked_at(programs, tmp_path, capsys):
    programs(sinfo=NODES, squeue="printf 'RUNNING\\nPENDING\\nPENDING\\n'")
    assert planned(tmp_path, "gpu,gpu2") == 0
    told = capsys.readouterr().out
    assert (
        "partition gpu, limit 1:00:00" in told
        and "partition gpu2, limit 2:00:00" in told
        and "cpu" not in told.split("queue:")[1]
    )
    assert "1 running, 2 waiting" in told
    assert planned(tmp_path, "gpu,gpu3") == 2
    assert "Slurm has no partition 'gpu3'" in capsys.readouterr().err
    assert planned(tmp_path, None) == 0 and "partition gpu, limit" in capsys.readouterr().out


def test_a_plan_of_a_busy_cluster_says_so(programs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("levelfield.commands.plan.ANSWER_SECONDS", 0.3)
    programs(sinfo="exec /bin/sleep 5")
    assert planned(tmp_path, "gpu") == 2
    assert "gave no answer in 0.3 s" in capsys.readouterr().err


def test_without_a_controller_the_plan_is_told_and_then_in_one_line_that_nobody_answered(programs, tmp_path, capsys):
    unknown = "error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host"
    programs(sinfo=f"echo 'sinfo: {unknown}' >&2; echo 'sinfo: fatal: Could not establish a configuration source' >&2; exit 1")
    assert planned(tmp_path, None) == 2
    told = capsys.readouterr()
    assert "2 jobs, each with" in told.out and told.out.splitlines()[-1].startswith("what exactly would run: ")
    assert told.err == f"levelfield plan: no Slurm answered `sinfo`: {unknown}\n"


@pytest.mark.parametrize(
    ("content", "finished"),
    [
        (b"{not json", 0),
        (b"{}", 0),
        (b'{"times": []}', 0),
        (b"\xff\xfe", 0),
        (b'{"times": {"process_seconds": "1800"}}', 0),
        (b'{"times": {"process_seconds": 1e999}}', 0),
        (b'{"times": {"process_seconds": 1%s}}' % (b"0" * 400), 0),
        (b"[" * 100_000, 0),
        (b'{"times": {"process_seconds": null}}', 1),
        (b'{"times": {"process_seconds": 1800}}', 1),
    ],
    ids=["half", "empty", "another shape", "no text", "words", "infinite", "huge", "nested", "no age told", "half an hour"],
)
def test_a_record_that_tells_no_time_stops_no_plan(programs, tmp_path, capsys, monkeypatch, content, finished):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "results/small/runs/torch/seed-0/run.json"
    run.parent.mkdir(parents=True)
    run.write_bytes(content)
    assert planned(tmp_path, None) == 0
    assert f"\n{2 - finished} jobs, each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a\n- b\n", "found list"),
        (b"", "found NoneType"),
        (b"a: [", "is no YAML"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"a: 1\n\x00", "is no YAML"),
    ],
)
def test_a_config_that_is_no_config_is_told_in_one_line(programs, tmp_path, capsys, content, told):
    (tmp_path / "small.yaml").write_bytes(content)
    assert main(["plan", str(tmp_path / "small.yaml"), "--profile", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error and "small.yaml" in error and error.count("\n") == 1


def test_a_foreign_executor_is_let_through_with_a_word(monkeypatch):
    said = []
    monkeypatch.setattr(slurm.logger, "warning", said.append)
    slurm.before_submitting("cluster-generic", None, "results/small", "auto", {})
    assert "'cluster-generic' is not asked for jobs of an earlier start" in said[0]
