"""`levelfield gpu` without a GPU: what it asks for, in which time, and what it keeps. The GPU, its tests and Snakemake are pretended."""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from made_study import make_study

from levelfield import registry
from levelfield.commands import gpu
from levelfield.commands.cli import main
from levelfield.measure import inventory
from levelfield.measure.gpu import Gpu
from levelfield.measure.inventory import Available

OUT = Path("results/reference/nvidia-h100-80gb-hbm3")


@pytest.fixture
def commands(tmp_path, monkeypatch) -> list[list[str]]:
    """The commands that were run, in order; Snakemake leaves a finished study behind."""
    run = []

    def within(until, began, command):
        run.append(command)
        if "snakemake" in command:
            config, override = map(Path, command[-2:])
            cases = json.loads(override.read_text())["cases"]
            make_study(Path("results") / config.stem, cases, seeds=[0], steps=20, gpus=dict.fromkeys(cases, "NVIDIA H100"))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "within", within)
    monkeypatch.setattr(gpu.gpu, "visible", lambda: [Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", 85 << 30, "570")])
    here = {
        "torch": Available("cuda"),
        "jax": Available("cuda"),
        "torch-huge-pages": Available("cpu"),
        "torch-kept-memory": Available("cpu"),
        "keras-tensorflow": Available(missing="gone"),
    }
    monkeypatch.setattr(gpu, "available_backends", lambda: here)
    return run


def test_the_gpus_tests_come_first_then_both_studies_with_the_backends_that_use_it(commands, capsys):
    assert main(["gpu"]) == 0
    tests, frameworks, scaling = commands
    assert "pytest" in tests and tests[-1].endswith("tests/gpu")
    assert [frameworks[-2], scaling[-2]] == ["config/frameworks.yaml", "config/scaling.yaml"]
    assert json.loads(Path(frameworks[-1]).read_text()) == {"cases": ["torch", "jax"], "device": "cuda"}
    for study in ("frameworks", "scaling"):
        assert (OUT / study / "report.html").exists() and not list((OUT / study).rglob("weights.npz"))
        runs = pd.read_parquet(OUT / study / "runs.parquet")
        assert list(zip(runs["case"], runs["status"], strict=True)) == [("torch", "finished"), ("jax", "finished")], (
            "told of what was kept"
        )
    assert "GPU tests passed" in capsys.readouterr().out


def test_what_was_kept_before_is_not_touched(commands, capsys):
    (OUT / "scaling").mkdir(parents=True)
    assert main(["gpu"]) == 2
    assert not commands and "there already; delete" in capsys.readouterr().err


def test_a_command_that_does_not_end_in_time_is_interrupted_as_by_ctrl_c_and_told_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "GRACE_SECONDS", 3)
    assert gpu.within(60, time.monotonic(), [sys.executable, "-c", "raise SystemExit(3)"]) == 3
    # a shell's background jobs, as these tests may be one, begin with Ctrl-C ignored
    goes = "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    goes += "try: time.sleep(60)\nexcept KeyboardInterrupt: open('gone', 'w').close()"
    stays = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"
    for command in (goes, stays):
        began = time.monotonic()
        assert gpu.within(3, began, [sys.executable, "-c", command]) == gpu.TIME_IS_UP
        assert time.monotonic() - began < 20
    assert capsys.readouterr().out.count("time is up after 3 s") == 2
    assert (tmp_path / "gone").exists(), "the first one was told, not killed"


@pytest.mark.long
def test_gpu_tests_that_ran_out_of_time_are_not_told_as_failed(commands, monkeypatch, capsys):
    makes_a_study = gpu.within
    monkeypatch.setattr(gpu, "within", lambda *given: gpu.TIME_IS_UP if "pytest" in given[2] else makes_a_study(*given))
    assert main(["gpu"]) == gpu.TIME_IS_UP
    assert "GPU tests were NOT FINISHED in time" in capsys.readouterr().out


def test_a_study_that_left_nothing_to_keep_is_no_success(commands, monkeypatch, capfd):
    monkeypatch.setattr(gpu, "within", lambda *_: 0)
    assert main(["gpu"]) == 2
    assert "holds no records of a study" in capfd.readouterr().err


def test_a_framework_may_print_what_it_likes_while_it_is_imported(monkeypatch):
    """A dictionary, say, and a line without an end."""
    noise = "print({'threads': 2}); print('[1]'); print('{\"none\": 3}'); print('loading', end=' ')\n"
    monkeypatch.setattr(inventory, "PROBE", noise + inventory.PROBE)
    assert inventory._probe(["none"])["none"].missing.startswith("unknown backend 'none'")


def test_a_framework_that_hangs_while_it_is_imported_is_told_and_not_waited_for(monkeypatch):
    monkeypatch.setattr(inventory, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(inventory, "PROBE", "import time; time.sleep(30)")
    began = time.monotonic()
    found = inventory.available_backends()
    assert time.monotonic() - began < 20 and found.keys() == registry.backends().keys()
    assert {one.missing for one in found.values()} == {"no answer in 0.5 s: its import or the driver hangs"}
