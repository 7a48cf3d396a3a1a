"""Own data: text in every form that it is kept in, words as Keras's `TextVectorization` makes them, and what is told before training."""

import json
import os
import re
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from own_data import KINDS, LABELS, TEXTS, csv, folder, saved, texts_of

from levelfield.commands.cli import main
from levelfield.data import formats
from levelfield.data.arrays import refuse_unfit
from levelfield.data.corpus import find_corpus
from levelfield.data.origin import checksum
from levelfield.data.prepare import Shape, prepare, review
from levelfield.data.rows import Rows
from levelfield.data.words import words
from levelfield.errors import UserError
from levelfield.study.config import Study, read_study
from levelfield.study.data import Data

SHAPE = Shape(vocabulary=50, length=6, padding="pre", truncation="pre")


def found(path, work=None, vocabulary=50, **settings):
    return find_corpus(path.parent / "downloads", Data(source="text", file=path, **settings), vocabulary=vocabulary, work=work)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    named = {} if name == "folder" else {"text": "review", "label": "stars"}
    corpus = found(KINDS[name](tmp_path / name), **named)
    assert corpus.labels == LABELS and (len(corpus.train), len(corpus.validation)) == (48, 12)
    everything = texts_of(corpus, corpus.train) + texts_of(corpus, corpus.validation)
    meant = [(f"film {n % 7} its {LABELS[n % 3]}", LABELS[n % 3]) for n in range(60)]
    assert sorted(everything) == sorted(meant)
    assert np.bincount(corpus.validation.labels).tolist() == [4, 4, 4], "a share of each label"
    assert (corpus.title, corpus.citation) == (f"own file {name}", None)


def test_the_split_is_drawn_by_the_seed_and_by_no_file_order(tmp_path):
    path = csv(tmp_path / "reviews.csv")
    named = {"text": "review", "label": "stars", "validation_share": 0.25}
    first, again, other = (found(path, split_seed=seed, **named) for seed in (0, 0, 1))
    assert len(first.validation) == 15
    assert np.array_equal(first.validation.ranks, again.validation.ranks)
    assert not np.array_equal(first.validation.ranks, other.validation.ranks)


def test_the_vocabulary_is_that_of_the_training_part_alone(tmp_path):
    train, later = tmp_path / "train.csv", tmp_path / "later.csv"
    train.write_text("text,label\nb b a,x\na b c,y\n")
    later.write_text("text,label\nb d d d d,x\nd a,y\n")
    corpus = found(train, validation_file=later)
    assert corpus.words == {"b": 1, "a": 2, "c": 3}
    data = prepare(corpus, SHAPE, None, None, tmp_path / "out")
    assert sorted(np.load(tmp_path / "out/x_val.npy").tolist()) == [[0, 0, 0, 1, 2, 5], [1, 4, 2, 2, 2, 2]]
    assert data["validation_unknown_share"] == pytest.approx(5 / 9)


def test_own_validation_parts_inside_a_folder(tmp_path):
    folder(tmp_path / "movies/train")
    folder(tmp_path / "movies/test")
    (tmp_path / "movies/train/unsup").mkdir()
    (tmp_path / "movies/train/unsup/1.txt").write_text("nobody said")
    corpus = found(tmp_path / "movies", labels=LABELS)
    assert (len(corpus.train), len(corpus.validation), corpus.told["rows_left_out"]) == (60, 60, 1)
    saved(tmp_path / "dict/train")
    saved(tmp_path / "dict/validation")
    (tmp_path / "dict/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    corpus = found(tmp_path / "dict", text="review", label="stars")
    assert (len(corpus.train), len(corpus.validation)) == (60, 60)


def test_what_is_told_before_training(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "one two three four five six seven,x\n" * 6 + "only,y\n" * 4 + ",y\n")
    data = prepare(found(path, title="Mine", citation="Me"), SHAPE, None, None, tmp_path / "out")
    assert (data["title"], data["corpus"], data["citation"]) == ("Mine", "own file reviews.csv (Mine)", "Me")
    assert data["train_classes"] == {"x": 5, "y": 4} and data["validation_classes"] == {"x": 1, "y": 1}
    assert data["train_words"]["most"] == 7 and data["train_truncated_share"] == pytest.approx(5 / 9)
    assert data["train_empty"] + data["validation_empty"] == 1
    assert data["validation_also_in_train"] in (1, 2) and data["train_duplicates"] >= 6
    assert data["train_positive_share"] == pytest.approx(4 / 9)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("r.csv", b"text,label\na,x\nb\n", "r.csv: CSV parse error: row 2: Expected 2 columns, got 1"),
        ("r.csv", b"text,label\na,x\nb,\n", "r.csv: row 2, column label: no label"),
        ("r.csv", b"text,label\na,x\n\xff,y\n", "r.csv: row 2, column text: no UTF-8"),
        ("r.csv", b"text,stars\na,x\n", "r.csv: no column 'label'; it has 'text', 'stars'"),
        ("r.csv", b"text,text,label\na,b,x\n", "r.csv: twice column 'text'"),
        ("r.csv", b"text,label\na,x\nb,x\n", "every row has the label 'x'"),
        ("r.csv", b"text,label\n", "r.csv: holds no rows"),
        ("r.csv", b"", "r.csv: "),
        ("r.csv", b"text,label\n,x\n,y\n", "column text: found no words"),
        ("r.tsv", "text\tlabel\nä\tx\n".encode("utf-16"), "r.tsv: "),
        ("r.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": 2\n', "r.jsonl: row 2: "),
        ("r.jsonl", b'{"text": "a", "label": 1}\n{"text": 7, "label": 2}\n', "row 2, column text: found a int"),
        ("r.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n', "row 2, column label: no label"),
        ("r.jsonl", b'{"text": "a", "label": 1}\n{"label": 2}\n', "row 2, column text: no text"),
        ("r.parquet", b"PAR1 no", "r.parquet: "),
        ("r.xlsx", b"PK", "unknown kind of file '.xlsx'; allowed: .csv, .tsv"),
    ],
)
def test_errors_name_file_row_and_column(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        found(tmp_path / name)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_other_columns_than_text(tmp_path):
    for name, column in {"ids": [[1, 2], [3]], "half": [1.5, 2.5]}.items():
        pa.parquet.write_table(pa.table({"text": column, "label": ["x", "y"]}), tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=r"found list.*expected text; token ids already made: write `source: encoded`"):
        found(tmp_path / "ids.parquet")
    with pytest.raises(UserError, match=r"column text: found double, expected text"):
        found(tmp_path / "half.parquet")


def test_thousand_labels_and_no_more(tmp_path):
    for count in (1000, 1001):
        lines = (f"word {n},label {n % count}\n" for n in range(2 * count))
        (tmp_path / f"{count}.csv").write_text("text,label\n" + "".join(lines))
    corpus = found(tmp_path / "1000.csv", validation_share=0.5)
    assert len(corpus.labels) == 1000 and corpus.labels[:3] == ("label 0", "label 1", "label 10"), "as text sorted"
    with pytest.raises(UserError, match=r"has 1,001 labels.*is data.label right\?"):
        found(tmp_path / "1001.csv")


def test_the_models_outputs_fit_the_labels(tmp_path):
    corpus = found(csv(tmp_path / "reviews.csv"), text="review", label="stars")
    refuse_unfit(corpus.title, corpus.labels, [("cnn", 3)])
    told = r"found 1 of cnn, but .* has 3 labels \(bad, good, so so\): write `.*name: cnn, outputs: 3.* `settings: .*outputs: 3"
    for outputs in ([("cnn", 1)], [("cnn", 3), ("cnn", 1)], [("cnn", 1), ("cnn", 3)]):
        with pytest.raises(UserError, match=told):
            refuse_unfit(corpus.title, corpus.labels, outputs)


def test_text_of_many_blocks(tmp_path, monkeypatch):
    """Rows that blocks cut between, quoted line ends included, come as they would in one."""
    monkeypatch.setattr(formats, "BLOCK_BYTES", 256)
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f'"line {n}\nend, ""{n % 5}""",l{n % 2}\n' for n in range(500)))
    corpus = found(path, work=tmp_path, vocabulary=2000)
    everything = texts_of(corpus, corpus.train) + texts_of(corpus, corpus.validation)
    assert len(everything) == 500
    assert {len(text.split()) for text, _ in everything} == {4}
    assert [file.name for file in tmp_path.glob(".reading*")] == []


def unicode_texts(count: int) -> list[str]:
    """Texts of every kind of letter, space and sign, drawn."""
    rng = np.random.default_rng(0)
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1f", "\x85", "\u00a0", "\u2003", "\u3000", "\u200b"]
    ranges = [(0x20, 0x7F)] * 6 + [(0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x700), (0x3040, 0x30FF), (0x4E00, 0x4F00)]
    ranges += [
        (0x1F600, 0x1F64F),
        (0x2010, 0x2040),
        (0x300, 0x36F),
        (1, 0x20),
        (0x130, 0x132),
        (0x1E9E, 0x1E9F),
        (0xFF01, 0xFF60),
    ]
    texts = ["", " ", "...", "It's", "İstanbul ẞ ÄÖÜ Σας", "a\u00a0b", "don\u2019t stop\u2014now"]
    while len(texts) < count:
        parts = []
        for _ in range(rng.integers(0, 12)):
            low, high = ranges[rng.integers(len(ranges))]
            parts += ["".join(map(chr, rng.integers(low, high, rng.integers(1, 8)))), spaces[rng.integers(len(spaces))]]
        texts.append("".join(parts))
    return texts


@pytest.mark.long
def test_words_are_those_of_text_vectorization(monkeypatch):
    """10,000 texts, Unicode included."""
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    keras = pytest.importorskip("keras", reason="Keras is not installed: NOT compared with Keras")
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed: NOT compared with Keras")
    texts = unicode_texts(10_000)
    flat, sizes = words(pa.array(texts, pa.large_string()))
    layer = keras.layers.TextVectorization()
    assert (layer._standardize, layer._split) == ("lower_and_strip_punctuation", "whitespace")
    theirs = layer._preprocess(texts)
    assert sizes.tolist() == theirs.row_lengths().numpy().tolist()
    assert [word.encode() for word in flat.to_pylist()] == theirs.flat_values.numpy().tolist()
    known = sorted(set(flat.to_pylist()))
    ids = np.asarray(keras.layers.TextVectorization(vocabulary=known)(texts[:500]))
    ours = [[known[number - 2] for number in row if number] for row in ids]
    ends = np.cumsum(sizes)
    assert ours == [flat.to_pylist()[end - size : end] for end, size in zip(ends[:500], sizes[:500], strict=True)]


def test_words_of_a_slice():
    whole = pa.array(["A b", "", "c!", "  D  e"], pa.large_string())
    assert [part.tolist() if hasattr(part, "tolist") else part for part in words(whole.slice(1, 3))[1:]] == [[0, 1, 2]]
    assert words(whole.slice(1, 3))[0].to_pylist() == ["c", "d", "e"]
    assert words(whole.slice(0, 0))[0].to_pylist() == []


def test_words_are_split_where_bytes_lie():
    """Against the same in Python's own operations: lower case, punctuation off, split on white space, all of ASCII alone."""
    letters = list("aB9é語!'-.  \t\n\v\f\r\x1c\x00\xa0\u2003")
    lower = str.maketrans(string.ascii_uppercase, string.ascii_lowercase, string.punctuation)
    rng = np.random.default_rng(0)
    for _ in range(500):
        texts = ["".join(rng.choice(letters, rng.integers(12))) for _ in range(rng.integers(8))]
        ahead, behind = rng.integers(3, size=2)
        given = pa.array(["x!"] * ahead + texts + ["y z"] * behind, pa.large_string()).slice(ahead, len(texts))
        flat, sizes = words(given)
        expected = [re.findall(r"[^ \t\n\v\f\r]+", text.translate(lower)) for text in texts]
        assert sizes.tolist() == [len(row) for row in expected]
        assert flat.to_pylist() == [word for row in expected for word in row]


def test_words_are_numbered_alike_however_many_are_looked_up_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 300)
    path = tmp_path / "reviews.csv"
    rng = np.random.default_rng(0)
    rows = [" ".join(f"w{word}" for word in rng.zipf(1.3, 20) % 400) for _ in range(80)]
    path.write_text("text,label\n" + "".join(f"{text},{'ab'[row % 2]}\n" for row, text in enumerate(rows)))
    several = []
    for first in (0, 5, 10_000):
        monkeypatch.setattr("levelfield.data.words.FIRST", first)
        corpus = found(path, validation_share=0.25)
        several.append((corpus.words, *(np.asarray(part.ranks).tolist() for part in (corpus.train, corpus.validation))))
    assert several[0] == several[1] == several[2]


def test_a_tokenizer_of_ones_own(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed: NOT tested")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "film": 1, "it": 2}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.normalizer, made.pre_tokenizer = tokenizers.normalizers.Lowercase(), tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\nFilm it,x\nit film,y\nIt,x\nfilm,y\n")
    corpus = found(path, tokenizer=tmp_path / "tokenizer.json", validation_share=0.5)
    assert corpus.encoded and corpus.words is None and set(np.asarray(corpus.train.ranks).tolist()) <= {0, 1, 2}
    with pytest.raises(UserError, match=r"has 3 token ids, the protocol 2: write `protocol: \{vocabulary: 3\}`"):
        found(path, tokenizer=tmp_path / "tokenizer.json", vocabulary=2)


def test_a_tokenizer_without_its_package_or_file(tmp_path, monkeypatch):
    path = csv(tmp_path / "reviews.csv")
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UserError, match="pip install tokenizers"):
        found(path, text="review", label="stars", tokenizer=tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"none.json: no such file; data.tokenizer names it"):
        found(path, text="review", label="stars", tokenizer=tmp_path / "none.json")


def encoded(path, vocabulary=50, **settings):
    return find_corpus(path.parent / "downloads", Data(source="encoded", file=path, **settings), vocabulary=vocabulary)


def test_load_data_saved_again_gives_what_the_archive_gives(tmp_path):
    rng, ranks, loaded = np.random.default_rng(0), {}, {}
    for part, count in (("train", 30), ("test", 20)):
        rows, labels = [rng.integers(1, 80, rng.integers(1, 12)).tolist() for _ in range(count)], np.arange(count) % 2
        for told, kept in ((ranks, rows), (loaded, [[1, *(rank + 3 for rank in row)] for row in rows])):
            told[f"x_{part}"], told[f"y_{part}"] = np.empty(count, object), labels
            told[f"x_{part}"][:] = kept
    np.savez(tmp_path / "ranks.npz", **ranks)
    np.savez(tmp_path / "loaded.npz", **loaded)
    first = prepare(find_corpus(tmp_path, Data(file=tmp_path / "ranks.npz"), vocabulary=50), SHAPE, None, None, tmp_path / "a")
    second = prepare(encoded(tmp_path / "loaded.npz"), SHAPE, None, None, tmp_path / "b")
    assert first["sha256"] == second["sha256"]


def test_a_table_of_token_ids(tmp_path):
    rows = [[5, 6], [7], [], [8, 9, 0, 0], [0, 0, 4], [3, 0, 3]] * 2
    pa.parquet.write_table(pa.table({"ids": rows, "label": [n % 2 for n in range(12)]}), tmp_path / "ids.parquet")
    corpus = encoded(tmp_path / "ids.parquet", validation_share=0.5)
    ids = [
        row.tolist() for part in (corpus.train, corpus.validation) for row in np.split(np.asarray(part.ranks), part.ends[:-1])
    ]
    assert sorted(ids) == sorted([[5, 6], [7], [], [8, 9], [4], [3, 0, 3]] * 2), "padding at the ends is taken off"
    data = prepare(corpus, SHAPE, None, None, tmp_path / "out")
    assert data["train_unknown_share"] is None
    assert review(corpus, 0, 50)[0].tolist() in ids
    with pytest.raises(
        UserError, match=r"the largest token id is 9, the protocol's vocabulary 9: write `protocol: \{vocabulary: 10\}`"
    ):
        encoded(tmp_path / "ids.parquet", vocabulary=9)
    pa.parquet.write_table(pa.table({"ids": [[1], [2, -1]], "label": ["x", "y"]}), tmp_path / "minus.parquet")
    with pytest.raises(UserError, match=r"minus.parquet: row 2, column ids: found the token id -1"):
        encoded(tmp_path / "minus.parquet")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"source": "texts"}, "unknown source; allowed: encoded, imdb, snippets, synthetic, text"),
        ({"source": "text"}, "file: the source text needs it"),
        ({"file": "a.csv", "label": "stars"}, "label: the source imdb does not take it; it takes file, sha256"),
        ({"source": "encoded", "file": "a.npz", "tokenizer": "t.json"}, "tokenizer: the source encoded does not take it"),
        ({"source": "text", "synthetic": True}, "exclude each other"),
        ({"source": "text", "file": "a.csv", "validation_file": "b.csv", "validation_share": 0.1}, "exclude each other"),
        ({"source": "snippets", "file": "a.csv"}, "file: the source snippets does not take it"),
    ],
)
def test_keys_that_a_source_does_not_take_are_refused(data, told):
    with pytest.raises(UserError, match=r"s\.yaml: data") as caught:
        read_study({"study": "s", "cases": ["torch"], "data": data}, "s.yaml")
    assert told in str(caught.value)


def test_synthetic_is_said_in_two_ways():
    assert Data(source="synthetic").synthetic and Data(synthetic=True).kind == "synthetic"


def test_rows_of_a_table_are_counted_from_one(tmp_path):
    first = next(Rows(csv(tmp_path / "reviews.csv"), "review", "stars").blocks())
    assert (first.first, first.content[0].as_py(), first.labels[0].as_py()) == (1, TEXTS[0], "bad")


def test_the_command_tells_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "reviews.csv")
    config = {"study": "mine", "cases": ["torch"], "protocol": {"model": {"name": "cnn", "outputs": 3}}}
    config |= {"data": {"source": "text", "file": "reviews.csv", "text": "review", "label": "stars", "title": "Films"}}
    (tmp_path / "mine.yaml").write_text(json.dumps(config))
    assert main(["data", "mine.yaml"]) == 0
    told = capsys.readouterr().out
    assert "Films: 48 + 12 sequences" in told and "so so" in told and "validation also in training" in told
    config["protocol"]["model"] = "cnn"
    (tmp_path / "mine.yaml").write_text(json.dumps(config))
    assert main(["data", "mine.yaml"]) == 2
    assert "outputs: 3" in capsys.readouterr().err
    assert main(["data", "none.yaml"]) == 2 and main(["data"]) == 2


@pytest.mark.parametrize("name", KINDS)
def test_new_writes_a_config_that_holds(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    KINDS[name](tmp_path / name)
    named = [] if name == "folder" else ["--text", "review", "--label", "stars"]
    if named:
        assert main(["new", name]) == 2, "nobody guesses"
    (tmp_path / "config").mkdir(exist_ok=True)
    out = tmp_path / "config/own.yaml"
    assert main(["new", name, *named, "--out", str(out)]) == 0
    study = read_study(yaml.safe_load(out.read_text()), str(out))
    assert study.data.source == "text" and study.protocol.model.outputs == 3
    assert main(["data", str(out)]) == 0
    assert "48 + 12 sequences" in capsys.readouterr().out
    assert main(["new", name, *named, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_new_for_token_ids_and_for_odd_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pa.parquet.write_table(pa.table({"ids": [[1, 7]] * 8, "label": ["x", "y"] * 4}), tmp_path / "my ids: 'all'.parquet")
    assert main(["new", "my ids: 'all'.parquet"]) == 0
    (config,) = tmp_path.glob("config/*.yaml")
    study = read_study(yaml.safe_load(config.read_text()), str(config))
    assert (study.data.source, study.protocol.vocabulary, study.protocol.model.outputs) == ("encoded", 8, 1)
    assert main(["data", str(config)]) == 0 and "own file my ids: 'all'.parquet" in capsys.readouterr().out
    assert main(["new", "none.csv"]) == 2


def test_new_says_which_column_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "reviews.csv")
    assert main(["new", "reviews.csv", "--text", "reviw", "--label", "stars"]) == 2
    assert "reviews.csv: no column 'reviw'; it has 'id', 'review', 'stars'" in capsys.readouterr().err
    folder(tmp_path / "movies")
    assert main(["new", "movies", "--text", "review"]) == 2 and "movies: has no columns" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe.csv")
    assert main(["new", "pipe.csv"]) == 2 and not (tmp_path / "config").exists()


ODD = ["x\nstudy: other", "y\r\ndata: {source: imdb}", "z\u2028seeds: [9]", "# a: 'b'", "e" * 500]


def test_new_writes_labels_and_names_on_the_lines_that_are_theirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("films\nseeds: [7]", "2024", ".5", "yes", "a'b: c", "l" * 200):
        table = pa.table({"te\nxt: 1": ["a b"] * 10, "1": ODD * 2})
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
        assert main(["new", f"{name}.parquet", "--text", "te\nxt: 1", "--label", "1", "--out", "own.yaml"]) == 0
        written = (tmp_path / "own.yaml").read_text()
        study = read_study(yaml.safe_load(written), "own.yaml")
        assert (study.data.file.name, study.data.text, study.data.label) == (f"{name}.parquet", "te\nxt: 1", "1")
        assert study.seeds == [0, 1, 2] and study.protocol.model.outputs == 5 and study.data.source == "text"
        assert max(map(len, written.splitlines())) < 600
        assert main(["data", "own.yaml"]) == 0
        (tmp_path / "own.yaml").unlink()


def test_new_keeps_no_config_that_does_not_read_as_it_is_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "reviews.csv")
    monkeypatch.setattr("levelfield.commands.new._quoted", lambda text: f"{text}\nseeds: [7]")
    assert main(["new", "reviews.csv", "--text", "review", "--label", "stars"]) == 2
    assert "no config can" in capsys.readouterr().err and not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    "content", ["seeds: [" + "9" * 5000 + "]", "[" * 3000, "a: [", "- a", ""], ids=["digits", "deep", "open", "list", "empty"]
)
def test_a_config_that_is_none_is_told_in_one_line(tmp_path, monkeypatch, capsys, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text(content)
    assert main(["data", "odd.yaml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_was_told_when_a_process_was_killed_goes_a_day_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".told-old", ".told-new"):
        (tmp_path / "results/.downloads" / name).mkdir(parents=True)
    os.utime(tmp_path / "results/.downloads/.told-old", (1, 1))
    (tmp_path / "mine.yaml").write_text(
        '{"study": "mine", "cases": ["torch"], "data": {"synthetic": true, "train": 64, "validation": 64}}'
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert main(["data", "mine.yaml"]) == 0
    assert [path.name for path in (tmp_path / "results/.downloads").glob(".told-*")] == [".told-new"]


def test_a_full_disk_is_told_as_that_of_the_folder_that_holds_the_data_while_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "reviews.csv")
    config = {
        "study": "mine",
        "cases": ["torch"],
        "data": {"source": "text", "file": "reviews.csv", "text": "review", "label": "stars"},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(config | {"protocol": {"model": {"name": "cnn", "outputs": 3}}}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("levelfield.data.words.Growing.add", full)
    assert main(["data", "mine.yaml", "--downloads", "kept"]) == 2
    told = capsys.readouterr().err
    assert "No space left on device" in told and "name another folder by --downloads" in told and "results/" not in told
    assert "kept/.told-" in told and not list((tmp_path / "kept").glob(".told-*"))


def test_labels_that_the_rows_taken_for_training_do_not_have(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "".join(f"film {n},{'rare' if n % 20 == 0 else 'x'}\n" for n in range(100)))
    corpus = found(path)
    with pytest.raises(
        UserError, match=r"data.train: none of the 1 training rows of own file reviews.csv has the label '(x|rare)', which"
    ):
        prepare(corpus, SHAPE, 1, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert prepare(corpus, SHAPE, None, 5, tmp_path / "out")["train_sequences"] == 80


def tokenizer(path, vocabulary, padding=None, unknown="[UNK]"):
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed: NOT tested")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if padding:
        made.enable_padding(pad_id=vocabulary[padding], pad_token=padding)
    made.save(str(path))
    return path


def test_a_tokenizers_size_is_its_greatest_id(tmp_path):
    """Ids may have holes below it."""
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "film it,x\nit film,y\n" * 4)
    made = tokenizer(tmp_path / "tokenizer.json", {"[PAD]": 0, "[UNK]": 1, "film": 2, "it": 40})
    with pytest.raises(UserError, match=r"has 41 token ids, the protocol 20: write `protocol: \{vocabulary: 41\}`"):
        found(path, tokenizer=made, vocabulary=20)
    assert found(path, tokenizer=made, vocabulary=41).train.ranks.max() == 40


def test_a_token_that_has_the_id_of_padding_is_told(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "wow it,x\nit wow,y\n" * 5)
    ids = {"wow": 0, "it": 1, "[UNK]": 2}
    told = "id 0, which is padding, is also the tokenizer's 'wow', which stands in the texts 10 times"
    assert told in found(path, tokenizer=tokenizer(tmp_path / "a.json", ids)).why
    for number, (vocabulary, padding) in enumerate(
        [
            ({"[PAD]": 0, "[UNK]": 1, "wow": 2}, None),
            ({"<pad>": 0, "[UNK]": 1}, None),
            ({"void": 0, "[UNK]": 1}, "void"),
            ({"[UNK]": 0}, None),
        ]
    ):
        why = found(path, tokenizer=tokenizer(tmp_path / f"{number}.json", vocabulary, padding)).why
        assert ("which is padding" in why) == (vocabulary == {"[UNK]": 0}), "a token that is no padding, and occurs"


def test_a_text_that_a_tokenizer_cannot_encode(tmp_path):
    """Without a token for what it does not know."""
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\n" + "film it,x\nit film,y\n" * 4 + "odd,spam\nfilm odd,x\n")
    made = tokenizer(tmp_path / "tokenizer.json", {"film": 0, "it": 1})
    told = (
        r"tokenizer.json: cannot encode .*reviews.csv, row (\d+), column text: .*\[UNK\].*: take a tokenizer that can, or leave"
    )
    for row, settings in (("9", {}), ("10", {"labels": ["x", "y"]})):
        with pytest.raises(UserError, match=told) as caught:
            found(path, tokenizer=made, **settings)
        assert f"row {row}," in str(caught.value) and "\n" not in str(caught.value)
    path.write_text("text,label\n" + "film it,x\nit film,y\n" * 4 + "odd,spam\n")
    assert len(found(path, tokenizer=made, labels=["x", "y"]).train) == 6


def written(out) -> Study:
    return read_study(yaml.safe_load(out.read_text()), str(out))


def test_new_for_token_ids_reads_all_of_them(tmp_path, monkeypatch, capsys):
    """The largest id may stand in the last block, or in the validation part; padding is no length."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(formats, "BLOCK_BYTES", 64)
    (tmp_path / "ids/train").mkdir(parents=True)
    rows = [[5, 6, 7] + [0] * 20] * 60 + [[5, 40, 7] + [0] * 20] * 4
    table = pa.table({"ids": rows, "label": [n % 2 for n in range(64)]})
    pa.parquet.write_table(table, tmp_path / "ids.parquet")
    assert main(["new", "ids.parquet"]) == 0
    study = written(tmp_path / "config/ids.yaml")
    assert (study.data.kind, study.protocol.vocabulary, study.protocol.length) == ("encoded", 41, 3)
    assert main(["data", "config/ids.yaml"]) == 0
    for part, largest in (("train", 2), ("test", 90)):
        (tmp_path / "parts" / part).mkdir(parents=True)
        table = pa.table({"ids": [[1, largest]] * 8, "label": ["x", "y"] * 4})
        with pa.OSFile(str(tmp_path / "parts" / part / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
            out.write_table(table)
        (tmp_path / "parts" / part / "state.json").write_text("{}")
    assert main(["new", "parts"]) == 0 and written(tmp_path / "config/parts.yaml").protocol.vocabulary == 91
    pa.parquet.write_table(pa.table({"ids": [[1], [2]] * 4, "label": ["x", "y"] * 4}), tmp_path / "few.parquet")
    assert main(["new", "few.parquet"]) == 0 and written(tmp_path / "config/few.yaml").protocol.vocabulary == 4


def test_new_takes_no_row_numbers_for_token_ids(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts, lists = ["a film", "a book"] * 4, [[4, 5]] * 8
    for name, table in {
        "numbers": {"ids": list(range(8)), "Review": texts, "label": ["x", "y"] * 4},
        "both": {"ids": lists, "text": texts, "label": ["x", "y"] * 4},
        "ids": {"row": list(range(8)), "ids": lists, "label": ["x", "y"] * 4},
    }.items():
        pa.parquet.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        assert main(["new", f"{name}.parquet"]) == 0
    told = {name: written(tmp_path / f"config/{name}.yaml").data for name in ("numbers", "both", "ids")}
    assert {name: (data.source, data.text) for name, data in told.items()} == {
        "numbers": ("text", "Review"), "both": ("text", "text"), "ids": ("encoded", "ids"),
    }  # fmt: skip
    (tmp_path / "a.csv").write_text("ids,body,label\n1,a,x\n2,b,y\n")
    assert main(["new", "a.csv"]) == 2 and "'ids', 'body', 'label': name two of them" in capsys.readouterr().err


def test_new_for_an_archive_of_token_ids(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arrays = {}
    for part, largest in (("train", 7), ("test", 30)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.empty(9, object), np.arange(9) % 3
        arrays[f"x_{part}"][:] = [[1, 5, largest, 0, 0]] * 9
    np.savez(tmp_path / "mine.npz", **arrays)
    assert main(["new", "mine.npz"]) == 0
    study = written(tmp_path / "config/mine.yaml")
    assert (study.data.kind, study.protocol.vocabulary, study.protocol.length) == ("encoded", 31, 3)
    assert study.protocol.model.outputs == 3 and main(["data", "config/mine.yaml"]) == 0
    assert main(["new", "mine.npz", "--text", "x", "--out", "o.yaml"]) == 2 and "has no columns" in capsys.readouterr().err
    monkeypatch.setattr("levelfield.commands.new.IMDB_SHA256", checksum(tmp_path / "mine.npz"))
    assert main(["new", "mine.npz", "--out", "o.yaml"]) == 2 and "source: imdb" in capsys.readouterr().err
