"""Tables say what was compared on what, show what failed, claim nothing that was not shown, and can be typeset."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from made_study import EVERY_KIND, TRANSFORMERS, make_study

from levelfield.records import read_epochs, write_epochs
from levelfield.study.published import BILSTM
from levelfield.tell.collect import collect
from levelfield.tell.readme import readme, write_readme
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables
from levelfield.tell.tables.groups import finished
from levelfield.tell.tables.table import SUFFIXES, Table


def results_of(folder) -> Results:
    collect(folder)
    return Results.read(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All kinds of cases, with failures, collected."""
    failures = {("keras-tensorflow", 4): "failed", "jax": "failed-parity"}
    folder = make_study(tmp_path_factory.mktemp("tables") / "whole", EVERY_KIND, seeds=range(5), steps=20, failures=failures)
    collect(folder)
    return folder


@pytest.fixture(scope="module")
def tables(whole):
    return make_tables(results_of(whole))


def test_titles_name_corpus_seeds_and_machine(tables):
    for name in ("leaderboard", "training", "validation", "performance", "comparisons", "departures"):
        assert tables[name].title.endswith("IMDB, 616 training sequences · Made Processor 9000, 2 threads · 5 seeds")


def test_the_leaderboard_shows_the_fastest_first_and_failures_last(tables):
    board = tables["leaderboard"]
    assert board.data["case"].tolist()[:2] == ["torch", "keras-tensorflow"]
    assert board.data["case"].tolist()[-1] == "jax"
    shown = board.shown.set_index("case")
    assert shown.loc["torch", "time, fastest = 1"] == "1"
    assert re.fullmatch(r"1\.1\d \[1\.1\d, 1\.1\d\]", shown.loc["keras-tensorflow", "time, fastest = 1"])
    assert shown.loc["keras-tensorflow", "seeds"] == "4 of 5"
    assert shown.loc["keras-tensorflow", "remarks"].startswith("1 failed: MemoryError")
    assert shown.loc["jax", "remarks"].startswith("5 failed parity: ")
    assert shown.loc["jax", "parity"] == "missed"


@pytest.mark.parametrize(
    ("corpus", "missed"), [("VADER movie-review snippets", "checks missed: losses_fell (1); "), ("synthetic sequences", "")]
)
def test_a_missed_check_is_told_but_nothing_needs_to_be_learnt_from_synthetic_sequences(tmp_path, corpus, missed):
    folder = make_study(tmp_path / "s", steps=5, corpus=corpus)
    file = folder / "runs/torch/seed-0/run.json"
    run = json.loads(file.read_text())
    run["checks"]["losses_fell"], run["measurements"]["noise_warning"] = False, "other work took 40% of the CPUs"
    file.write_text(json.dumps(run))
    remarks = make_tables(results_of(folder))["leaderboard"].shown.set_index("case").loc["torch", "remarks"]
    assert remarks == f"{missed}1 unclean: other work took 40% of the CPUs"


@pytest.fixture(scope="module")
def article(tmp_path_factory):
    """The article's two programs and the matched cases, on as many sequences as the article's."""
    return make_tables(results_of(make_study(tmp_path_factory.mktemp("tables") / "article", EVERY_KIND, seeds=[0])))


def test_training_stands_beside_the_published_figures_and_their_correction(article):
    tables = article
    rows = tables["training"].data.set_index(["case", "epoch"])
    assert rows.loc[("torch", 2), "published_train_loss"] == 0.3962
    assert rows.loc[("torch", 2), "published_corrected_train_loss"] == 0.3043
    assert rows.loc[("torch", 2), "published_corrected_train_accuracy"] == 0.8790
    assert rows.loc[("keras-tensorflow", 2), "published_corrected_train_accuracy"] == 0.8880
    assert pd.isna(rows.loc[("torch+second-bias", 1), "published_train_loss"])
    assert BILSTM.corrected("PyTorch", "validation_loss") == BILSTM.reported["PyTorch"]["validation_loss"]


def test_another_corpus_is_not_set_beside_what_was_published(tmp_path):
    results = results_of(make_study(tmp_path / "s", corpus="VADER movie-review snippets", steps=5))
    tables = make_tables(results)
    assert tables["training"].data["published_train_loss"].isna().all()
    assert "published loss" not in tables["training"].shown
    assert "not IMDB" in tables["leaderboard"].title
    assert "**This is not IMDB**" in readme(results, tables)


def test_a_study_of_fewer_reviews_is_not_set_beside_what_was_published(tables):
    assert tables["training"].data["published_train_loss"].isna().all()
    assert any(
        "published figures are of 25,000 training and as many validation sequences of IMDB and are left out" in note
        for note in tables["training"].notes
    )
    programs = tables["published"]
    assert programs.data["published"].isna().all() and programs.data["reproduced"].notna().any()
    assert [*programs.shown.columns[3:]] == ["its program", "its program, corrected", "matched"]


def test_the_article_is_published_reproduced_and_corrected(article):
    rows = article["published"].data.set_index(["side", "figure", "epoch"])
    second = rows.loc[("PyTorch", "train_loss", 2)]
    assert (second["published"], second["published_corrected"]) == (0.3962, 0.3043)
    first = rows.loc[("PyTorch", "train_loss", 1)]
    assert second["reproduced"] == pytest.approx((first["reproduced"] + second["reproduced_corrected"]) / 2)


@pytest.fixture(scope="module")
def transformers(tmp_path_factory):
    """The two published programs of the Transformer, of 2 and 10 epochs, and the matched cases."""
    folder = tmp_path_factory.mktemp("tables") / "s"
    return results_of(make_study(folder, TRANSFORMERS, protocol={"model": "transformer"}))


def test_programs_of_different_numbers_of_epochs_stand_beside_what_was_published(transformers):
    table = make_tables(transformers)["published"]
    rows = table.data.set_index(["side", "epoch"])
    assert [*rows.index] == [("Keras", 1), ("Keras", 2), ("JAX", 1), ("JAX", 2), ("JAX", 10)]
    assert rows["published"].dropna().tolist() == [0.8444, 0.8745, 0.5576, 0.8508]
    assert rows["reproduced"].notna().all() and rows["matched"].isna().tolist() == [False] * 4 + [True]
    last = transformers.epochs.query("case == 'jax-tutorial' and epoch == 10")["validation_accuracy"]
    assert rows.loc[("JAX", 10), "reproduced"] == pytest.approx(last.mean())
    assert "corrected" not in table.shown and "hardware that is not stated" in table.notes[-1]


def test_figures_of_another_model_stand_beside_nothing(tmp_path, transformers):
    validation = make_tables(transformers)["validation"].data.set_index(["case", "epoch"])
    assert validation.loc[("jax-tutorial", 10), "published_validation_accuracy"] == 0.8508
    assert validation.loc[("flax", 1), "published_validation_accuracy"] == 0.5576
    other = make_tables(results_of(make_study(tmp_path / "s", protocol={"model": "cnn"}, steps=5)))
    assert other["validation"].data["published_validation_accuracy"].isna().all() and "published" not in other
    assert len(other["validation"].notes) == 1


def test_a_setting_of_its_own_is_priced_against_the_backends_matched_case(tmp_path, transformers):
    rows = make_tables(transformers)["departures"].data.set_index("case")
    assert rows.loc["jax-tutorial", "matched"] == "flax"
    assert rows.loc["jax-tutorial", "settings"] == "learning_rate 0.0001, batch_size 128, epochs 10"
    assert rows.loc["keras-example", "settings"] == ""
    settings = [{"batch_size": 64}, {"learning_rate": 0.01}, {"precision": "bfloat16"}]
    both = {"backend": "torch", "settings": settings[0], "departures": ["clip-norm"]}
    cases = ["torch", "jax", *({"backend": "torch", "settings": own} for own in settings), both]
    tables = make_tables(results_of(make_study(tmp_path / "s", cases, steps=40)))
    rows = tables["departures"].data.set_index("case")
    assert rows["matched"].to_dict() == {
        "torch+batch_size=64": "torch",
        "torch+learning_rate=0.01": "torch",
        "torch+clip-norm+batch_size=64": "torch+batch_size=64",  # the departure alone
    }
    found = finished(Results.read(tmp_path / "s")).set_index(["case", "seed"])["epoch_seconds"]
    times = found["torch+batch_size=64"] / found["torch"]
    assert rows.loc["torch+batch_size=64", "time"] == pytest.approx(np.exp(np.log(times).mean()))
    compared = tables["comparisons"].data
    assert set(zip(compared["case"], compared["against"], strict=True)) == {("torch", "jax")}
    assert tables["departures"].title.startswith("What each departure or setting is worth: ")


def test_a_loss_that_is_another_function_is_compared_with_none(transformers):
    table = make_tables(transformers)["departures"]
    rows = table.data.set_index("case")
    assert rows.loc["jax-tutorial", ["validation_loss", "train_loss"]].isna().all()
    assert rows.loc["keras-example", ["validation_loss", "train_loss", "validation_accuracy"]].notna().all()
    assert rows[["epochs", "matched_epochs"]].to_numpy().tolist() == [[2, 2], [10, 2]]
    assert table.shown.set_index("case").loc["jax-tutorial", "validation loss"] == ""
    assert "The loss of jax-tutorial is another function, and is compared with none." in table.notes


def test_sizes_that_a_study_varies_are_not_priced(tmp_path):
    cases = ["torch", {"backend": "torch", "name": "other", "settings": {"learning_rate": 0.01}}]
    tables = make_tables(results_of(make_study(tmp_path / "s", cases, vary={"batch_size": [16, 32]}, steps=5)))
    matched = tables["departures"].data.set_index("case")["matched"].to_dict()
    assert matched == {f"other+batch_size={size}": f"torch+batch_size={size}" for size in (16, 32)}


def test_a_case_without_another_of_its_protocol_is_no_fastest(transformers):
    board = make_tables(transformers)["leaderboard"].data.set_index("case")
    assert pd.isna(board.loc["jax-tutorial", "times_fastest"]) and board.loc["keras-example", "fastest"] == "flax"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "s"
    vary = {"model": ["bilstm", "transformer", "cnn"]}
    return make_tables(results_of(make_study(folder, ["keras-tensorflow", "torch", "jax"], vary=vary, steps=5)))


def test_rows_of_one_model_stand_together(models):
    board = models["leaderboard"]
    assert board.data["model"].tolist() == ["bilstm"] * 3 + ["transformer"] * 3 + ["cnn"] * 3
    assert board.data["times_fastest"].tolist()[::3] == [1, 1, 1] and list(board.shown)[:2] == ["case", "model"]
    fastest = board.data["fastest"].tolist()[::3]
    assert fastest == ["torch+model=bilstm", "jax+model=transformer", "keras-tensorflow+model=cnn"]


def test_models_are_not_compared_with_each_other(models):
    data = models["comparisons"].data
    assert len(data) == 9 and all(
        case.split("=")[1] == against.split("=")[1] for case, against in zip(data["case"], data["against"], strict=True)
    )
    assert "published" not in models and models["training"].data["published_train_loss"].isna().all()


def test_a_kernel_is_named_after_the_model_and_gradients_of_another_are_left_out(models, tables, transformers):
    assert "kernel" in models["performance"].shown and "LSTM kernel" in tables["performance"].shown
    assert "attention kernel" in make_tables(transformers)["performance"].shown
    shown = models["gradients"].shown.set_index("parameter")
    assert shown.loc["conv_1/kernel", "torch+model=bilstm"] == "" != shown.loc["conv_1/kernel", "torch+model=cnn"]


def test_comparisons_are_between_equals_the_faster_first(tables):
    data = tables["comparisons"].data
    found = set(zip(data["case"], data["against"], strict=True))
    assert ("torch", "keras-tensorflow") in found
    assert ("torch-article", "keras-article") in found
    assert not any(case == "torch" and "second-bias" in against for case, against in found)
    assert (data["speed"] >= 1).all()
    row = data[(data["case"] == "torch") & data["matched"]].iloc[0]
    assert row["pairs"] == 4 and re.fullmatch(r"1\.1\d times as fast \[1\.1\d, 1\.1\d\]", row["speed_verdict"])
    assert set(data["family"]) == {1, 3} and "(1 or 3)" in tables["comparisons"].notes[0]


def test_two_seeds_are_not_enough(tmp_path):
    tables = make_tables(results_of(make_study(tmp_path / "s", seeds=[0, 1], steps=5)))
    assert tables["comparisons"].data["speed_verdict"][0].endswith("times, no claim: not enough seeds to say")
    assert "not enough seeds to say" in tables["leaderboard"].markdown


def test_two_cases_without_a_seed_in_common_are_not_compared(tmp_path):
    failures = {("torch", 1): "failed", ("torch", 2): "failed", ("keras-tensorflow", 0): "failed"}
    tables = make_tables(results_of(make_study(tmp_path / "s", steps=5, failures=failures)))
    assert "no seed in common" in tables["leaderboard"].shown["time, fastest = 1"].tolist()


def test_a_case_that_diverged_or_is_barred_has_no_rank(tmp_path):
    folder = make_study(tmp_path / "s", ["torch", "jax", "keras-tensorflow"], seeds=range(4), steps=20)
    for file in folder.glob("runs/torch/*/run.json"):
        run = json.loads(file.read_text())
        run["checks"]["losses_finite"] = False
        file.write_text(json.dumps(run))
    board = make_tables(results_of(folder))["leaderboard"].data.set_index("case")
    assert board["rank"].to_dict() == {"keras-tensorflow": "1–2", "jax": "1–2", "torch": ""} or set(
        board["rank"].drop("torch")
    ) <= {"1", "2", "1–2"}
    assert board.loc["torch", "rank"] == ""


def test_what_is_not_finite_in_some_run_is_no_effect_over_the_others(tmp_path):
    folder = make_study(tmp_path / "s", EVERY_KIND, seeds=range(5), steps=5)
    run = folder / "runs/torch+naive-init/seed-1"
    epochs = read_epochs(run / "epochs.csv")
    write_epochs(run / "epochs.csv", [replace(one, validation_loss=float("inf")) for one in epochs])
    row = make_tables(results_of(folder))["departures"].data.set_index("case").loc["torch+naive-init"]
    assert pd.isna(row["validation_loss_low"]) and pd.notna(row["validation_accuracy_low"])


def test_two_gpus_are_never_compared_without_a_warning(tmp_path):
    gpus = {"torch": "Tesla V100", "jax": "A100", "keras-tensorflow": "A100"}
    tables = make_tables(results_of(make_study(tmp_path / "s", ["torch", "jax", "keras-tensorflow"], gpus=gpus, steps=5)))
    data = tables["comparisons"].data.set_index(["case", "against"])
    assert data.loc[("torch", "jax"), "warning"] == "different machines: Tesla V100 against A100"
    assert data.loc[("keras-tensorflow", "jax"), "warning"] == ""
    board = tables["leaderboard"].data.set_index("case")
    assert board.loc["jax", "fastest"] == "keras-tensorflow" and pd.isna(board.loc["torch", "fastest"])
    assert "Compare rows of one machine alone" in " ".join(tables["leaderboard"].notes)


def test_what_a_departure_is_worth_is_paired_with_the_matched_case(tables):
    rows = tables["departures"].data.set_index("case")
    naive = rows.loc["torch+naive-init"]
    assert naive["matched"] == "torch" and naive["pairs"] == 5
    assert naive["validation_loss_low"] > 0.05 and naive["validation_accuracy_high"] < -0.03
    assert rows.loc["keras-article", "matched"] == "keras-tensorflow"


def test_the_second_bias_is_explained(tables):
    rows = tables["parameters"].data.set_index("case")
    assert rows.loc["torch", "difference"] == 0
    assert (rows.loc["torch+second-bias", "difference"], rows.loc["torch+second-bias", "parameters"]) == (1_024, 2_758_785)
    assert "4 gates × 64 units = 1,024" in rows.loc["torch+second-bias", "explanation"]


def test_parity_is_shown_with_bounds(tables):
    rows = tables["parity"].data.set_index(["case", "distance"])
    assert rows.loc[("torch", "probabilities"), "bound"] == 1e-6
    assert tables["parity"].shown.set_index("case").loc["jax", "probabilities"] == "4.1e-03 (missed)"
    assert len(tables["gradients"].shown) == 15


def test_what_was_not_measured_is_empty(tables):
    assert tables["performance"].data["nvml_peak_bytes"].isna().all()
    assert (tables["performance"].shown["GPU by NVML, GB"] == "").all()


def test_the_machines_drift_is_told(tables):
    (note,) = (note for note in tables["performance"].notes if note.startswith("Drift"))
    assert re.search(r"over 0\.\d hours its epochs became \d+\.\d% (longer|shorter)\.", note), note


def test_all_four_forms_are_written_and_agree(whole, tables):
    write_readme(whole)
    for name, table in tables.items():
        for suffix in SUFFIXES:
            assert (whole / "tables" / f"{name}.{suffix}").stat().st_size
        assert len(pd.read_parquet(whole / "tables" / f"{name}.parquet")) == len(table.data)
        assert list(pd.read_csv(whole / "tables" / f"{name}.csv").columns) == list(table.data.columns)


def test_a_table_that_a_study_no_longer_has_goes(whole):
    write_readme(whole)
    stale = whole / "tables" / "published.md"
    results = results_of(make_study(whole.parent / "plain", steps=5))
    (results.folder / "tables").mkdir()
    shutil.copy(stale, results.folder / "tables")
    shutil.copy(stale, results.folder / "tables" / "article.md")  # as an earlier version called it
    write_readme(results.folder)
    assert not (results.folder / "tables" / "article.md").exists()
    assert not (results.folder / "tables" / "published.md").exists()


def test_the_readme_links_to_files_that_are_there(whole):
    write_readme(whole)
    text = (whole / "README.md").read_text()
    for link in re.findall(r"\]\((tables/[^)]*)\)", text):
        assert (whole / link).exists()
    assert text.index("| torch ") < text.index("figures/time.svg") < text.index("## The rest")


def test_text_of_logs_is_never_markup(tmp_path):
    folder = make_study(tmp_path / "s", steps=5, failures={("torch", 0): "failed"})
    file = folder / "runs/torch/seed-0/failure.json"
    told = json.loads(file.read_text()) | {"error": "<script>x</script> a|b [c](http://d) 50% $_&#{~^\\ → \n| x"}
    file.write_text(json.dumps(told))
    write_results = results_of(folder)
    table = make_tables(write_results)["leaderboard"]
    assert "<script>" not in table.markdown and "a\\|b" in table.markdown and "[c](" not in table.markdown
    assert len([line for line in table.markdown.splitlines() if line.startswith("|")]) == 4
    assert r"50\% \$\_\&\#\{" in table.latex


def test_a_study_without_a_finished_run_has_a_readme(tmp_path):
    folder = make_study(tmp_path / "s", ["torch"], seeds=[0], steps=5, failures={("torch", 0): "missing"})
    results_of(folder)
    write_readme(folder)
    assert "1 missing" in (folder / "README.md").read_text()


def test_markdown_has_one_line_a_row():
    table = Table("x", "T", pd.DataFrame({"a": ["one\ntwo"]}), pd.DataFrame({"a": ["one\ntwo"]}))
    assert table.body.splitlines()[2] == "| one two |"


@pytest.mark.long
def test_the_latex_compiles(whole, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: apt-get install texlive-latex-base")
    write_readme(whole)
    files = sorted((whole / "tables").glob("*.tex"))
    inputs = "\n".join(f"\\input{{{file}}}\\clearpage" for file in files)
    (tmp_path / "all.tex").write_text(f"\\documentclass{{article}}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert len(files) == 12 and "Missing character" not in done.stdout


def test_what_a_gpus_figures_hold_and_the_known_fault_of_a_version_are_told(tmp_path):
    folder = make_study(
        tmp_path / "s", ["jax", "torch"], seeds=[0], steps=5, gpus={"jax": "Pretended GPU", "torch": "Pretended GPU"}
    )
    file = folder / "runs/jax/seed-0/run.json"
    run = json.loads(file.read_text())
    run["machine"]["flags"]["known_fault"] = "jax#38806: slow"
    file.write_text(json.dumps(run))
    collect(folder)
    notes = make_tables(Results.read(folder))["performance"].notes
    assert "Known fault of jax: jax#38806: slow." in notes
    assert any("may be that of compiling" in note for note in notes)
    collect(make_study(tmp_path / "cpu", ["jax"], seeds=[0], steps=5))
    notes = make_tables(Results.read(tmp_path / "cpu"))["performance"].notes
    assert not any("Known fault" in note or "compiling and" in note for note in notes)


def test_moments_written_in_several_ways_are_compared_as_moments(tmp_path):
    """To the second by earlier versions, to the millisecond by this one, with another zone by hand: one order, one drift."""
    folder = make_study(tmp_path / "s", steps=20)
    cases, whole = ("keras-tensorflow", "torch"), {}
    for number, file in enumerate(sorted(folder.glob("runs/*/seed-*/run.json"))):
        values = json.loads(file.read_text())
        whole[file] = values["started"]
        moment = datetime.fromisoformat(values["started"])
        written = [
            moment.isoformat(timespec="seconds"),
            moment.isoformat(timespec="milliseconds"),
            moment.astimezone(timezone(timedelta(hours=3))).isoformat(),
        ]
        file.write_text(json.dumps(values | {"started": written[number % 3]}))
    results = results_of(folder)
    assert set(finished(results)["case"]) == set(cases) and "performance" in make_tables(results)
    for file, started in whole.items():
        values = json.loads(file.read_text())
        file.write_text(json.dumps(values | {"started": started}))
    assert finished(results)["place"].tolist() == finished(results_of(folder))["place"].tolist()
