"""A study's records become three tidy tables; what is broken, failed or missing is told and stops nothing else."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_study import make_study

from levelfield.errors import UserError
from levelfield.records import load_arrays, read_epochs, save_arrays, write_epochs
from levelfield.study.protocol import digest
from levelfield.tell.collect import collect, running_means

ARTICLE = [
    "keras-tensorflow",
    {"backend": "torch", "name": "torch-article", "departures": ["history-not-cleared", "drop-last-batch"]},
    {"backend": "keras-tensorflow", "name": "keras-article", "departures": ["running-mean-curve"]},
]


def runs_of(folder):
    collect(folder)
    return pd.read_parquet(folder / "runs.parquet").set_index(["case", "seed"])


def test_every_planned_run_has_a_row_with_what_it_came_to(tmp_path):
    failures = {("torch", 1): "failed", ("torch", 2): "missing", "jax": "failed-parity"}
    folder = make_study(tmp_path / "s", ["keras-tensorflow", "torch", "jax"], steps=5, failures=failures)
    counts = collect(folder)
    assert counts == {"finished": 4, "failed": 1, "missing": 1, "failed-parity": 3}
    runs = runs_of(folder)
    assert len(runs) == 9
    assert "MemoryError" in runs.loc[("torch", 1), "error"]
    assert "probabilities: 0.0041, bound 1e-06" in runs.loc[("jax", 0), "error"]
    assert runs.loc[("torch", 2), "protocol_batch_size"] == 32
    assert runs.loc[("torch", 1), ["train_seconds", "host_peak_bytes", "gpu"]].isna().all()


def test_a_row_holds_the_record(tmp_path):
    folder = make_study(tmp_path / "s", steps=5, gpus={"torch": "Tesla V100"})
    row = runs_of(folder).loc[("torch", 1)]
    record = json.loads((folder / "runs/torch/seed-1/run.json").read_text())
    assert row["train_seconds"] == record["times"]["train_seconds"]
    assert row["nvml_peak_bytes"] == record["memory"]["nvml_peak_bytes"]
    assert row["latency_p50_seconds"] == record["latency"]["p50_seconds"]
    assert row["gpu_power_watts"] == record["measurements"]["gpu_power_watts"]
    assert json.loads(row["versions"]) == record["machine"]["versions"]
    assert (row["gpu"], row["device"], row["kernels"]) == ("Tesla V100", "cuda", "cudnn_lstm_forward")


def test_steps_and_epochs_are_those_of_the_records(tmp_path):
    folder = make_study(tmp_path / "s", steps=7)
    collect(folder)
    steps = pd.read_parquet(folder / "steps.parquet")
    mine = steps[(steps["case"] == "torch") & (steps["seed"] == 2)]
    written = load_arrays(folder / "runs/torch/seed-2/steps.npz")
    assert np.array_equal(mine["loss"], written["loss"]) and mine["loss"].dtype == np.float32
    assert list(mine["step"]) == list(range(1, 15)) and list(mine["sequences"])[6::7] == [8, 8]
    epochs = pd.read_parquet(folder / "epochs.parquet")
    found = epochs[(epochs["case"] == "torch") & (epochs["seed"] == 2)]
    assert list(found["train_loss"]) == [epoch.train_loss for epoch in read_epochs(folder / "runs/torch/seed-2/epochs.csv")]


def test_a_history_that_is_not_cleared_reports_means_over_all_epochs(tmp_path):
    folder = make_study(tmp_path / "s", ARTICLE, steps=5, epochs=3)
    collect(folder)
    epochs = pd.read_parquet(folder / "epochs.parquet")
    mine = epochs[(epochs["case"] == "torch-article") & (epochs["seed"] == 0)]
    assert np.allclose(mine["reported_train_loss"], mine["train_loss"].expanding().mean())
    assert epochs[epochs["case"] != "torch-article"]["reported_train_loss"].isna().all()


def test_a_running_curve_starts_anew_with_each_epoch_and_weighs_batches_by_size(tmp_path):
    folder = make_study(tmp_path / "s", ARTICLE, steps=5)
    collect(folder)
    steps, epochs = (pd.read_parquet(folder / f"{name}.parquet") for name in ("steps", "epochs"))
    mine = steps[(steps["case"] == "keras-article") & (steps["seed"] == 0)].reset_index()
    assert mine["reported_loss"][0] == mine["loss"][0] and mine["reported_loss"][5] == mine["loss"][5]
    true = epochs[(epochs["case"] == "keras-article") & (epochs["seed"] == 0)]["train_loss"]
    assert np.allclose(mine["reported_loss"][[4, 9]], true, atol=1e-6)
    assert steps[steps["case"] == "keras-tensorflow"]["reported_loss"].isna().all()


def test_running_means_by_hand():
    class Three:
        epoch, sequences = np.array([1, 1, 2]), np.array([3, 1, 2])

    assert np.allclose(running_means(np.array([1.0, 0.0, 5.0]), Three), [1, 0.75, 5])


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def of_another_seed(file):
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 7'))


def wrong_type(file):
    file.write_text(file.read_text().replace('"train_seconds": ', '"train_seconds": "fast", "was": '))


def with_a_pickle(file):
    np.savez(file, epoch=np.array([None]), loss=np.array([None]), accuracy=np.array([None]), sequences=np.array([None]))


def too_few_steps(file):
    save_arrays(file, {name: values[:-1] for name, values in load_arrays(file).items()})


def another_batch_size(file):
    file.write_text(file.read_text().replace('"batch_size": 32', '"batch_size": 64'))


def no_time(file):
    write_epochs(file, [replace(epoch, train_seconds=0.0) for epoch in read_epochs(file)])


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("epochs.csv", no_time, "epochs.csv: train_seconds of an epoch is no time"),
        ("run.json", cut, "run.json"),
        ("run.json", of_another_seed, "is of torch, seed 7; expected torch, seed 1"),
        ("run.json", wrong_type, "times.train_seconds"),
        ("run.json", another_batch_size, "ran with batch_size 64, the study says 32"),
        ("epochs.csv", cut, "epochs.csv"),
        ("epochs.csv", lambda file: file.unlink(), "epochs.csv: is not there"),
        ("steps.npz", cut, "steps.npz: cannot be read"),
        ("steps.npz", with_a_pickle, "steps.npz: cannot be read"),
        ("steps.npz", too_few_steps, "steps.npz: 9 steps, expected 10"),
    ],
)
def test_a_broken_record_is_a_failed_run_that_names_the_file(tmp_path, name, damage, told):
    folder = make_study(tmp_path / "s", steps=5)
    damage(folder / "runs/torch/seed-1" / name)
    runs = runs_of(folder)
    assert runs.loc[("torch", 1), "status"] == "failed"
    assert told in runs.loc[("torch", 1), "error"] and "\n" not in runs.loc[("torch", 1), "error"]
    assert (runs["status"] == "finished").sum() == 5


def test_a_parity_file_that_cannot_be_read_proves_nothing(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    cut(folder / "parity/torch.json")
    assert (runs_of(folder).loc["torch", "status"] == "failed-parity").all()


def test_a_study_without_any_finished_run_has_its_columns(tmp_path):
    folder = make_study(tmp_path / "s", ["torch"], seeds=[0], steps=5, failures={("torch", 0): "missing"})
    runs = runs_of(folder)
    assert "train_seconds" in runs and runs["status"].tolist() == ["missing"]
    assert pd.read_parquet(folder / "steps.parquet").empty and pd.read_parquet(folder / "epochs.parquet").empty


def test_a_second_collection_is_the_same_to_the_byte(tmp_path):
    folder = make_study(tmp_path / "s", ARTICLE, steps=5)
    collect(folder)
    first = {name: (folder / name).read_bytes() for name in ("runs.parquet", "epochs.parquet", "steps.parquet")}
    collect(folder)
    assert first == {name: (folder / name).read_bytes() for name in first}


def test_a_folder_that_is_no_study_is_told(tmp_path):
    with pytest.raises(UserError, match=r"study\.json is not there"):
        collect(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "{", "3", '{"protocol": []}'])
def test_a_study_json_that_is_none_is_told(tmp_path, content):
    folder = make_study(tmp_path / "s", ["torch"], seeds=[0], steps=5)
    (folder / "study.json").write_text(content)
    with pytest.raises(UserError, match=r"study\.json: .*delete it and run that again"):
        collect(folder)


def test_records_of_an_earlier_version_are_read_as_todays(tmp_path):
    """Until 0.1 the one model's sizes stood in the protocol itself, and two measurements were the LSTM's by name."""
    folder = make_study(tmp_path / "s", ["torch"], seeds=[0], steps=5)
    collect(folder)
    today = pd.read_parquet(folder / "runs.parquet").drop(columns="protocol_sha256")
    for file in (folder / "study.json", folder / "runs/torch/seed-0/run.json"):
        record = json.loads(file.read_text())
        assert record["protocol"].pop("data_on") == "host"
        sizes = record["protocol"].pop("model")
        record["protocol"] |= {"embedding": sizes["embedding"], "units": sizes["units"]}
        if "measurements" in record:
            record["measurements"]["lstm_kernel"] = record["measurements"].pop("kernel")
            record["protocol_sha256"] = digest(record["protocol"])
        file.write_text(json.dumps(record))
    collect(folder)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "runs.parquet")[list(today)], today)


@pytest.mark.parametrize(
    ("device", "status"), [("cpu", {"finished"}), ("cuda", {"finished", "failed"})], ids=["on a CPU", "on a GPU"]
)
def test_pytorch_had_its_data_on_the_device_before_the_protocol_said_where(tmp_path, device, status):
    """A CPU's device is the host. On a GPU it is another program than the one that the study now asks for; JAX's is not."""
    folder = make_study(tmp_path / "s", ["torch", "jax"], seeds=[0], steps=5)
    for file in folder.glob("runs/*/seed-0/run.json"):
        record = json.loads(file.read_text())
        del record["protocol"]["data_on"]
        record["protocol_sha256"] = digest(record["protocol"])
        record["machine"]["device"] = device
        file.write_text(json.dumps(record))
    collect(folder)
    runs = pd.read_parquet(folder / "runs.parquet").set_index("case")
    assert set(runs["status"]) == status and runs["status"]["jax"] == "finished"
    if device == "cuda":
        assert "ran with data_on device, the study says host" in runs["error"]["torch"]


@pytest.mark.parametrize(
    ("model", "names", "word"),
    [("cnn", ["conv_general_dilated"], "XLA"), ("cnn", ["convert"], "not told"), ("bilstm", ["while"], "not fused")],
)
def test_a_kernel_that_an_earlier_version_named_otherwise_has_todays_word(tmp_path, model, names, word):
    folder = make_study(tmp_path / "s", ["jax"], seeds=[0], steps=5, protocol={"model": model})
    file = folder / "runs/jax/seed-0/run.json"
    record = json.loads(file.read_text())
    record["measurements"]["kernel"], record["kernels"] = "not fused", names
    file.write_text(json.dumps(record))
    assert runs_of(folder).loc[("jax", 0), "kernel"] == word


def test_a_measurement_that_is_text_in_one_run_and_a_number_in_another_is_text(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    for seed, told in ((0, {"grade": 0.31}), (1, {"kernel": 3.5, "grade": "half"})):
        file = folder / f"runs/torch/seed-{seed}/run.json"
        record = json.loads(file.read_text())
        record["measurements"] |= told
        file.write_text(json.dumps(record))
    runs = runs_of(folder)
    assert (runs["status"] == "finished").all()
    assert runs.loc[("torch", 1), ["kernel", "grade"]].tolist() == ["3.5", "half"]
    assert runs.loc[("torch", 0), ["kernel", "grade"]].tolist() == ["oneDNN", "0.31"]


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [("share_of_limit", "half", "a number"), ("steal_share", "", "a number"), ("noise_warning", 1.5, "text")],
)
def test_a_measurement_is_text_or_a_number_as_its_name_says_or_its_run_is_damaged(tmp_path, name, found, expected):
    """One such run would make a text of every other run's number, or end the telling."""
    folder = make_study(tmp_path / "s", steps=5)
    file = folder / "runs/torch/seed-1/run.json"
    record = json.loads(file.read_text())
    record["measurements"][name] = found
    file.write_text(json.dumps(record))
    runs = runs_of(folder)
    assert (runs["status"] == "failed").sum() == 1 and runs["share_of_limit"].dtype == float
    told = f"damaged: runs/torch/seed-1/run.json: measurements.{name}: {found!r}: expected {expected}, or null"
    assert runs.loc[("torch", 1), "error"] == told
