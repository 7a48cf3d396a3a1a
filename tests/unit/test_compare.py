"""Two studies are compared case by case; a slower or lost case is exit code 1, too few runs 3, and unequal conditions are refused."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from made_study import make_study

from levelfield.commands.cli import main
from levelfield.tell.changes import SESSION_SPREAD, compare
from levelfield.tell.collect import collect


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    made = {
        "before": {},
        "slower": {"speed": 1.3},
        "faster": {"speed": 0.8},
        "snippets": {"corpus": "VADER movie-review snippets"},
        "longer": {"epochs": 3},
        "single": {"seeds": [0], "speed": 3},
        "few": {"seeds": [0, 1], "speed": 3},
        "broken": {"speed": 1.3, "failures": {("torch", seed): "failed" for seed in range(4)}},
        "barred": {"failures": {"torch": "failed-parity"}},
        "interrupted": {"failures": {("torch", 3): "missing"}},
        "nothing": {"failures": {"torch": "failed-parity", "keras-tensorflow": "failed-parity"}},
        "without": {"cases": ["keras-tensorflow"]},
        "other-seeds": {"seeds": range(10, 14), "failures": {("torch", seed): "failed" for seed in range(10, 14)}},
    }
    for name, settings in made.items():
        collect(make_study(root / name, **{"seeds": range(4), "steps": 5} | settings))
    return root


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def compared(capsys, studies, *arguments) -> tuple[int, str]:
    """As on a machine whose sessions do not differ, where nothing else is asked for."""
    before, after, *options = arguments
    options = options if "--session-spread" in options else [*options, "--session-spread", "0"]
    code = main(["compare", str(studies / before), str(studies / after), *options])
    told = capsys.readouterr()
    return code, " ".join((told.out + told.err).split())


def test_a_slower_case_is_exit_code_1(capsys, studies):
    code, told = compared(capsys, studies, "before", "slower")
    assert code == 1 and "1.30 [1.2" in told and "slower by more than 5 %" in told


def test_with_one_session_a_side_what_sessions_differ_by_is_in_the_interval(capsys, studies):
    for after, code_then in (("slower", 3), ("few", 1)):  # 1.3 times the time may be the hour's, three times are not
        code, told = compared(capsys, studies, "before", after, "--session-spread", "0.1")
        assert code == code_then and "if times vary by 10 % (standard deviation) from one session" in told, after
        if code == 3:
            assert re.search(r"Not enough to say of .*: at this spread \d+ sessions .* in each study would show", told)
    assert compared(capsys, studies, "before", "slower", "--session-spread", "0.02")[0] == 1
    assert compared(capsys, studies, "before", "slower", "--session-spread", "1.5")[0] == 2


def in_sessions(folder: Path, sessions: int, **settings) -> Path:
    """A study of so many sessions of two seeds, each of which the machine is faster or slower in."""
    make_study(folder, seeds=range(2 * sessions), steps=5, **settings)
    for file in folder.glob("runs/*/*/run.json"):
        session = int(file.parent.name.removeprefix("seed-")) // 2
        run = json.loads(file.read_text())
        run["machine"]["boot"] = f"boot {session}"
        file.write_text(json.dumps(run))
        epochs = pd.read_csv(file.parent / "epochs.csv")
        epochs["train_seconds"] *= 1.1 if session % 2 else 0.9
        epochs.to_csv(file.parent / "epochs.csv", index=False)
    collect(folder)
    return folder


def test_of_several_sessions_on_both_sides_these_are_compared(capsys, studies, tmp_path):
    before, same = in_sessions(tmp_path / "before", 4), in_sessions(tmp_path / "same", 4)
    slower, one = in_sessions(tmp_path / "slower", 4, speed=2), studies / "before"
    change = compare(before, same).changes[0]
    assert change.sessions == (4, 4) and change.session_spread == 0 and change.time.pairs == 4
    assert change.time.low < 0.9 and change.time.high > 1.1, "runs of one session are not independent"
    code, told = compared(capsys, studies, before, same)
    assert code == 3 and "over the sessions of each" in told and "sessions (`sessions:` in the config asks for them)" in told
    assert compared(capsys, studies, before, slower)[0] == 1
    assert compare(one, same).changes[0].session_spread == SESSION_SPREAD


def test_another_kind_of_machine_is_refused_with_its_name(capsys, studies, tmp_path):
    folder = make_study(tmp_path / "elsewhere", seeds=range(4), steps=5, speed=0.7)
    for file in folder.glob("runs/*/*/run.json"):
        file.write_text(file.read_text().replace("Made Processor 9000", "Made Processor 9001"))
    collect(folder)
    code, told = compared(capsys, studies, "before", folder)
    assert (
        code == 2
        and "machine: Made Processor 9000, 2 threads, and Made Processor 9001, 2 threads (keras-tensorflow, torch)" in told
    )
    code, told = compared(capsys, studies, "before", folder, "--anyway")
    assert code == 0 and "another machine, not the program alone" in told


def test_a_threshold_above_the_change_lets_it_pass(capsys, studies):
    code, told = compared(capsys, studies, "before", "slower", "--threshold", "0.6")
    assert code == 0 and "not slower by 60 %" in told


def test_what_lies_on_both_sides_of_the_threshold_cannot_be_told(capsys, studies):
    code, told = compared(capsys, studies, "before", "slower", "--threshold", "0.3")
    assert code == 3 and "cannot tell" in told and "Not enough to say of keras-tensorflow, torch: at this spread " in told


def test_a_faster_case_is_fine(capsys, studies):
    code, told = compared(capsys, studies, "before", "faster")
    assert code == 0 and "faster" in told


def test_the_same_again_is_fine(capsys, studies):
    assert compared(capsys, studies, "before", "before", "--threshold", "0.1")[0] == 0


def test_other_data_is_refused_with_its_name(capsys, studies):
    code, told = compared(capsys, studies, "before", "snippets")
    assert (
        code == 2 and "data: IMDB, 136 + 25,000 sequences" in told and "VADER snippets, not IMDB" in told and "--anyway" in told
    )
    assert compared(capsys, studies, "before", "snippets", "--anyway", "--threshold", "0.1")[0] == 0


def test_another_protocol_is_refused_with_its_name(capsys, studies):
    code, told = compared(capsys, studies, "before", "longer")
    assert code == 2 and "protocol.epochs: 2 and 3 (keras-tensorflow, torch)" in told


def test_one_seed_is_too_few_to_tell_and_two_tell_of_three_times_the_time(capsys, studies):
    code, told = compared(capsys, studies, "before", "single")
    assert code == 3 and "cannot tell: too few clean runs" in told
    assert compared(capsys, studies, "before", "few")[0] == 1


def test_runs_that_are_not_clean_tell_nothing(capsys, studies, tmp_path):
    folder = make_study(tmp_path / "noisy", seeds=range(4), steps=5, speed=3)
    for file in folder.glob("runs/*/*/run.json"):
        file.write_text(
            file.read_text().replace('"noise_warning": null', '"noise_warning": "the hypervisor took 9% of the CPUs"')
        )
    collect(folder)
    code, told = compared(capsys, studies, "before", folder)
    assert code == 3 and "4 of 4 and 0 of 4" in told


def test_a_case_that_fails_now_is_the_first_of_the_regressions(capsys, studies):
    code, told = compared(capsys, studies, "before", "broken")
    assert code == 1
    lost = (
        "torch no longer finishes: of 4 runs that finished before, now 4 failed (MemoryError: 12.0 GB asked for, 8.0 GB there)"
    )
    assert 0 < told.index(lost) < told.index("keras-tensorflow")
    assert "slower" in told and "not compared" not in told


def test_a_case_that_is_barred_by_parity_now_is_lost(capsys, studies):
    code, told = compared(capsys, studies, "before", "barred")
    assert code == 1 and "now 4 barred by parity (parity missed: probabilities" in told


def test_one_run_that_is_missing_now_is_enough(capsys, studies):
    code, told = compared(capsys, studies, "before", "interrupted")
    assert code == 1 and "torch no longer finishes: of 4 runs that finished before, now 1 missing" in told


def test_with_every_case_lost_it_is_told_all_the_same(capsys, studies):
    code, told = compared(capsys, studies, "before", "nothing")
    assert code == 1 and told.count("no longer finishes") == 2 and "verdict" not in told


def test_a_case_that_finishes_only_now_is_no_regression(capsys, studies):
    code, told = compared(capsys, studies, "broken", "faster")
    assert code == 0 and "torch: finished runs in" in told and "alone, not compared" in told


def test_a_case_that_is_no_longer_planned_is_no_regression(capsys, studies):
    code, told = compared(capsys, studies, "before", "without", "--threshold", "0.2")
    assert code == 0 and "torch: finished runs in" in told


def test_a_case_of_which_no_run_finishes_is_lost_whatever_its_seeds(capsys, studies):
    code, told = compared(capsys, studies, "before", "other-seeds")
    assert code == 1 and "torch no longer finishes: 4 runs finished before, now 4 failed (MemoryError" in told


def test_another_host_of_the_same_model_is_another_machine(capsys, studies, tmp_path):
    for name, host in (("one", "0123456789ab"), ("other", "fedcba987654")):
        folder = make_study(tmp_path / name, seeds=range(4), steps=5)
        for file in folder.glob("runs/*/*/run.json"):
            file.write_text(file.read_text().replace('"host_id": null', f'"host_id": "{host}"'))
        collect(folder)
    told = compared(capsys, studies, tmp_path / "one", tmp_path / "other")[1]
    assert "(host 0123456789ab) → Made Processor 9000, 2 threads (host fedcba987654): another machine" in told
    assert "another machine" not in compared(capsys, studies, tmp_path / "one", tmp_path / "one")[1]


def test_of_several_hosts_the_time_is_of_one_that_both_sides_have(capsys, studies, tmp_path):
    """Else the mixture alone would move it: three of four runs on a slow host before, one of four after."""
    for name, slow in (("one", (0, 1, 2)), ("other", (3,))):
        folder = make_study(tmp_path / name, seeds=range(4), steps=5)
        for file in folder.glob("runs/*/*/run.json"):
            host = "fedcba987654" if int(file.parent.name.removeprefix("seed-")) in slow else "0123456789ab"
            file.write_text(file.read_text().replace('"host_id": null', f'"host_id": "{host}"'))
            if host == "fedcba987654":
                epochs = pd.read_csv(file.parent / "epochs.csv")
                epochs["train_seconds"] *= 3
                epochs.to_csv(file.parent / "epochs.csv", index=False)
        collect(folder)
    _, told = compared(capsys, studies, tmp_path / "one", tmp_path / "other")
    assert "(host 0123456789ab, fedcba987654): the time is of host 0123456789ab alone" in " ".join(told.split())
    change = compare(tmp_path / "one", tmp_path / "other").changes[0]
    assert change.clean == (1, 3) and 0.8 < change.time.value < 1.25
