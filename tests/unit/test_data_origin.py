"""A source is known by its content: whatever links lead to is in it, what changed is read anew, and a title makes nothing IMDB."""

import hashlib
import json
import os
import time

import pytest
from made_study import make_study

from levelfield.commands import data as command
from levelfield.commands.cli import main
from levelfield.data import encodings, origin
from levelfield.data.corpus import find_corpus
from levelfield.data.formats import DELIMITERS, JSON_LINES, PARQUET
from levelfield.data.origin import checksum, files_of, is_imdb, kind_of, known_checksum, origin_of
from levelfield.data.sources.snippets import HUTTO
from levelfield.errors import UserError
from levelfield.registry import sources
from levelfield.study.config import read_study
from levelfield.study.data import Data
from levelfield.study.published import BILSTM
from levelfield.tell.collect import collect
from levelfield.tell.readme import readme
from levelfield.tell.report.provenance import citations
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables
from levelfield.tell.tables.learning import comparable


def folder(path, texts=("good", "bad")):
    for label in texts:
        for number in range(4):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{number}.txt").write_text(f"{label} film {number}")
    return path


def found(path, **settings):
    return find_corpus(path.parent / "downloads", Data(source="text", file=path, **settings), vocabulary=50)


def test_the_checksum_of_a_folder_is_of_what_its_links_lead_to(tmp_path):
    real, plain = folder(tmp_path / "big/train"), folder(tmp_path / "plain/train").parent
    linked = tmp_path / "movies"
    linked.mkdir()
    (linked / "train").symlink_to(real)
    assert checksum(linked) == checksum(plain) != hashlib.sha256(b"").hexdigest()
    assert len(found(linked).train) + len(found(linked).validation) == 8
    (real / "good/0.txt").write_text("another film")
    assert checksum(linked) != checksum(plain)


def test_a_label_behind_a_link_is_no_less_a_label(tmp_path):
    movies, elsewhere = folder(tmp_path / "movies", texts=["good"]), folder(tmp_path / "elsewhere", texts=["bad"])
    (movies / "bad").symlink_to(elsewhere / "bad")
    assert found(movies).labels == ("bad", "good") and len(files_of(movies)) == 8


def test_links_that_lead_nowhere_or_back_are_refused(tmp_path):
    movies = folder(tmp_path / "movies")
    (movies / "good/again").symlink_to(movies)
    with pytest.raises(UserError, match=r"good/again: leads back to .*movies, in which it lies"):
        found(movies)
    (movies / "good/again").unlink()
    (movies / "good/9.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(UserError, match=r"good/9.txt: is neither a file nor a folder, or leads to none"):
        found(movies)
    (movies / "good/9.txt").rename(movies / "good/.9.txt")
    assert len(files_of(movies)) == 8, "what is hidden is not looked at"


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,x\nb,y\n")
    before, first = file.stat(), known_checksum(file, tmp_path)
    time.sleep(0.05)  # the clock of files ticks
    file.write_text("text,label\na,y\nb,x\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert known_checksum(file, tmp_path) == checksum(file) != first
    (tmp_path / "other.csv").write_text("text,label\nb,y\na,x\n")
    os.utime(tmp_path / "other.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "other.csv").replace(file)
    assert known_checksum(file, tmp_path) == checksum(file)


def test_a_file_that_changes_while_its_checksum_is_taken_is_refused_and_not_remembered(tmp_path, monkeypatch):
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,x\nb,y\n")
    taken = checksum
    monkeypatch.setattr(origin, "checksum", lambda path: (taken(path), path.write_text("text,label\nmore,x\n"))[0])
    with pytest.raises(UserError, match=r"a.csv: changed while it was read"):
        known_checksum(file, tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()


def test_a_file_that_changes_while_it_is_read_is_refused_and_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n" + "a,x\nb,y\n" * 4)
    reading = command.find_corpus

    def changing(*arguments, **more):
        corpus = reading(*arguments, **more)
        (tmp_path / "a.csv").write_text("text,label\n" + "b,x\na,y\n" * 4)
        return corpus

    monkeypatch.setattr(command, "find_corpus", changing)
    told = json.dumps({"source": "text", "file": "a.csv"})
    assert main(["data", "--settings", told, "--length", "4", "--downloads", "d", "--out", "out"]) == 2
    assert "a.csv: it, or another file that `data` names, changed while it was read" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.npy")) and not (tmp_path / "d" / encodings.FOLDER).exists()


def test_what_is_no_file_of_the_source_is_refused_before_a_byte_of_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(origin, "known_checksum", lambda *_: pytest.fail("read"))
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "book.xlsx").write_bytes(b"PK")
    for source, file, told in (
        ("text", "/dev/zero", "/dev/zero: is neither a file nor a folder; data.file names it"),
        ("text", tmp_path / "pipe.csv", "pipe.csv: is neither a file nor a folder"),
        ("text", tmp_path / "book.xlsx", "book.xlsx: unknown kind of file '.xlsx'; allowed: .csv, .tsv, .*, or a folder"),
        ("encoded", tmp_path / "book.xlsx", "unknown kind of file '.xlsx'; allowed: .npz, .csv"),
        ("imdb", tmp_path, "is a folder; data.file names it: give the path of an imdb.npz in Keras's layout"),
        ("imdb", "/dev/zero", "is neither a file nor a folder"),
        ("text", tmp_path / ("long" * 100), "cannot be read: File name too long"),
    ):
        with pytest.raises(UserError, match=told):
            origin_of(Data(source=source, file=file), tmp_path)
    monkeypatch.setattr(origin, "known_checksum", lambda *_: "0" * 64)
    (tmp_path / "a.CSV").write_text("")
    with pytest.raises(UserError, match=r"is a folder; data.tokenizer names it: give the path of a tokenizer.json"):
        origin_of(Data(source="text", file=tmp_path / "a.CSV", tokenizer=tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["", ".", "./"])
@pytest.mark.parametrize("key", ["file", "validation_file"])
def test_an_empty_name_is_no_file(name, key):
    data = {"source": "text", "file": "a.csv"} | {key: name}
    with pytest.raises(UserError, match=rf"s.yaml: data.{key}: .*that is the working folder"):
        read_study({"study": "s", "cases": ["torch"], "data": data}, "s.yaml")


def test_each_source_declares_the_endings_that_are_read():
    tables = (*DELIMITERS, *JSON_LINES, *PARQUET)
    assert sources()["text"].endings == tables and sources()["encoded"].endings == (".npz", *tables)


def told_by(kind, corpus="IMDB Dataset", **more):
    source = {"kind": kind, "sha256": "0" * 64, "name": "reviews.csv", "named_by": "data.file", "settings": {}}
    return {"corpus": corpus, "title": corpus, "citation": None, "source": source} | more


def test_the_source_decides_what_the_data_is_and_not_its_title():
    assert not is_imdb(told_by("text")) and not is_imdb(told_by("encoded")) and citations(told_by("text")) == []
    assert is_imdb(told_by("imdb")) and not is_imdb(told_by("imdb", "own file own.npz"))
    assert is_imdb(told_by("imdb", "IMDB reviews (Keras's imdb.npz)"))
    for kind in ("text", "imdb"):
        assert (
            citations(told_by(kind, "VADER lexicon", citation="Me"))
            == citations(told_by(kind, "synthetic", citation="Me"))
            == ["Me"]
        )
    assert citations(told_by("snippets", "VADER movie-review snippets")) == [HUTTO]


def test_data_of_before_sources_were_told_is_known_by_the_name_it_was_given():
    for corpus, kind in (
        ("IMDB reviews (own file)", "imdb"), ("VADER movie-review snippets", "snippets"), ("synthetic sequences", "synthetic"),
    ):  # fmt: skip
        assert kind_of({"corpus": corpus}) == kind and is_imdb({"corpus": corpus}) == (kind == "imdb")


def test_a_title_makes_no_corpus_pass_for_another(tmp_path):
    movies = folder(tmp_path / "movies")
    for title in ("IMDB Dataset", "VADER lexicon", "synthetic reviews"):
        corpus = found(movies, title=title)
        assert (corpus.corpus, corpus.title) == (f"own file movies ({title})", title)


@pytest.mark.parametrize(("kind", "beside"), [("text", False), ("imdb", True), (None, True)])
def test_published_figures_stand_beside_imdb_alone(tmp_path, kind, beside):
    made = make_study(tmp_path / "s", steps=782, seeds=[0])
    file = made / "data/data.json"
    told = json.loads(file.read_text())
    file.write_text(
        json.dumps(told | {"corpus": "IMDB Dataset", "title": "IMDB"} | ({"source": told_by(kind)["source"]} if kind else {}))
    )
    collect(made)
    results = Results.read(made)
    assert comparable(results, BILSTM) == beside
    assert ("**This is not IMDB**" in readme(results, make_tables(results))) != beside
