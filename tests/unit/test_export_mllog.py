"""A run's `:::MLLOG` lines: MLCommons' own parser reads them, and its rules miss nothing but a benchmark of MLPerf's."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from made_study import EVERY_KIND, make_study
from mlperf_logging.compliance_checker import mlp_compliance
from mlperf_logging.compliance_checker.mlp_parser import parse_file

from levelfield.commands.cli import main
from levelfield.tell.kept import Records
from levelfield.tell.outcomes import load_study, read_record

RULES = "6.0.0"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("mllog") / "s", EVERY_KIND, seeds=[0, 7], steps=20)
    assert main(["export", "--mllog", str(folder)]) == 0
    return folder


def lines(study, case, seed=0) -> list:
    found, errors = parse_file(str(study / f"runs/{case}/seed-{seed}/mllog.txt"), ruleset=RULES)
    assert errors == []
    return found


def values(study, case, key, seed=0) -> list:
    return [line.value["value"] for line in lines(study, case, seed) if line.key == key]


@pytest.mark.parametrize("case", ["torch", "keras-article", "torch+naive-init"])
def test_the_rules_only_miss_the_name_of_a_benchmark_of_mlperf(study, case):
    checker = mlp_compliance.make_checker("training", RULES, quiet=False, werror=True)
    for rules in ("common", "open_common"):
        file = Path(mlp_compliance.__file__).parent / f"training_{RULES}/{rules}.yaml"
        checker.configured_checks(lines(study, case), file)
    assert set(checker.overwritable) == {"submission_benchmark"} and not checker.not_overwritable


def test_each_line_has_the_six_fields_and_names_its_record(study):
    run = study / "runs/torch/seed-0"
    epochs = (run / "epochs.csv").read_text().splitlines()
    for text in (run / "mllog.txt").read_text().splitlines():
        assert text.startswith(":::MLLOG ")
        line = json.loads(text.removeprefix(":::MLLOG "))
        assert list(line) == ["namespace", "time_ms", "event_type", "key", "value", "metadata"]
        assert line["event_type"] in ("POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END")
        place = line["metadata"]
        if "epoch_num" in place:
            assert epochs[place["lineno"] - 1].startswith(f"{place['epoch_num']},") and place["file"] == "epochs.csv"
        else:
            assert place["file"] == "run.json"


def test_every_interval_that_starts_ends_and_time_does_not_go_back(study):
    found = lines(study, "torch")
    assert [line.timestamp for line in found] == sorted(line.timestamp for line in found)
    keys = [line.key for line in found]
    for name in ("init", "run", "epoch", "eval"):
        assert keys.count(f"{name}_start") == keys.count(f"{name}_stop") == (2 if name in ("epoch", "eval") else 1)


def test_times_are_sums_of_the_record(study):
    case = next(case for case in load_study(study).expanded if case.name == "torch")
    record = read_record(Records(study), load_study(study), case, 7)
    run, at = record.run, {line.key: line.timestamp for line in lines(study, "torch", 7)}
    assert at["init_start"] == 1000 * datetime.fromisoformat(run.started).timestamp()
    assert at["run_stop"] - at["run_start"] == pytest.approx(
        1000 * (run.times.train_seconds + run.times.validation_seconds), abs=2
    )
    assert values(study, "torch", "eval_accuracy", 7) == [epoch.validation_accuracy for epoch in record.epochs]


def test_settings_and_samples(study):
    assert values(study, "torch", "seed", 7) == [7] and values(study, "torch", "global_batch_size") == [32]
    assert values(study, "torch", "train_samples") == [616] and values(study, "torch", "opt_adam_epsilon") == [1e-7]
    counts = [line.value["metadata"]["samples_count"] for line in lines(study, "torch") if line.key == "eval_accuracy"]
    assert counts == [616, 1232]
    dropped = [line.value["metadata"]["samples_count"] for line in lines(study, "torch-article") if line.key == "eval_stop"]
    assert dropped == [608, 1216]


def test_a_run_succeeds_where_it_reached_the_target(study, tmp_path):
    def status(folder):
        (stop,) = (line for line in lines(folder, "torch") if line.key == "run_stop")
        return stop.value["metadata"]["status"]

    assert status(study) == "success"
    strict = make_study(tmp_path / "s", cases=["torch"], seeds=[0], steps=20)
    told = json.loads((strict / "study.json").read_text())
    (strict / "study.json").write_text(json.dumps(told | {"target_accuracy": 0.99}))
    assert main(["export", "--mllog", str(strict / "runs/torch/seed-0")]) == 0
    assert status(strict) == "aborted"


def test_an_epsilon_of_the_frameworks_own_is_not_told_as_the_protocols(tmp_path):
    case = {"backend": "torch", "name": "own", "departures": ["framework-epsilon"]}
    folder = make_study(tmp_path / "s", cases=[case], seeds=[0], steps=20)
    assert main(["export", "--mllog", str(folder)]) == 0
    assert values(folder, "own", "opt_adam_epsilon") == [] and values(folder, "own", "departures") == [["framework-epsilon"]]
