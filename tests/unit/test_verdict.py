"""The verdict in words speaks of matched cases alone; what departures do is told apart."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_study import EVERY_KIND, TRANSFORMERS, make_study

from levelfield.records import load_arrays, read_epochs, save_arrays, write_epochs
from levelfield.tell.collect import collect
from levelfield.tell.estimates import Estimate
from levelfield.tell.report import faster
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables
from levelfield.tell.tables.comparisons import _noise, departures
from levelfield.tell.tables.families import enough, floors, pairs_of_cases, smallest_shown

ARTICLE = [
    {"backend": "torch", "name": "torch-article", "departures": ["clip-norm"]},
    {"backend": "keras-tensorflow", "name": "keras-article", "departures": ["last-step-output"]},
]
"""Two cases with departures, of different backends: they stand in the table of comparisons, too."""


def made(folder, **options) -> Results:
    collect(make_study(folder, **{"seeds": range(4), "steps": 5} | options))
    return Results.read(folder)


def said(folder, **options) -> list[str]:
    results = made(folder, **options)
    return verdict(results, make_tables(results))


def test_cases_with_departures_are_in_no_comparison(tmp_path):
    speed, accuracy, *_ = said(tmp_path / "s", cases=EVERY_KIND)
    assert re.match(
        r"torch trained 1\.\d\d times as fast as keras-tensorflow \[.*\] and 1\.\d\d times as fast as jax \[", speed
    )
    assert "article" not in speed + accuracy and "torch+" not in speed + accuracy
    assert accuracy.startswith(
        "In all 3 pairs validation accuracies are equivalent within 0.5 points"
    )  # not of all six in the table


def test_without_two_matched_cases_nobody_is_called_faster(tmp_path):
    results = made(tmp_path / "s", cases=ARTICLE)
    tables = make_tables(results)
    told = " ".join(verdict(results, tables))
    assert not tables["comparisons"].data["matched"].any()
    assert "No two cases here may be compared as equals" in told and "times as fast" not in told


def test_one_matched_case_beside_two_with_departures_is_not_compared(tmp_path):
    told = " ".join(said(tmp_path / "s", cases=["torch", *ARTICLE]))
    assert "times as fast" not in told and "equivalent" not in told


def test_where_a_loss_did_not_fall_nothing_is_claimed_about_learning(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax"], seeds=range(4), steps=5)
    file = folder / "runs/jax/seed-2/run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps(run | {"checks": run["checks"] | {"losses_fell": False}}))
    collect(folder)
    results = Results.read(folder)
    told = " ".join(verdict(results, make_tables(results)))
    assert "in 1 of 8 runs the loss did not fall" in told and "equivalent within" not in told and "times as fast" in told


def test_one_model_whose_loss_did_not_fall_silences_no_other(tmp_path):
    folder = make_study(tmp_path / "s", vary={"model": ["bilstm", "cnn"]}, steps=40)
    file = folder / "runs/torch+model=cnn/seed-1/run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps(run | {"checks": run["checks"] | {"losses_fell": False}}))
    collect(folder)
    results = Results.read(folder)
    told = verdict(results, make_tables(results))
    assert (
        "Nothing is claimed about what they learn with model cnn: the training was so short that in 1 of 6 runs the loss did not fall."
        in told
    )
    assert any(line.startswith("With model bilstm: ") and "validation accurac" in line for line in told), told


def test_where_too_few_steps_were_trained_nothing_is_claimed_about_learning(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax"], seeds=range(4), steps=5)
    for file in folder.glob("runs/jax/*/run.json"):
        run = json.loads(file.read_text())
        del run["checks"]["losses_fell"]
        file.write_text(json.dumps(run))
    collect(folder)
    results = Results.read(folder)
    told = " ".join(verdict(results, make_tables(results)))
    assert "in 4 of 8 runs too few steps were trained" in told and "equivalent within" not in told and "times as fast" in told


def test_of_a_study_that_varies_a_size_the_fastest_at_each_is_named_where_an_interval_shows_it(tmp_path):
    sizes, *_ = said(tmp_path / "s", cases=["jax", "torch"], vary={"length": [100, 200]})
    assert sizes == "Fastest by tokens a sequence: torch at 100 and 200."
    equal = ["torch", {"backend": "torch", "name": "other"}]
    assert said(tmp_path / "tie", cases=equal, vary={"length": [100, 200]})[0].count("(no difference shown)") == 2
    few, *_ = said(tmp_path / "few", cases=["jax", "torch"], vary={"length": [100, 200]}, seeds=[0, 1])
    assert few == "Fastest by tokens a sequence: nothing is claimed at 100 and 200, from too few clean pairs."


def test_what_a_study_could_show_is_told_of_each_size_by_name(tmp_path):
    first, second = enough(made(tmp_path / "s", cases=["jax", "torch"], vary={"length": [100, 200]}))
    assert "With length 100: a ratio" in first and second.startswith("With the study's own protocol: a ratio")


def test_neither_who_diverged_nor_who_has_settings_of_its_own_is_fastest_at_a_size(tmp_path):
    slower = {"backend": "keras-tensorflow", "name": "own", "settings": {"learning_rate": 0.01}}
    folder = make_study(tmp_path / "s", ["torch", "jax", slower], vary={"length": [100, 200]}, seeds=range(6), steps=5)
    for file in folder.glob("runs/torch+length=100/*/run.json"):
        run = json.loads(file.read_text())
        run["checks"]["losses_finite"] = False
        file.write_text(json.dumps(run))
    collect(folder)
    results = Results.read(folder)
    assert verdict(results, make_tables(results))[0] == (
        "Fastest by tokens a sequence: nothing is claimed at 100, from too few clean pairs; torch at 200."
    ) or verdict(results, make_tables(results))[0].startswith("Fastest by tokens a sequence: torch at 200")


def test_beside_sizes_another_protocol_is_told_too(tmp_path):
    told = said(tmp_path / "s", cases=["jax", "torch"], vary={"length": [100, 200], "precision": ["bfloat16"]}, seeds=range(6))
    assert told[0].startswith("Fastest by tokens a sequence: torch at 100 and 200.")
    assert any(one.startswith("With precision bfloat16: torch+precision=bfloat16 trained") for one in told)


def test_over_all_runs_is_seen_from_the_same_case_as_over_the_clean_ones(tmp_path):
    """B, no faster than the winner, with one unclean pair: both ratios are of B's time to the winner's."""
    cases = ["torch", {"backend": "torch", "name": "other"}, "jax"]
    results = changed(tmp_path / "s", {("other", 2): NOISY}, cases=cases)
    pair = next(one for one in pairs_of_cases(results) if {one.case, one.against} == {"torch", "other"})
    for fastest in ("torch", "other"):
        of_clean = pair.speed.value if pair.case == fastest else 1 / pair.speed.value
        of_all = pair.speed_of_all.value if pair.case == fastest else 1 / pair.speed_of_all.value
        told = f" (over all runs {of_all:.2f})" if f"{of_all:.2f}" != f"{of_clean:.2f}" else ""
        assert faster._of_all(pair, fastest) == told


def test_fastest_by_model_is_told_machine_by_machine(tmp_path):
    """On one GPU torch is shown to be faster, on the other one jax: each is told of its own."""
    folder = make_study(tmp_path / "s", cases=["torch", "jax"], vary=MODELS, seeds=range(8), steps=5)
    for file in folder.glob("runs/*/*/run.json"):
        if int(file.parent.name.split("-")[1]) < 4:
            continue
        run = json.loads(file.read_text())
        run["machine"]["cpu"] = "Other Processor 1"
        file.write_text(json.dumps(run))
        if run["backend"] == "torch":
            epochs = read_epochs(file.parent / "epochs.csv")
            write_epochs(file.parent / "epochs.csv", [replace(one, train_seconds=9 * one.train_seconds) for one in epochs])
    collect(folder)
    results = Results.read(folder)
    told = verdict(results, make_tables(results))[0]
    for machine, first in (("Made Processor 9000, 2 threads", "torch"), ("Other Processor 1, 2 threads", "jax")):
        assert re.search(rf"bilstm, {machine} {first}, \d\.\d\d times", told)


def test_each_protocol_of_a_study_is_told(tmp_path):
    first, second, *_ = said(tmp_path / "s", cases=["jax", "torch"], vary={"precision": ["float32", "bfloat16"]})
    assert re.match(r"torch\+precision=float32 trained 1\.\d\d times as fast as jax\+precision=float32 \[", first)
    assert re.match(r"With precision bfloat16: torch\+precision=bfloat16 trained 1\.\d\d times as fast", second)


MODELS = {"model": ["bilstm", "transformer", "cnn"]}


def test_of_several_models_the_fastest_with_each_is_named(tmp_path):
    fastest, rest, *others = said(tmp_path / "s", cases=["keras-tensorflow", "torch", "jax"], vary=MODELS, seeds=range(6))
    interval = r"\[\d\.\d\d, \d\.\d\d\]"
    assert re.fullmatch(
        rf"Fastest by model: bilstm torch, 1\.1\d times as fast as the next {interval}; "
        rf"transformer jax, 1\.4\d times {interval}; cnn keras-tensorflow, 1\.7\d times {interval}\.",
        fastest,
    )
    assert (
        rest == "In brackets 95 % intervals, simultaneous for each model, from 6 clean pairs of seeds; "
        "models are not compared with each other."
    )
    assert others[0].startswith("In all 9 pairs validation accuracies are equivalent")


def test_a_tie_and_too_few_pairs_are_said(tmp_path):
    fastest, rest, *_ = said(tmp_path / "tie", cases=["torch", {"backend": "torch", "name": "twin"}], vary=MODELS)
    tie = r"(torch or twin|twin or torch) \(1\.0\d times \[[01]\.\d\d, 1\.0\d\]\), no difference shown"
    assert re.search(f"bilstm {tie}", fastest) and rest.startswith(
        "In brackets 95 % intervals, each by itself, from 4 clean pairs"
    )
    fastest, rest, *_ = said(tmp_path / "few", cases=["jax", "torch"], vary=MODELS, seeds=[0, 1])
    assert fastest.count(", not enough seeds to say), nothing is claimed") == 3
    assert rest == "Models are not compared with each other."


def test_all_that_no_other_was_shown_to_beat_are_named_as_fastest(tmp_path):
    """Three that are alike, and one that is slower: who is first by its mean is not the fastest for that."""
    alike = ["torch", {"backend": "torch", "name": "other"}, {"backend": "torch", "name": "third"}]
    results = made(tmp_path / "s", cases=[*alike, "jax"], vary=MODELS, seeds=range(6))
    first, *_ = verdict(results, make_tables(results))
    ranks = make_tables(results)["leaderboard"].data.query("model == 'bilstm'").set_index("case")["rank"]
    assert ranks["jax+model=bilstm"] == "4" and (ranks.drop("jax+model=bilstm") == "1–3").all()
    told = re.search(r"bilstm (.*?), no difference shown", first)[1]
    assert set(re.findall(r"torch|other|third|jax", told)) == {"torch", "other", "third"}


def test_a_model_with_one_finished_case_has_no_fastest(tmp_path):
    failures = {("jax+model=cnn", seed): "failed" for seed in range(4)}
    told = said(tmp_path / "s", cases=["jax", "torch"], vary=MODELS, failures=failures)
    assert "cnn" not in told[0] and told[-1] == "Of 24 runs, 4 failed."


NOISY = {"measurements": {"noise_warning": "the hypervisor took 9% of the CPUs"}}


def changed(folder, changes: dict, **options) -> Results:
    """A study in which runs (case, seed) have other checks or measurements than they were made with."""
    folder = make_study(folder, **{"seeds": range(6), "steps": 20} | options)
    for (case, seed), parts in changes.items():
        file = folder / f"runs/{case}/seed-{seed}/run.json"
        run = json.loads(file.read_text())
        file.write_text(json.dumps(run | {name: run[name] | values for name, values in parts.items()}))
    collect(folder)
    return Results.read(folder)


def test_without_a_clean_pair_there_is_no_claim_and_its_reason_is_told(tmp_path):
    results = changed(tmp_path / "s", {("torch", seed): NOISY for seed in range(6)})
    tables = make_tables(results)
    told = verdict(results, tables)
    assert re.match(
        r"Nothing is claimed of the speed of torch against keras-tensorflow, 1\.\d\d times \(none of 6 pairs is clean\)\.",
        told[0],
    )
    assert "Claims about speed rest on clean runs, 6 of 12" in " ".join(told)
    board = tables["leaderboard"]
    assert board.shown["rank"].tolist() == ["1–2", "1–2"] and board.shown["clean"].tolist() == ["6 of 6", "0 of 6"]
    row = tables["comparisons"].data.iloc[0]
    assert (row["pairs"], row["clean_pairs"]) == (6, 0) and pd.isna(row["speed_low"]) and row["speed_of_all_low"] > 1


def test_a_disturbed_study_claims_what_the_clean_one_does_and_tells_all_runs_beside_it(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(8), steps=20)
    for seed in (2, 5):  # a busy loop beside them: twice the time, and the noise is seen
        run = folder / f"runs/torch/seed-{seed}"
        epochs = read_epochs(run / "epochs.csv")
        write_epochs(run / "epochs.csv", [replace(one, train_seconds=2 * one.train_seconds) for one in epochs])
        told = json.loads((run / "run.json").read_text())
        told["measurements"]["noise_warning"] = "other work took 50% of the CPUs"
        (run / "run.json").write_text(json.dumps(told))
    collect(folder)
    results = Results.read(folder)
    row = make_tables(results)["comparisons"].data.iloc[0]
    assert row["clean_pairs"] == 6 and row["speed_verdict"].startswith("1.1") and row["speed_low"] > 1
    assert row["speed_of_all"] < 1 and row["speed_of_all_low"] < 1
    told = verdict(results, make_tables(results))[0]
    assert re.match(r"torch trained 1\.1\d times as fast as keras-tensorflow \[.*\] \(over all runs 0\.9\d\)", told)


def test_a_run_whose_loss_is_not_finite_never_wins(tmp_path):
    diverged = {("torch", seed): {"checks": {"losses_finite": False}} for seed in range(6)}
    results = changed(tmp_path / "s", diverged)
    board = make_tables(results)["leaderboard"]
    assert board.data["fastest"].tolist() == ["keras-tensorflow"] * 2 and "6 diverged" in board.shown["remarks"].iloc[1]
    told = " ".join(verdict(results, make_tables(results)))
    assert "In 6 of 12 runs a loss was not finite" in told and "as fast as" not in told


def test_a_case_whose_first_losses_are_not_the_others_is_barred_from_claims(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax", "keras-tensorflow"], seeds=range(6), steps=20)
    file = folder / "runs/jax/seed-3/steps.npz"
    steps = load_arrays(file)
    steps["loss"][4] += 1e-4
    save_arrays(file, steps)
    collect(folder)
    results = Results.read(folder)
    runs = results.runs.set_index(["case", "seed"])
    assert runs["incoherent"].notna().sum() == 1
    assert re.fullmatch(r"loss differs from torch by 1\.0e-04 in step 5, allowed 2e-05", runs.loc[("jax", 3), "incoherent"])
    tables = make_tables(results)
    told = " ".join(verdict(results, tables))
    assert "Nothing is claimed of jax: from the same start its loss differs from torch" in told
    assert "torch trained 1.1" in told and "as fast as jax" not in told
    assert "barred from claims" in tables["leaderboard"].shown.set_index("case").loc["jax", "remarks"]


def test_of_two_that_disagree_neither_is_trusted(tmp_path):
    folder = make_study(tmp_path / "s", seeds=range(4), steps=20)
    file = folder / "runs/torch/seed-0/steps.npz"
    steps = load_arrays(file)
    steps["loss"][0] = np.nan
    save_arrays(file, steps)
    collect(folder)
    results = Results.read(folder)
    assert results.runs["incoherent"].notna().sum() == 2
    assert "as fast as" not in " ".join(verdict(results, make_tables(results)))


def test_a_twin_shows_the_noise_floor_and_a_smaller_ratio_is_no_claim(tmp_path):
    results = made(tmp_path / "s", cases=["torch", "torch-compile", "jax"], seeds=range(12), steps=20, twin=True)
    assert results.twins == {"torch-twin": "torch"} and made(tmp_path / "plain").twins == {}
    tables = make_tables(results)
    data, told = tables["comparisons"].data, " ".join(verdict(results, tables))
    assert set(data["family"]) == {3} and not (data[["case", "against"]] == "torch-twin").any().any()
    assert "Noise floor: torch" in told and "torch-twin" not in tables["leaderboard"].data["fastest"].tolist()
    assert tables["leaderboard"].data.set_index("case").loc["torch-twin", "rank"] == ""
    small = replace(pairs_of_cases(results)[0], speed=Estimate(1.01, 1.005, 1.015, 0.001, 12), floor=1.02)
    assert not small.faster and small.verdict == "within the noise floor of 1.02: 1.01 times [1.00, 1.01]"


def test_without_clean_pairs_of_the_twin_the_noise_floor_is_not_known_and_nothing_is_claimed(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax"], seeds=range(6), steps=20, twin=True)
    for file in folder.glob("runs/torch-twin/*/run.json"):
        file.write_text(file.read_text().replace('"noise_warning": null', '"noise_warning": "other work took 20% of the CPUs"'))
    collect(folder)
    results = Results.read(folder)
    assert list(floors(results).values()) == [np.inf] and smallest_shown(results) == [None]
    tables = make_tables(results)
    told = " ".join(verdict(results, tables))
    assert "have 0 clean pairs of 6, too few: it is not known, and nothing is claimed of speed." in told
    assert (
        "times as fast" not in told
        and "within a noise floor that is not known" in tables["comparisons"].data["speed_verdict"][0]
    )
    assert not tables["comparisons"].data[
        "faster"
    ].any() and "; where too few of its pairs are clean no ratio is one" in " ".join(tables["leaderboard"].notes)


def test_a_study_of_sizes_has_a_twin_at_each(tmp_path):
    results = made(tmp_path / "s", cases=["torch", "jax"], vary={"length": [100, 200]}, twin=True)
    assert results.twins == {f"torch-twin+length={size}": f"torch+length={size}" for size in (100, 200)}
    told = verdict(results, make_tables(results))
    assert told[0] == "Fastest by tokens a sequence: torch at 100 and 200." and sum("Noise floor" in one for one in told) == 2


def test_what_more_seeds_would_tell_is_a_number(tmp_path):
    told = " ".join(said(tmp_path / "s", cases=["torch", "torch-compile"], seeds=range(3)))
    assert re.search(r"80 % power.*: a ratio of times of 1\.\d\d from 3 clean pairs", told)
    assert "more seeds would tell" not in told and "equivalent within 0.5 points" in told
    assert "equivalence within" not in told, "what was shown needs no more seeds"
    foretold = " ".join(enough(made(tmp_path / "t", cases=["torch", "torch-compile"], seeds=range(3))))
    assert re.search(r"equivalence within 0\.5 points takes \d+ seeds\.", foretold)


@pytest.mark.parametrize(
    "options",
    [
        {"cases": ["torch"], "seeds": [0]},
        {
            "failures": {(case, seed): "failed" for case in ("keras-tensorflow", "torch") for seed in range(3)},
            "seeds": range(3),
        },
        {"cases": EVERY_KIND, "seeds": [0]},
    ],
    ids=["one run", "none finished", "one seed of every kind"],
)
def test_one_run_or_none_is_told(tmp_path, options):
    assert said(tmp_path / "s", **options)


def test_figures_that_are_not_finite_are_told(tmp_path):
    folder = make_study(tmp_path / "s", cases=EVERY_KIND, seeds=range(3), steps=5)
    run = folder / "runs/torch/seed-1"
    epochs = read_epochs(run / "epochs.csv")
    lost = {"train_loss": float("nan"), "validation_loss": float("inf")}  # an accuracy is a share, of NaN as well
    write_epochs(run / "epochs.csv", [replace(one, **lost) for one in epochs])
    collect(folder)
    results = Results.read(folder)
    tables = make_tables(results)
    assert verdict(results, tables) and all(table.markdown and table.latex for table in tables.values())
    row = tables["comparisons"].data.query("case == 'torch' and matched").iloc[0]
    assert row["pairs"] == 3


def test_what_is_said_to_be_equal_is(tmp_path):
    assert "For each seed all cases start from the same" in measured_on(made(tmp_path / "a"))
    assert "For each seed" not in measured_on(made(tmp_path / "b", cases=["torch"]))
    own = {"backend": "torch", "departures": ["naive-init"]}
    assert "matched cases of one protocol" in measured_on(made(tmp_path / "c", cases=["torch", "jax", own]))
    assert "For each seed" not in measured_on(made(tmp_path / "d", cases=["torch", own]))


def test_what_was_published_is_said_beside_what_repeating_and_matching_it_gave(tmp_path):
    results = made(tmp_path / "s", cases=TRANSFORMERS, steps=782, protocol={"model": "transformer"}, seeds=[0, 1, 2])
    (told,) = (one for one in verdict(results, make_tables(results)) if one.startswith("Published"))
    assert re.fullmatch(
        r"Published validation accuracies: Keras 0\.8745 after epoch 2 and JAX 0\.8508 after epoch 10; the same programs here: "
        r"Keras 0\.\d{4} after epoch 2 and JAX 0\.\d{4} after epoch 10; one program in both frameworks: "
        r"Keras 0\.\d{4} and JAX 0\.\d{4} after epoch 2\.",
        told,
    )
    assert (
        ", 2 or 10 epochs, 3 seeds, 1 session on 1 host. For each seed matched cases of one protocol start from"
        in measured_on(results)
    )
    assert "Published" not in " ".join(said(tmp_path / "few", cases=TRANSFORMERS, steps=40, protocol={"model": "transformer"}))


def test_what_was_trained_for_other_epochs_is_told_apart_from_what_departures_are_worth(tmp_path):
    told = said(tmp_path / "s", cases=TRANSFORMERS, steps=782, protocol={"model": "transformer"}, seeds=range(6))
    (longer,) = (one for one in told if one.startswith("jax-tutorial is told after 10 epochs, flax after 2: "))
    assert re.search(r"their validation accuracies are [+-]\d+\.\d\d points apart \[[+-][\d.]+, [+-][\d.]+\]\.$", longer)
    assert sum(one.startswith("keras-example ") and "the validation accuracy" in one for one in told) == 1


def test_beside_several_models_another_protocol_is_told_too(tmp_path):
    cases = [
        "torch",
        "jax",
        *({"backend": one, "name": f"{one}-bf16", "settings": {"precision": "bfloat16"}} for one in ("torch", "jax")),
    ]
    told = " ".join(said(tmp_path / "s", cases=cases, vary={"model": ["bilstm", "cnn"]}, seeds=range(6)))
    assert told.startswith("Fastest by model: bilstm torch,") and "precision bfloat16: " in told


def test_of_several_models_and_sessions_each_sessions_ratio_is_told(tmp_path):
    folder = make_study(tmp_path / "s", ["torch", "jax"], vary={"model": ["bilstm", "cnn"]}, seeds=range(6), steps=5)
    for seed in range(3, 6):
        for file in folder.glob(f"runs/*/seed-{seed}/run.json"):
            values = json.loads(file.read_text())
            values["machine"]["boot"] = "another"
            file.write_text(json.dumps(values))
    collect(folder)
    results = Results.read(folder)
    first, second, *_ = verdict(results, make_tables(results))
    assert len(re.findall(r"\] \(by session \d\.\d\d and \d\.\d\d\)", first)) == 2
    assert "from 6 clean pairs of seeds of 2 sessions" in second


def test_noise_bounds_what_a_study_could_show_and_what_a_departure_is_worth(tmp_path):
    cases = ["torch", "jax", {"backend": "torch", "departures": ["clip-norm"]}]
    results = made(tmp_path / "s", cases=cases, seeds=range(12), steps=20, twin=True)
    (floor,) = floors(results).values()
    assert 1 < floor < 1.2
    assert (
        smallest_shown(results) == [pytest.approx(max(floor, smallest_shown(results)[0]))]
        and smallest_shown(results)[0] >= floor
    )
    row = departures(results).data.iloc[0]
    assert row["time_floor"] == floor
    for value, words in ((0.5 * (1 + floor), f", within the noise floor of {floor:.2f}"), (2 * floor, "")):
        low, high = (1 + value) / 2, 2 * value
        assert _noise({"time": value, "time_low": low, "time_high": high, "time_floor": floor}) == words
        assert _noise({"time": 1 / value, "time_low": 1 / high, "time_high": 1 / low, "time_floor": floor}) == words
    assert _noise({"time": 1.0, "time_low": None, "time_high": None, "time_floor": floor}) == ""
