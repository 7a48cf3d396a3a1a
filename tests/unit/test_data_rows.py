"""Own data as it comes: parts of many names, odd files, damaged ones. Nothing is lost unsaid, and every error is one line that names the
file."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from own_data import LABELS, csv, folder, saved, texts_of

from levelfield.data import formats
from levelfield.data.corpus import find_corpus
from levelfield.data.formats import columns, read
from levelfield.data.origin import checksum
from levelfield.errors import UserError
from levelfield.study.data import Data


def found(path, **settings):
    return find_corpus(path.parent / "downloads", Data(source="text", file=path, **settings), vocabulary=50)


def rows_of(corpus) -> list[tuple[str, str]]:
    return sorted(texts_of(corpus, corpus.train) + texts_of(corpus, corpus.validation))


def refused(path, told, **settings):
    with pytest.raises(UserError, match=told) as caught:
        found(path, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", [{"validation_share": 0.1}, {"split_seed": 3}])
def test_a_share_of_what_has_a_part_for_validation_is_refused(tmp_path, setting):
    (folder(tmp_path / "movies/train"), folder(tmp_path / "movies/test"))
    (key,) = setting
    refused(
        tmp_path / "movies", rf"data.{key}: .*movies has a part for validation, test: leave it out, or name .*train", **setting
    )
    assert len(found(tmp_path / "movies/train", **setting).train) < 60


def test_a_part_of_another_name_is_named_and_not_passed_over(tmp_path):
    (saved(tmp_path / "nli/train"), saved(tmp_path / "nli/validation_matched"))
    named = {"text": "review", "label": "stars"}
    refused(
        tmp_path / "nli",
        r"nli: has train beside validation_matched, .* name it in data.validation_file, or .*train alone",
        **named,
    )
    corpus = found(tmp_path / "nli", validation_file=tmp_path / "nli/validation_matched", **named)
    assert (len(corpus.train), len(corpus.validation)) == (60, 60), "the part named train, not all of the folder"
    assert len(found(tmp_path / "nli/train", **named).train) == 48
    (saved(tmp_path / "more/train"), saved(tmp_path / "more/eval"))
    told = r"more: has the parts eval, train: name one in data.validation_file, as .*more/eval"
    refused(tmp_path / "nli", told, validation_file=tmp_path / "more", **named)


@pytest.mark.parametrize(
    ("training", "own"), [("Train", "Test"), ("training", "dev"), ("train", "eval"), ("Training", "Testing")]
)
def test_parts_by_their_usual_names(tmp_path, training, own):
    (folder(tmp_path / "movies" / training), folder(tmp_path / "movies" / own))
    corpus = found(tmp_path / "movies")
    assert corpus.labels == LABELS and (len(corpus.train), len(corpus.validation)) == (60, 60)


def test_parts_alone_are_no_labels(tmp_path):
    (folder(tmp_path / "movies/dev"), folder(tmp_path / "movies/test"))
    refused(tmp_path / "movies", r"movies: dev holds folders of text, as a part does: name it in data.file")


def test_texts_of_a_folder_are_those_in_its_folders_of_any_depth(tmp_path):
    for place in (
        "bad/a.txt",
        "bad/2019/b.TXT",
        "good/c.txt",
        "good/2019/may/d.Txt",
        "README.md",
        "good/notes.html",
        "bad/.e.txt",
    ):
        (tmp_path / "movies" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "movies" / place).write_text(place.rpartition("/")[2][0])
    corpus = found(tmp_path / "movies")
    assert corpus.labels == ("bad", "good")
    assert len(corpus.train) + len(corpus.validation) == 4
    assert corpus.why.endswith("; 1 file left out, being no .txt")


PLAIN = 'text\tlabel\n"What a film\tx\nsaid "my" aunt\ty\n"Great", she said\tx\nyes"\ty\n'


def test_a_quotation_mark_in_a_tsv_is_a_sign_like_any_other(tmp_path):
    (tmp_path / "plain.tsv").write_text(PLAIN)
    assert sorted(label for _, label in rows_of(found(tmp_path / "plain.tsv"))) == ["x", "x", "y", "y"]
    contents = [text for texts, _ in read(tmp_path / "plain.tsv", ["text", "label"]) for text in texts.to_pylist()]
    assert contents == [b'"What a film', b'said "my" aunt', b'"Great", she said', b'yes"']


def test_fields_of_a_tsv_that_are_quoted_where_they_need_it(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"say ""hi"""\tx\nplain\t"y"\n""\tx\n')
    pairs = [pair for texts, labels in read(tmp_path / "a.tsv", ["text", "label"]) for pair in zip(texts, labels, strict=True)]
    assert [(text.as_py(), label.as_py()) for text, label in pairs] == [(b'say "hi"', "x"), (b"plain", "y"), (b"", "x")]
    (tmp_path / "b.tsv").write_text('text\tlabel\n"two\nlines"\tx\nplain\ty\n')
    refused(tmp_path / "b.tsv", r"b.tsv: CSV parse error: row 1: Expected 2 columns, got 1.* quote the heading, too, or save")
    (tmp_path / "c.tsv").write_text('"text"\t"label"\n"two\nlines\tand a tab"\t"x"\n"plain"\t"y"\n')
    assert [size for size in found(tmp_path / "c.tsv").train.sizes.tolist()] == [5, 1]


def test_json_lines_are_read_for_the_columns_that_are_asked_for(tmp_path):
    """What the others hold is of no account, in the first block and in later ones."""
    others = [1, "one", None, {"a": 1}, [1, "x"], 1.5, {"a": []}, True]
    rows = [{"meta": others[n % 8], "text": f"film {n}", "label": n % 2, f"only {n}": n} for n in range(400)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    corpus = found(tmp_path / "a.jsonl")
    assert (len(corpus.train), corpus.labels) == (320, ("0", "1"))


@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        ([1, 2, 1, 2], ("1", "2")),
        ([1, 2.5, 1, 2.5], ("1", "2.5")),
        ([True, False] * 2, ("false", "true")),
        (["a", "b"] * 2, ("a", "b")),
    ],
)
def test_labels_of_json_lines_are_of_any_kind(tmp_path, labels, meant):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": "film", "label": label}) + "\n" for label in labels))
    assert found(tmp_path / "a.jsonl").labels == meant


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"text": 5, "label": 1}\n{"text": 6, "label": 2}\n', "row 1, column text: found a int, expected text"),
        (
            "a.jsonl",
            b'{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n',
            "column label: found a str, above it is a int",
        ),
        ("a.jsonl", b'{"text": "a", "label": [1]}\n', "column label: found a list, expected one label a row"),
        ("a.jsonl", b'\n{"text": "a", "label": 1}\n\n{"text"\n', "a.jsonl: row 2: "),
        ("a.json", b'[{"text": "a", "label": 1}]', "row 1: found a list, expected an object with the columns text, label"),
        ("a.json", b"[" + b'{"text": "a", "label": 1},\n' * 3, "a.json: row 1: "),
        ("a.json", b"[" * 5000 + b"\n", "a.json: row 1: "),
        ("a.json", b"\n", "a.json: holds no rows"),
        ("a.csv", "text,läbel\na,x\n".encode("latin-1"), "a.csv: no UTF-8 .*: save the file as UTF-8"),
        ("a.csv", b"text,label\na,\xff\nb,y\n", "a.csv: "),
        ("a.parquet", b"PAR1" + b"\0" * 40 + b"\x20\0\0\0PAR1", "a.parquet: cannot be read: "),
        ("a.parquet", b"", "a.parquet: "),
    ],
)
def test_damaged_tables_are_told_in_one_line(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, told)


def test_a_json_array_of_any_size_is_refused_by_its_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 64)
    (tmp_path / "a.json").write_text("[" + '{"text": "a", "label": 1}, ' * 1000 + "]")
    refused(tmp_path / "a.json", "row 1: found a list, expected an object")
    (tmp_path / "a.json").write_text('{"text": "' + "a" * 100 + '"}')
    refused(tmp_path / "a.json", "row 1: longer than 64 bytes")


def damaged(path, what):
    """A saved data set, something about it wrong."""
    saved(path)
    match what:
        case "no shard":
            (path / "data-00000-of-00002.arrow").unlink()
        case "half a shard":
            file = path / "data-00001-of-00002.arrow"
            file.write_bytes(file.read_bytes()[:100])
        case "no shard at all":
            (path / "data-00000-of-00002.arrow").write_bytes(b"")
        case "a shard elsewhere":
            (path / "state.json").write_text('{"_data_files": [{"filename": "../other/data.arrow"}]}')
        case "a hidden shard":
            (path / "state.json").write_text('{"_data_files": [{"filename": ".data.arrow"}]}')
        case "state":
            (path / "state.json").write_text("{")
        case "state of a list":
            (path / "state.json").write_text("[]")
        case "shards":
            (path / "state.json").write_text('{"_data_files": [1]}')
        case "info":
            (path / "dataset_info.json").write_text('{"features": ')
        case "features":
            (path / "dataset_info.json").write_text('{"features": [1]}')
        case "dict":
            (path / "dataset_dict.json").write_text("{}")
        case "splits":
            (path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    return path


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no shard", r"data-00000-of-00002.arrow: is not there, though .*state.json names it"),
        ("half a shard", r"saved.*: "),
        ("no shard at all", r"saved.*: "),
        ("a shard elsewhere", "names no Arrow files of its own"),
        ("a hidden shard", "names no Arrow files of its own"),
        ("state", r"state.json: damaged \(.*save the data set anew"),
        ("state of a list", r"state.json: damaged \(found a list\)"),
        ("shards", r"saved: cannot be read: "),
        ("info", r"dataset_info.json: damaged"),
        ("features", r"saved: cannot be read: "),
        ("dict", r"dataset_dict.json: names no parts: save the data set anew"),
        ("splits", r"saved: has no part named train; it has a, b: name one in data.file, .*saved/a"),
    ],
)
def test_damaged_saved_data_sets_are_told_in_one_line(tmp_path, what, told):
    refused(damaged(tmp_path / "saved", what), told, text="review", label="stars")


def test_a_shard_that_is_a_link_is_read(tmp_path):
    path = saved(tmp_path / "saved")
    (path / "data-00000-of-00002.arrow").rename(tmp_path / "blob")
    (path / "data-00000-of-00002.arrow").symlink_to(tmp_path / "blob")
    assert len(found(path, text="review", label="stars").train) == 48


def test_a_label_feature_of_another_kind_has_no_names(tmp_path):
    path = saved(tmp_path / "saved")
    (path / "dataset_info.json").write_text(json.dumps({"features": {"stars": [{"dtype": "int64"}]}}))
    assert found(path, text="review", label="stars").labels == ("0", "1", "2")


def test_what_is_stored_as_text_may_be_none(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 2, [*pa.array(["aa", "bb"]).buffers()[:2], pa.py_buffer(b"aa\xff\xff")])
    for name, columns_of in {"text": {"text": bad, "label": ["x", "y"]}, "label": {"text": ["a", "b"], "label": bad}}.items():
        pa.parquet.write_table(pa.table(columns_of), tmp_path / "a.parquet")
        refused(tmp_path / "a.parquet", rf"a.parquet: row 2, column {name}: no UTF-8 \(invalid start byte at byte 0\)")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()], ids=str)
def test_every_kind_of_text_that_arrow_has(tmp_path, kind):
    (tmp_path / "saved").mkdir()
    table = pa.table({"text": pa.array(["a b", "c"] * 4).cast(kind), "label": pa.array(["x", "y"] * 4).cast(kind)})
    with pa.OSFile(str(tmp_path / "saved/a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    (tmp_path / "saved/state.json").write_text("{}")
    assert rows_of(found(tmp_path / "saved")) == [("a b", "x")] * 4 + [("c", "y")] * 4


def crooked(column):
    """The same array, one of its offsets beyond its bytes: not the first and the last, at which pyarrow looks unasked."""
    validity, offsets, *others = column.buffers()
    kind, lists = np.int64 if pa.types.is_large_string(column.type) else np.int32, pa.types.is_list(column.type)
    changed = np.frombuffer(offsets, kind)[: len(column) + 1].copy()
    changed[3] = 1_000_000
    buffers = [validity, pa.py_buffer(changed), *([] if lists else others)]
    return pa.Array.from_buffers(column.type, len(column), buffers, children=[column.values] if lists else None)


def entries(numbers, of):
    """Entries of a dictionary by their numbers, which it may have or not."""
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), of, safe=False)


FILMS, MARKS = pa.array([f"film {n}" for n in range(8)]), pa.array(["x", "y"] * 4)
DAMAGED = {
    "text": (crooked(FILMS), MARKS),
    "large text": (crooked(FILMS.cast(pa.large_string())), MARKS),
    "bytes": (crooked(FILMS.cast(pa.binary())), MARKS),
    "label": (FILMS, crooked(MARKS)),
    "token ids": (crooked(pa.array([[n, n + 1] for n in range(8)])), MARKS),
    "entry of a dictionary": (FILMS, entries([0, 1, 9, 1] * 2, ["x", "y"])),
    "negative entry": (FILMS, entries([0, 1, -9, 1] * 2, ["x", "y"])),
    "text in a dictionary": (entries(range(8), crooked(FILMS)), MARKS),
}


@pytest.mark.parametrize("form", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_arrow_file_leads_nowhere(tmp_path, form, what):
    """A flipped bit of an offset, or of the number of a dictionary's entry, would have Arrow read anything that lies in memory."""
    path, table = tmp_path / "saved", pa.table(dict(zip(("text", "label"), DAMAGED[what], strict=True)))
    path.mkdir()
    (path / "state.json").write_text("{}")
    with pa.OSFile(str(path / "a.arrow"), "wb") as file, form(file, table.schema) as out:
        out.write_table(table)
    told = r"a.arrow: damaged \(column (text|label): .+\): save the data set anew with `save_to_disk`"
    with pytest.raises(UserError, match=told) as caught:
        list(read(path, ["text", "label"], ids=what == "token ids"))
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_has_checksums_is_held_to_them(tmp_path):
    path, table = tmp_path / "a.parquet", pa.table({"text": FILMS, "label": MARKS})
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    pa.parquet.write_table(table, path, write_page_checksum=True, **plain)
    assert len(found(path).labels) == 2
    path.write_bytes(path.read_bytes().replace(b"film 5", b"film 9", 1))
    refused(path, r"a.parquet: cannot be read: .*CRC")


def test_no_number_is_no_label(tmp_path):
    for name, labels in {"double": [1.0, float("nan")] * 4, "float": pa.array([1, float("nan")] * 4, pa.float32())}.items():
        pa.parquet.write_table(pa.table({"text": ["a", "b"] * 4, "label": labels}), tmp_path / f"{name}.parquet")
        refused(tmp_path / f"{name}.parquet", rf"{name}.parquet: row 2, column label: no label")


def test_rows_without_a_label_are_left_out_where_labels_are_named(tmp_path):
    """Of SNLI's kind: −1 where the raters did not agree."""
    path = tmp_path / "snli"
    path.mkdir()
    table = pa.table({"text": ["a", "b", "c"] * 4, "label": pa.array([0, 1, -1] * 4, pa.int64())})
    with pa.OSFile(str(path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    (path / "dataset_info.json").write_text(
        json.dumps({"features": {"label": {"names": ["yes", "no"], "_type": "ClassLabel"}}})
    )
    refused(path, "snli: row 3, column label: no label")
    corpus = found(path, labels=["yes", "no"])
    assert (
        corpus.told["rows_left_out"] == 4 and corpus.labels == ("no", "yes") and len(corpus.train) + len(corpus.validation) == 8
    )
    (tmp_path / "a.csv").write_text("text,label\n" + "a,x\nb,\nc,y\n" * 4)
    assert found(tmp_path / "a.csv", labels=["x", "y"]).told["rows_left_out"] == 4
    refused(tmp_path / "a.csv", r"data.labels: a label stands there twice, or is empty", labels=["x", ""])


@pytest.mark.parametrize("kind", ["parquet", "row groups", "dictionary", "saved", "folder"])
def test_a_block_is_bounded_by_its_bytes(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 10_000)
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(97, 123, 2000))) for _ in range(60)]
    table, path = pa.table({"text": texts, "label": ["x", "y"] * 30}), tmp_path / "a.parquet"
    if kind == "saved":
        path = tmp_path / "saved"
        path.mkdir()
        (path / "state.json").write_text("{}")
        with pa.OSFile(str(path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
            out.write_table(table)
    elif kind == "folder":
        path = tmp_path / "folder"
        for n, text in enumerate(texts):
            (path / "xy"[n % 2]).mkdir(parents=True, exist_ok=True)
            (path / "xy"[n % 2] / f"{n}.txt").write_text(text)
    else:
        pa.parquet.write_table(
            table, path, use_dictionary=kind == "dictionary", row_group_size=7 if kind == "row groups" else 60
        )
    blocks = [texts for texts, _ in read(path, ["text", "label"])]
    assert sum(map(len, blocks)) == 60 and 1 < max(map(len, blocks)) <= 5
    assert {text for block in blocks for text in block.to_pylist()} == (
        {*texts} if kind != "folder" else {t.encode() for t in texts}
    )


def test_a_text_larger_than_a_block_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 100)
    path = folder(tmp_path / "movies")
    (path / "bad/long.txt").write_text("a" * 101)
    refused(path, r"long.txt: has 101 bytes; a text may have 100 at most")


def test_columns_are_told_without_reading_what_they_hold(tmp_path):
    assert columns(csv(tmp_path / "a.csv")) == ["id", "review", "stars"]
    assert columns(saved(tmp_path / "saved")) == ["review", "stars"] and columns(folder(tmp_path / "folder")) == []


def arrow(path, labels):
    table = pa.table({"text": [f"film {n}" for n in range(8)], "label": list(labels) * 4})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)


def test_parts_in_the_cache_of_datasets_are_not_joined(tmp_path):
    """Training and validation part lie there side by side, and what was computed of them."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "dataset_info.json").write_text("{}")
    arrow(cache / "imdb-train.arrow", "xy")
    arrow(cache / "cache-0123456789abcdef.arrow", "ab")
    corpus = found(cache)
    assert corpus.labels == ("x", "y") and len(corpus.train) + len(corpus.validation) == 8, "one is all there is"
    arrow(cache / "imdb-test.arrow", "xy")
    told = (
        r"cache: holds imdb-test.arrow, imdb-train.arrow, and no state.json .*: save the data set with `save_to_disk`, and name"
    )
    refused(cache, told)
    (cache / "state.json").write_text("{}")
    refused(cache, told)


def test_the_checksum_of_a_saved_data_set_is_of_the_files_that_it_names(tmp_path):
    path = saved(tmp_path / "saved")
    before = checksum(path)
    arrow(path / "cache-0123456789abcdef.arrow", "ab")
    (path / "tmp4f2k").write_bytes(b"half")
    assert checksum(path) == before
    whole = tmp_path / "nli"
    (whole.mkdir(), path.rename(whole / "train"))
    before = checksum(whole)
    arrow(whole / "train/cache-1.arrow", "ab")
    assert checksum(whole) == before
    (whole / "train/dataset_info.json").write_text("{}")
    assert checksum(whole) != before, "names of labels are read"
    before = checksum(whole)
    (whole / "train/data-00000-of-00002.arrow").write_bytes(b"")
    assert checksum(whole) != before


def test_rows_of_columns_with_a_dot_are_measured(tmp_path, monkeypatch):
    table = pa.table({"a.text": ["a" * 1000] * 50, "a.label": ["x", "y"] * 25, "a": ["b" * 500] * 50})
    pa.parquet.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="none")
    metadata = pa.parquet.ParquetFile(tmp_path / "a.parquet").metadata
    monkeypatch.setattr(formats, "BLOCK_BYTES", 10_000)
    text, label = (formats._rows_at_once(metadata, [column]) for column in ("a.text", "a.label"))
    assert text == 9 and label > 500, "of texts of 1,000 bytes and a little about them"
    assert len(found(tmp_path / "a.parquet", text="a.text", label="a.label").train) == 40


def test_a_label_whose_folder_has_a_name_that_is_no_text(tmp_path):
    path = folder(tmp_path / "movies")
    odd = os.fsencode(path) + b"/caf\xe9"
    os.mkdir(odd)
    with open(odd + b"/1.txt", "w") as file:
        file.write("a film")
    refused(path, r"movies: the name of the folder 'caf\\udce9' is no UTF-8: rename it")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "a.csv",
            "text;label\na, b;x\nc;y\n",
            r"a.csv: the heading is separated by ';' and not by ',': save it with commas as .csv",
        ),
        ("a.csv", "\ufefftext\tlabel\na, b\tx\n", r"separated by '\\t' and not by ','.*, or with tabs as .tsv"),
        ("a.tsv", "text,label\na,x\n", r"a.tsv: the heading is separated by ',' and not by '\\t'"),
    ],
)
def test_another_separator_is_told(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    refused(tmp_path / name, told)


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_what_rows_hold_that_are_left_out_is_of_no_account(tmp_path, kind):
    path, texts = tmp_path / "saved", pa.array(["a b", None, "c"] * 4).cast(kind)
    path.mkdir()
    (path / "state.json").write_text("{}")

    def write(labels):
        table = pa.table({"text": texts, "label": labels})
        with pa.OSFile(str(path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table)

    write(["x", "spam", "y"] * 4)
    corpus = found(path, labels=["x", "y"])
    assert rows_of(corpus) == [("a b", "x")] * 4 + [("c", "y")] * 4 and corpus.told["rows_left_out"] == 4
    refused(path, r"saved: row 2, column text: no text")
    write(["spam", "x", "y"] + ["x", "spam", "y"] * 3)
    refused(path, r"saved: row 2, column text: no text", labels=["x", "y"])


def test_token_ids_of_rows_that_are_left_out(tmp_path):
    ids = pa.array([[3], [-1], None, [4]] * 3, pa.list_(pa.int64()))
    path = tmp_path / "ids.parquet"
    pa.parquet.write_table(pa.table({"ids": ids, "label": ["x", "spam", "", "y"] * 3}), path)
    corpus = find_corpus(tmp_path, Data(source="encoded", file=path, labels=["x", "y"]), vocabulary=50)
    assert sorted([*corpus.train.ranks, *corpus.validation.ranks]) == [3] * 3 + [4] * 3
    with pytest.raises(UserError, match=r"ids.parquet: row 2, column ids: found the token id -1"):
        find_corpus(tmp_path, Data(source="encoded", file=path, labels=["spam", "x"]), vocabulary=50)


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


def test_labels_that_look_alike_are_no_two_classes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + f"a,{COMPOSED}\nb,{APART}\nc,bar\n" * 4, encoding="utf-8")
    told = (
        r"a.csv: the label 'caf.*' is written in two of Unicode's normal forms, which look alike: 'caf\\xe9' \(.*a.csv, row 1, column "
        r"label\) and 'cafe\\u0301' \(.*a.csv, row 2, column label\): make them one, as `unicodedata"
    )
    refused(path, told)
    refused(path, told, labels=[APART, "bar"])
    other = tmp_path / "b.csv"
    for file, label in ((path, COMPOSED), (other, APART)):
        file.write_text(f"text,label\na,{label}\nb,bar\n" * 1 + f"a,{label}\nb,bar\n" * 4, encoding="utf-8")
    refused(path, r"'caf\\xe9' \(.*a.csv, row 1, column label\) and 'cafe\\u0301' \(.*b.csv, row 1", validation_file=other)
    assert found(path).labels == ("bar", COMPOSED)
    for label in (COMPOSED, APART):
        (tmp_path / "shops" / label).mkdir(parents=True)
        (tmp_path / "shops" / label / "1.txt").write_text("coffee")
    refused(tmp_path / "shops", r"'cafe\\u0301' \(a folder in .*shops\) and 'caf\\xe9' \(a folder in")


def test_a_label_named_in_another_form_than_the_file_has(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\na,{APART}\nb,bar\n" * 1 + f"a,{APART}\nb,bar\n" * 4, encoding="utf-8")
    told = r"no row has the label .*; it has 'cafe\\u0301', which differs from 'caf\\xe9' in Unicode's normal form alone: write that one, as "
    refused(path, told + r'"cafe\\u0301"', labels=[COMPOSED, "bar"])
    assert found(path, labels=[json.loads(r'"cafe\u0301"'), "bar"]).labels == ("bar", APART)


def test_a_share_is_told_as_it_is(tmp_path):
    path = csv(tmp_path / "a.csv")
    for share, told in ((0.005, "0.5%"), (0.2, "20%"), (0.07, "7%"), (0.999, "99.9%")):
        why = found(path, text="review", label="stars", validation_share=share).why
        assert f"; {told} of each label's rows" in why


@pytest.mark.parametrize(("key", "value"), [("split_seed", 0), ("validation_share", 0.1)])
def test_what_has_no_effect_beside_a_validation_file_is_refused(key, value):
    with pytest.raises(ValueError, match=rf"validation_file and {key} exclude each other"):
        Data(source="text", file="a.csv", validation_file="b.csv", **{key: value})


@pytest.mark.parametrize("others", [("bus", "car"), ("test",), ()])
def test_a_label_that_is_called_as_a_part_is(tmp_path, others):
    for label in ("train", *others):
        (tmp_path / "things" / label).mkdir(parents=True)
        (tmp_path / "things" / label / "1.txt").write_text("it goes")
    told = (
        r"things/train: holds texts, and no folder for each label: .* where 'train' is a label .* another name, as train-label"
    )
    refused(tmp_path / "things", told)
