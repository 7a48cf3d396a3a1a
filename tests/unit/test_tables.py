"""Tables say what was compared on what, show what failed, claim nothing that was not shown, and can be typeset."""

import json
import re
import shutil
import subprocess

import pandas as pd
import pytest
from made_study import EVERY_KIND, make_study

from levelfield.study.published import BILSTM
from levelfield.tell.collect import collect
from levelfield.tell.readme import readme, write_readme
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables
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
    assert remarks == f"{missed}1 noisy: other work took 40% of the CPUs"


def test_training_stands_beside_the_published_figures_and_their_correction(tables):
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


def test_the_article_is_published_reproduced_and_corrected(tables):
    rows = tables["published"].data.set_index(["side", "figure", "epoch"])
    second = rows.loc[("PyTorch", "train_loss", 2)]
    assert (second["published"], second["published_corrected"]) == (0.3962, 0.3043)
    first = rows.loc[("PyTorch", "train_loss", 1)]
    assert second["reproduced"] == pytest.approx((first["reproduced"] + second["reproduced_corrected"]) / 2)


def test_comparisons_are_between_equals_the_faster_first(tables):
    data = tables["comparisons"].data
    found = set(zip(data["case"], data["against"], strict=True))
    assert ("torch", "keras-tensorflow") in found
    assert ("torch-article", "keras-article") in found
    assert not any(case == "torch" and "second-bias" in against for case, against in found)
    assert (data["speed"] >= 1).all()
    row = data[(data["case"] == "torch") & data["matched"]].iloc[0]
    assert row["pairs"] == 4 and re.fullmatch(r"1\.1\d times as fast \[1\.1\d, 1\.1\d\]", row["speed_verdict"])
    assert "for 4 pairs" in tables["comparisons"].notes[0]


def test_two_seeds_are_not_enough(tmp_path):
    tables = make_tables(results_of(make_study(tmp_path / "s", seeds=[0, 1], steps=5)))
    assert tables["comparisons"].data["speed_verdict"][0].endswith("times: not enough seeds to say")
    assert "not enough seeds to say" in tables["leaderboard"].markdown


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
    assert re.search(r"over 4\.0 hours its epochs became \d+\.\d% (longer|shorter)\.", note), note


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
    write_readme(results.folder)
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
    assert len(files) == 10 and "Missing character" not in done.stdout
