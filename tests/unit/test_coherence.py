"""Records of one study belong together: another data or start is refused, overlaps and sessions are seen, hosts are named."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_study import make_study

from levelfield.study.config import read_study
from levelfield.tell.coherence import first_losses, mixtures, one_order, overlaps, sessions
from levelfield.tell.collect import collect
from levelfield.tell.report.provenance import coherence
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables
from levelfield.tell.tables.groups import finished


def with_changes(folder: Path, case: str, seed: int, **changes) -> None:
    """Writes other values into a run's record; those of `machine` into that."""
    file = folder / f"runs/{case}/seed-{seed}/run.json"
    run = json.loads(file.read_text())
    run["machine"] |= changes.pop("machine", {})
    file.write_text(json.dumps(run | changes))


def runs_of(folder: Path) -> pd.DataFrame:
    collect(folder)
    return pd.read_parquet(folder / "runs.parquet").set_index(["case", "seed"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data_sha256": "a" * 64}, "run.json: trained on another data: sha256 aaaaaaaaaaaa, expected "),
        ({"start_sha256": "b" * 64}, "run.json: trained on another start: sha256 bbbbbbbbbbbb, expected "),
        ({"protocol_sha256": "c" * 64}, "run.json: its protocol is not the one that protocol_sha256 is of"),
    ],
    ids=["data", "start", "protocol"],
)
def test_a_run_of_another_data_start_or_protocol_is_refused(tmp_path, changes, told):
    folder = make_study(tmp_path / "s", ["torch", "jax", "keras-tensorflow"], steps=5)
    with_changes(folder, "torch", 1, **changes)
    runs = runs_of(folder)
    assert (runs["status"] == "finished").sum() == 8
    assert runs.loc[("torch", 1), "status"] == "failed" and told in runs.loc[("torch", 1), "error"]
    assert pd.read_parquet(folder / "epochs.parquet").query("case == 'torch'")["seed"].unique().tolist() == [0, 2]


def test_the_starts_own_file_says_which_is_right_and_of_two_without_it_neither_is(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    with_changes(folder, "torch", 1, start_sha256="b" * 64)
    assert (runs_of(folder)["status"] == "failed").sum() == 2
    start = folder / "start/bilstm/seed-1.npz.sha256"
    start.parent.mkdir(parents=True)
    start.write_text(f"{'b' * 64}  seed-1.npz\n")
    runs = runs_of(folder)
    assert runs[runs["status"] == "failed"].index.tolist() == [("keras-tensorflow", 1)]


def test_models_have_starts_of_their_own(tmp_path):
    folder = make_study(tmp_path / "s", ["torch"], vary={"model": ["bilstm", "cnn"]}, steps=5)
    for seed in range(3):
        with_changes(folder, "torch+model=cnn", seed, start_sha256="b" * 64)
    assert (runs_of(folder)["status"] == "finished").all()


def row(case: str, start: str, end: str, **more) -> dict:
    at = "2026-01-05T{}+00:00".format
    machine = {"host": "node", "cpu": "c", "host_id": None, "boot": None, "device": "cpu", "gpu_uuid": None}
    return machine | {"case": case, "seed": 0, "started": at(start), "ended": at(end)} | more


def test_runs_that_overlap_on_one_host_are_told():
    rows = [row("a", "10:00:00", "10:05:00"), row("b", "10:04:00", "10:09:00"), row("c", "10:08:59.5", "10:12:00")]
    assert overlaps(rows) == {("a", 0): "ran beside b, seed 0", ("b", 0): "ran beside a, seed 0"}
    assert not overlaps([rows[0], rows[1] | {"host_id": "other"}])
    two = [one | {"device": "cuda", "gpu_uuid": uuid} for one, uuid in zip(rows, ("GPU-0", "GPU-1", "GPU-1"), strict=True)]
    assert not overlaps(two) and len(overlaps([two[0], two[1] | {"gpu_uuid": "GPU-0"}])) == 2
    assert len(overlaps([two[0], rows[1]])) == 2  # a run on the CPU disturbs the feeding of a GPU
    long = [row("a", "10:00:00", "11:00:00"), row("b", "10:01:00", "10:02:00"), row("c", "10:30:00", "10:31:00")]
    assert overlaps(long)["a", 0] == "ran beside b, seed 0 and 1 more" and ("c", 0) in overlaps(long)


def test_a_break_a_boot_or_another_host_begins_a_session():
    rows = [row("a", "10:00:00", "10:05:00"), row("b", "11:04:00", "11:09:00"), row("c", "12:30:00", "12:31:00")]
    assert list(sessions(rows).values()) == [1, 1, 2]
    assert set(sessions([rows[0], rows[1] | {"boot": "2"}]).values()) == {1, 2}
    assert set(sessions([rows[0], rows[1] | {"host_id": "other"}]).values()) == {1, 2}


def test_a_run_beside_another_is_not_clean(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    first = json.loads((folder / "runs/torch/seed-0/run.json").read_text())["started"]
    with_changes(folder, "keras-tensorflow", 0, started=first)
    runs = runs_of(folder)
    assert runs["unclean"].dropna().to_dict() == {
        ("keras-tensorflow", 0): "ran beside torch, seed 0",
        ("torch", 0): "ran beside keras-tensorflow, seed 0",
    }
    assert make_tables(Results.read(folder))["comparisons"].data.loc[0, ["pairs", "clean_pairs"]].tolist() == [4, 3]


def test_hosts_of_one_model_are_pooled_by_name_and_no_pair_is_of_two(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(8), steps=5)
    for case in ("torch", "keras-tensorflow"):
        for seed in range(8):
            with_changes(folder, case, seed, machine={"host_id": "0123456789ab" if seed < 4 else "fedcba987654"})
    collect(folder)
    results = Results.read(folder)
    assert results.machines == ["Made Processor 9000, 2 threads, 2 hosts"]
    tables = make_tables(results)
    row = tables["comparisons"].data.iloc[0]
    assert (row["pairs"], row["clean_pairs"]) == (8, 8) and len(row["speed_by_session"].split()) == 2
    assert "(by session 1." in verdict(results, tables)[0] and ", 2 sessions on 2 hosts." in measured_on(results)
    assert "Runs of several hosts: 0123456789ab (8), fedcba987654 (8)." in tables["leaderboard"].notes
    for seed in range(3):  # one case of the pair on another host
        with_changes(folder, "torch", seed, machine={"host_id": "fedcba987654"})
    collect(folder)
    assert make_tables(Results.read(folder))["comparisons"].data.loc[0, "clean_pairs"] == 5


def test_every_block_on_a_host_of_its_own_bears_a_claim(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(6), steps=5)
    for case in ("torch", "keras-tensorflow"):
        for seed in range(6):
            with_changes(folder, case, seed, machine={"host_id": f"{seed:012d}"})
    collect(folder)
    results = Results.read(folder)
    assert verdict(results, make_tables(results))[0].startswith("torch trained 1.1")
    assert ", 6 sessions on 6 hosts." in measured_on(results)


def test_a_case_that_ran_after_the_blocks_of_the_others_is_in_no_claim(tmp_path):
    folder = make_study(tmp_path / "s", ["torch", "jax", "keras-tensorflow"], seeds=range(6), steps=5)
    for seed in range(6):  # as if it had failed at first, and run within the hour when all else was there
        file = folder / f"runs/jax/seed-{seed}/run.json"
        began = pd.Timestamp(json.loads(file.read_text())["started"])
        with_changes(folder, "jax", seed, started=f"2026-01-05T10:{30 + seed:02d}:00+00:00")
        assert began < pd.Timestamp("2026-01-05T10:30+00:00")
    collect(folder)
    results = Results.read(folder)
    tables = make_tables(results)
    data = tables["comparisons"].data.set_index(["case", "against"])
    assert data.loc[("torch", "keras-tensorflow"), "clean_pairs"] == 6
    assert (data.drop(("torch", "keras-tensorflow"))["clean_pairs"] == 0).all()
    assert (
        "none of 6 pairs is clean, 6 ran apart (another session, host or card, other blocks or a long rest between the two)"
        in " ".join(verdict(results, tables))
    )


def test_runs_on_two_cards_are_no_clean_pair(tmp_path):
    folder = make_study(
        tmp_path / "s", gpus={"torch": "A100", "keras-tensorflow": "A100"}, seeds=range(4), steps=5, parity=False
    )
    for seed in range(2):
        with_changes(folder, "torch", seed, machine={"gpu_uuid": "GPU-1"})
    collect(folder)
    assert make_tables(Results.read(folder))["comparisons"].data.loc[0, "clean_pairs"] == 2


def test_takes_that_were_spoilt_make_no_break():
    late = row("b", "11:15:00", "11:45:00")
    assert set(sessions([row("a", "10:00:00", "10:05:00"), late]).values()) == {1, 2}
    assert set(sessions([row("a", "10:00:00", "10:05:00"), late | {"take": 2}]).values()) == {1}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("protocol_sha256", "c" * 64, "its parity is of another protocol"),
        ("start_sha256", "c" * 64, "its parity is of another start of seed 0"),
        ("backend", "jax", "its parity is of jax"),
        ("matched", False, "its parity is of torch"),
    ],
)
def test_a_parity_of_another_program_proves_nothing(tmp_path, field, value, told):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    assert make_tables(_results(folder))["leaderboard"].data["clean_runs"].tolist() == [4, 4]
    file = folder / "parity/torch.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    results = _results(folder)
    tables = make_tables(results)
    assert set(finished(results).query("case == 'torch'")["unproven"]) == {told}
    assert tables["leaderboard"].data.set_index("case").loc["torch", "clean_runs"] == 0
    said = " ".join(verdict(results, tables))
    assert "as fast as" not in said and "learn equally well:" not in said


def test_over_two_sessions_each_ones_ratio_is_told_and_no_pair_is_of_both(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(6), steps=5)
    for case in ("torch", "keras-tensorflow"):
        for seed in range(3, 6):
            with_changes(folder, case, seed, machine={"boot": "another"})
    collect(folder)
    results = Results.read(folder)
    tables = make_tables(results)
    row = tables["comparisons"].data.iloc[0]
    first, second = map(float, row["speed_by_session"].split())
    assert row["clean_pairs"] == 6 and (first * second) ** 0.5 == pytest.approx(row["speed"], abs=1e-3)
    said = " ".join(verdict(results, tables))
    assert f"(by session {first:.2f} and {second:.2f})" in said and "from 6 clean pairs of seeds of 2 sessions" in said
    assert "by session" in tables["comparisons"].shown and ", 2 sessions on 1 host." in measured_on(results)
    with_changes(folder, "torch", 2, machine={"boot": "another"})
    collect(folder)
    assert make_tables(Results.read(folder))["comparisons"].data.loc[0, "clean_pairs"] == 5


def test_what_is_mixed_in_the_records_is_told(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    assert "mixed" not in {name for name, value in coherence(_results(folder)).items() if value}
    with_changes(folder, "torch", 1, commit="d" * 40, machine={"versions": {"torch": "2.12.0", "numpy": "2.4.6"}})
    results = _results(folder)
    assert mixtures(results.finished) == [
        "Runs of several commits: cccccccccccc (5), dddddddddddd (1).",
        "Runs of several versions of torch: 2.12.0 (1), 3.0.0 (2).",
    ]
    for name in ("leaderboard", "comparisons"):
        assert "Runs of several commits" in " ".join(make_tables(results)[name].notes)
    assert "at most 0.0e+00 apart, allowed 2e-05" in coherence(results).values()


def test_a_parity_of_other_versions_or_another_device_proves_nothing_of_what_was_timed(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    assert make_tables(_results(folder))["leaderboard"].data["parity"].tolist() == ["passed", "passed"]
    file = folder / "parity/torch.json"
    file.write_text(file.read_text().replace('"numpy": "2.4.6"', '"numpy": "2.4.5"'))
    board = make_tables(_results(folder))["leaderboard"]
    parity = board.data.set_index("case")["parity"]
    assert parity["torch"] == "unproven: of numpy 2.4.5, timed 2.4.6" and parity["keras-tensorflow"] == "passed"
    file.write_text(file.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    assert (
        make_tables(_results(folder))["leaderboard"]
        .data.set_index("case")
        .loc["torch", "parity"]
        .startswith("unproven: on cuda, timed on cpu")
    )


def test_what_was_timed_on_another_kind_of_processor_or_in_another_image_is_in_no_claim(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    file = folder / "parity/torch.json"
    proven = json.loads(file.read_text())
    for own in ({"cpu": "Made Processor 9000"}, {"cpu": None}, {"gpu": "of no concern on a CPU"}):
        file.write_text(json.dumps(proven | own))
        comparison = make_tables(_results(folder))["comparisons"].data.iloc[0]
        assert comparison["clean_pairs"] == 4 and comparison["faster"]
    file.write_text(json.dumps(proven | {"cpu": "Other Processor"}))
    tables = make_tables(_results(folder))
    comparison, board = tables["comparisons"].data.iloc[0], tables["leaderboard"].data.set_index("case")
    assert comparison["clean_pairs"] == 0 and not comparison["faster"] and "no claim" in comparison["speed_verdict"]
    assert board.loc["torch", "parity"] == "unproven: on Other Processor, timed on Made Processor 9000"
    file.write_text(json.dumps(proven | {"image": "sha256:" + "a" * 64}))
    with_changes(folder, "torch", 1, image="sha256:" + "b" * 64)
    tables = make_tables(_results(folder))
    assert tables["comparisons"].data.loc[0, "clean_pairs"] == 3
    assert "unproven: on image aaaaaaaaaaaa, timed on image bbbbbbbbbbbb" in tables["leaderboard"].data["parity"].tolist()


def _results(folder: Path) -> Results:
    collect(folder)
    return Results.read(folder)


def test_each_run_has_its_block_and_the_place_that_it_really_had(tmp_path):
    folder = make_study(tmp_path / "s", ["torch", "jax"], seeds=[0, 1], steps=5)
    for case, seed, at in (("torch", 0, "10:20"), ("jax", 0, "10:00"), ("torch", 1, "11:00"), ("jax", 1, "11:20")):
        moment = f"2026-01-05T{at}:00.125+00:00"
        with_changes(folder, case, seed, started=moment, ended=moment)
    runs = runs_of(folder)
    assert runs["block"].to_dict() == {(case, seed): f"seed {seed}" for case in ("torch", "jax") for seed in (0, 1)}
    assert runs["position"].to_dict() == {("jax", 0): 1, ("torch", 0): 2, ("torch", 1): 1, ("jax", 1): 2}


def test_a_run_that_was_taken_again_is_told(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    with_changes(folder, "torch", 2, take=2)
    runs_of(folder)
    board = make_tables(Results.read(folder))["leaderboard"].shown.set_index("case")
    assert board.loc["torch", "remarks"] == "1 taken again"


def test_every_take_is_told_and_what_the_first_ones_would_have_shown(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    assert "takes" not in make_tables(_results(folder))
    place = folder / "runs/torch/seed-2"
    run = json.loads((place / "run.json").read_text())
    (place / "takes/1").mkdir(parents=True)
    noise = run["measurements"] | {"noise_warning": "the hypervisor took 9% of the CPUs"}
    slow = run["times"] | {"train_seconds": 3 * run["times"]["train_seconds"]}
    (place / "takes/1/run.json").write_text(json.dumps(run | {"times": slow, "measurements": noise}))
    with_changes(folder, "torch", 2, take=2)
    results = _results(folder)
    tables = make_tables(results)
    told = tables["takes"].data
    assert told[["case", "seed", "take", "stands"]].values.tolist() == [["torch", 2, 1, False], ["torch", 2, 2, True]]
    assert told["unclean"].fillna("").tolist() == ["the hypervisor took 9% of the CPUs", ""]
    assert told["train_seconds"].iloc[0] == pytest.approx(3 * told["train_seconds"].iloc[1])
    row = tables["comparisons"].data.iloc[0]
    assert row["clean_pairs"] == 4 and row["speed_of_all"] == pytest.approx(row["speed"] / 3**0.25)
    assert "over all pairs" in tables["comparisons"].shown and "(over all runs 0." in verdict(results, tables)[0]
    (place / "takes/1/run.json").write_text("{")
    told = make_tables(_results(folder))["takes"].data
    assert told["unclean"].iloc[0] == "its record is not there, or damaged" and pd.isna(told["train_seconds"].iloc[0])


def test_halves_of_a_block_with_a_long_rest_between_them_are_no_clean_pair(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    names = sorted(("torch", "keras-tensorflow"), key=lambda case: _told(folder, case, 3)["started"])
    first, late = (_told(folder, case, 3) for case in names)
    for minutes, clean in ((10, 4), (50, 3)):  # broken off within the last block, and continued in the same session
        moved = {
            name: (datetime.fromisoformat(late[name]) + timedelta(minutes=minutes)).isoformat()
            for name in ("started", "ended")
            if late[name]
        }
        with_changes(folder, names[1], 3, **moved)
        assert make_tables(_results(folder))["comparisons"].data.loc[0, "clean_pairs"] == clean, minutes
    assert _results(folder).finished["session"].nunique() == 1 and first["started"] < late["started"]


def _told(folder: Path, case: str, seed: int) -> dict:
    return json.loads((folder / f"runs/{case}/seed-{seed}/run.json").read_text())


def test_a_departure_is_not_priced_against_a_case_of_which_nothing_is_proven(tmp_path):
    cases = ["torch", {"backend": "torch", "departures": ["naive-init"]}]
    folder = make_study(tmp_path / "s", cases, seeds=range(6), steps=30)
    assert make_tables(_results(folder))["departures"].data.loc[0, "validation_accuracy_low"] is not None
    file = folder / "parity/torch.json"
    file.write_text(file.read_text().replace('"numpy": "2.4.6"', '"numpy": "2.4.5"'))
    row = make_tables(_results(folder))["departures"].data.iloc[0]
    assert pd.isna(row[["validation_accuracy_low", "time_low"]]).all()


def test_of_cases_without_a_bound_none_vouches_for_another():
    study = read_study({"study": "s", "cases": ["torch", "jax", "keras-tensorflow", "flax"], "seeds": [0]}, "s.yaml")
    losses = {(case.name, 0): np.full(10, 0.7) for case in study.expanded}
    losses["jax", 0] = losses["jax", 0] + 1e-3
    known = {"torch": 1e-5, "jax": 1e-5, "keras-tensorflow": None, "flax": None}
    told = {case: why for (case, _), (_, why) in first_losses(study, losses, known).items()}
    assert told["torch"] and told["jax"] and told["keras-tensorflow"] is None and told["flax"] is None


def test_a_clock_that_was_set_back_takes_a_runs_cleanness_and_never_a_time(tmp_path):
    """Times are of a clock that cannot be set; when a run was is of one that can."""
    folder = make_study(tmp_path / "s", seeds=range(4), steps=5)
    right = runs_of(folder)["train_seconds"]
    with_changes(folder, "torch", 1, ended="2026-01-04T09:00:00+00:00")  # within the run
    first = json.loads((folder / "runs/torch/seed-0/run.json").read_text())["started"]
    with_changes(folder, "keras-tensorflow", 3, started=first)  # between two runs
    runs = runs_of(folder)
    assert (runs["status"] == "finished").all() and runs["train_seconds"].equals(right)
    assert runs["unclean"].notna().sum() >= 2 and "ran beside" in runs.loc[("keras-tensorflow", 3), "unclean"]
    assert make_tables(Results.read(folder))["leaderboard"].data["seeds"].tolist() == [4, 4]


def test_a_checkout_that_was_changed_is_another_commit(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    with_changes(folder, "torch", 1, commit="c" * 40 + "+changes")
    assert mixtures(_results(folder).finished) == ["Runs of several commits: cccccccccccc (5), cccccccccccc+changes (1)."]


def test_one_order_of_the_cases_in_every_block_is_told(tmp_path):
    folder = make_study(tmp_path / "s", ["torch", "jax", "flax"], seeds=range(4), steps=5)
    assert one_order(_results(folder).finished) == "", "drawn for each seed"
    began = datetime(2026, 1, 5, 10, tzinfo=UTC)
    for seed in range(4):
        for place, case in enumerate(("torch", "jax", "flax")):
            with_changes(folder, case, seed, started=(began + timedelta(hours=seed, minutes=10 * place)).isoformat())
    results = _results(folder)
    told = one_order(results.finished)
    assert told.startswith("In one order in all 4 blocks torch, then jax, then flax: ") and "no interval covers it" in told
    for name in ("leaderboard", "comparisons"):
        assert told in make_tables(results)[name].notes
