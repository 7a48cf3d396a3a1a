"""The figure of the data shows what `data.json` tells: labels, lengths, padding, truncation, unknown words, duplicates."""

import json

import pytest
import yaml
from made_study import make_study

from levelfield.commands.cli import main
from levelfield.tell.collect import collect
from levelfield.tell.figures import OPTIONAL
from levelfield.tell.figures.data import MOST_LABELS, label_rows, length_rows, panels, share_rows, told
from levelfield.tell.figures.theme import Look, render
from levelfield.tell.report.render import page
from levelfield.tell.results import Results

TEXTS = {"yes": ["good film"] * 12 + ["one two three four five six seven eight"] * 4, "no": ["bad film"] * 23 + [""]}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The `data.json` of a small CSV, read as a study reads it."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'"{text}",{label}\n' for label, texts in TEXTS.items() for text in texts)
    (tmp_path / "small.csv").write_text("text,label\n" + rows)
    settings = json.dumps({"source": "text", "file": "small.csv", "title": "A <small> one", "validation_share": 0.25})
    assert main(["data", "--settings", settings, "--length", "4", "--out", "out"]) == 0
    return json.loads((tmp_path / "out/data.json").read_text())


def test_every_text_is_in_a_label_and_in_a_length(data):
    labels, lengths = label_rows(data), length_rows(data)
    for part, word in (("train", "training"), ("validation", "validation")):
        count = data[f"{part}_sequences"]
        assert sum(row["texts"] for row in labels if row["part"] == word) == count == sum(data[f"{part}_lengths"]["texts"])
        assert sum(row["share"] for row in lengths if row["part"] == word) == pytest.approx(1)
    assert {(row["label"], row["texts"]) for row in labels if row["part"] == "training"} == {("no", 18), ("yes", 12)}


def test_shares_are_those_that_are_told(data):
    rows = {(row["what"], row["part"]): row["share"] for row in share_rows(data)}
    assert rows["padding", "training"] == data["train_padding_share"] > 0
    assert rows["truncated", "training"] == data["train_truncated_share"]
    assert rows["duplicates in training", "validation"] == data["validation_also_in_train"] / data["validation_sequences"]
    assert len(rows) == 10


def test_tokens_made_elsewhere_have_no_unknown_words_to_show(data):
    rows = share_rows(data | {"train_unknown_share": None, "validation_unknown_share": None})
    assert "unknown words" not in {row["what"] for row in rows} and len(rows) == 8


def test_of_very_many_labels_the_largest_are_shown(data):
    counts = {f"label {n}": n for n in range(300)}
    rows = label_rows(data | {"train_classes": counts, "validation_classes": counts})
    assert [row["label"] for row in rows[::2]] == [f"label {n}" for n in range(299, 299 - MOST_LABELS, -1)]


def test_the_figure_is_the_same_bytes_from_the_same_data(data):
    first, second = (render(told(data, Look())) for _ in range(2))
    assert first == second and b"A &lt;small> one" in first[0].encode().replace(b"&gt;", b">")


def test_levelfield_data_draws_it(data, tmp_path, capsys):
    config = {"study": "s", "data": {"source": "text", "file": "small.csv"}, "protocol": {"length": 4}, "cases": ["torch"]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(config))
    for name, begin in (("plot.svg", b"<svg"), ("plot.png", b"\x89PNG")):
        assert main(["data", "s.yaml", "--plot", name]) == 0
        assert (tmp_path / name).read_bytes().startswith(begin)
    assert main(["data", "s.yaml", "--plot", "plot.gif"]) == 2 and "a .svg or a .png" in capsys.readouterr().err


def test_page_and_figures_have_it_where_the_data_tell_it(data, tmp_path):
    folder = make_study(tmp_path / "study", steps=5)
    collect(folder)
    file = folder / "data/data.json"
    earlier = json.loads(file.read_text())
    file.write_text(json.dumps(data | earlier))
    results = Results.read(folder)
    made = page(results)
    assert OPTIONAL["data"](results, Look()) is not None
    assert 'id="data-lengths"' in made and "Words of a text" in made and "no 18 (training)" in made
    file.write_text(json.dumps(earlier))  # as an earlier version told it
    results = Results.read(folder)
    assert panels(earlier) == {} and OPTIONAL["data"](results, Look()) is None and 'id="data-lengths"' not in page(results)
