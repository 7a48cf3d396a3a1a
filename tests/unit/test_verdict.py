"""The verdict in words speaks of matched cases alone; what departures do is told apart."""

import json
import re

from made_study import EVERY_KIND, TRANSFORMERS, make_study

from levelfield.tell.collect import collect
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

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
    assert accuracy.startswith("All learn equally well")  # where the six pairs of the table do not


def test_without_two_matched_cases_nobody_is_called_faster(tmp_path):
    results = made(tmp_path / "s", cases=ARTICLE)
    tables = make_tables(results)
    told = " ".join(verdict(results, tables))
    assert not tables["comparisons"].data["matched"].any()
    assert "No two cases here may be compared as equals" in told and "times as fast" not in told


def test_one_matched_case_beside_two_with_departures_is_not_compared(tmp_path):
    told = " ".join(said(tmp_path / "s", cases=["torch", *ARTICLE]))
    assert "times as fast" not in told and "equally well" not in told


def test_where_a_loss_did_not_fall_nothing_is_claimed_about_learning(tmp_path):
    folder = make_study(tmp_path / "s", cases=["torch", "jax"], seeds=range(4), steps=5)
    file = folder / "runs/jax/seed-2/run.json"
    run = json.loads(file.read_text())
    file.write_text(json.dumps(run | {"checks": run["checks"] | {"losses_fell": False}}))
    collect(folder)
    results = Results.read(folder)
    told = " ".join(verdict(results, make_tables(results)))
    assert "in 1 of 8 runs the loss did not fall" in told and "equally well" not in told and "times as fast" in told


def test_of_a_study_that_varies_a_size_the_fastest_at_each_is_named(tmp_path):
    sizes, seeds, *_ = said(tmp_path / "s", cases=["jax", "torch"], vary={"length": [100, 200]}, seeds=[0, 1])
    assert sizes == "Fastest by tokens a sequence: torch at 100 and 200."
    assert seeds.startswith("Means over 2 seeds;")


MODELS = {"model": ["bilstm", "transformer", "cnn"]}


def test_of_several_models_the_fastest_with_each_is_named(tmp_path):
    fastest, rest, *others = said(tmp_path / "s", cases=["keras-tensorflow", "torch", "jax"], vary=MODELS)
    interval = r"\[\d\.\d\d, \d\.\d\d\]"
    assert re.fullmatch(
        rf"Fastest by model: bilstm torch, 1\.1\d times as fast as the next {interval}; "
        rf"transformer jax, 1\.4\d times {interval}; cnn keras-tensorflow, 1\.7\d times {interval}\.",
        fastest,
    )
    assert rest == "In brackets 95 % intervals from 4 pairs of seeds; models are not compared with each other."
    assert others[0].startswith("With each model all learn equally well")


def test_a_tie_and_too_few_pairs_are_said(tmp_path):
    fastest, *_ = said(tmp_path / "tie", cases=["torch", {"backend": "torch", "name": "twin"}], vary=MODELS)
    assert re.search(r"bilstm (torch or twin|twin or torch), no difference shown: 1\.0\d times \[[01]\.\d\d, 1\.0\d\]", fastest)
    fastest, rest, *_ = said(tmp_path / "few", cases=["jax", "torch"], vary=MODELS, seeds=[0, 1])
    assert fastest.count("(too few pairs)") == 3 and rest == "Models are not compared with each other."


def test_a_model_with_one_finished_case_has_no_fastest(tmp_path):
    failures = {("jax+model=cnn", seed): "failed" for seed in range(4)}
    told = said(tmp_path / "s", cases=["jax", "torch"], vary=MODELS, failures=failures)
    assert "cnn" not in told[0] and told[-1] == "Of 24 runs, 4 failed."


def test_what_was_published_is_said_beside_what_repeating_and_matching_it_gave(tmp_path):
    results = made(tmp_path / "s", cases=TRANSFORMERS, steps=782, protocol={"model": "transformer"}, seeds=[0, 1, 2])
    *_, told = verdict(results, make_tables(results))
    assert re.fullmatch(
        r"Published validation accuracies: Keras 0\.8745 after epoch 2 and JAX 0\.8508 after epoch 10; the same programs here: "
        r"Keras 0\.\d{4} after epoch 2 and JAX 0\.\d{4} after epoch 10; one program in both frameworks: "
        r"Keras 0\.\d{4} and JAX 0\.\d{4} after epoch 2\.",
        told,
    )
    assert ", 2 or 10 epochs, 3 seeds. For each seed matched cases of one protocol start from" in measured_on(results)
    assert "Published" not in " ".join(said(tmp_path / "few", cases=TRANSFORMERS, steps=40, protocol={"model": "transformer"}))
