"""The same file with the same settings is encoded once, by its content; what is kept is bounded, whole, and checked."""

import json
import os
import shutil

import pytest
import yaml

from levelfield.commands import data as command
from levelfield.commands.cli import main
from levelfield.data import encodings
from levelfield.plan.plan import Plan
from levelfield.study.config import read_study

DOWNLOADS = "downloads"


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """A CSV of two labels, and a working folder."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f'"film {n % 7} was {("bad", "good")[n % 2]}",{("no", "yes")[n % 2]}\n' for n in range(40))
    (tmp_path / "reviews.csv").write_text("text,label\n" + rows)
    return tmp_path / "reviews.csv"


@pytest.fixture
def read(monkeypatch):
    """Counts how often a corpus was read."""
    found = []
    find_corpus = command.find_corpus
    monkeypatch.setattr(command, "find_corpus", lambda *a, **k: (found.append(1), find_corpus(*a, **k))[1])
    return found


def made(file, out, length=6, **settings):
    told = json.dumps({"source": "text", "file": str(file), "outputs": [["bilstm", 1]]} | settings)
    assert main(["data", "--settings", told, "--length", str(length), "--downloads", DOWNLOADS, "--out", str(out)]) == 0
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def entries(tmp_path):
    return sorted((tmp_path / DOWNLOADS / encodings.FOLDER).iterdir())


def test_another_study_of_the_same_file_gets_the_same_bytes_without_reading_it_again(reviews, tmp_path, read):
    first = made(reviews, tmp_path / "one")
    again = made(reviews, tmp_path / "two")
    assert len(read) == 1 and first == again and len(first) == 5


def test_the_content_decides_and_not_the_time_or_place(reviews, tmp_path, read):
    made(reviews, tmp_path / "one")
    moved = tmp_path / "elsewhere" / "reviews.csv"
    moved.parent.mkdir()
    shutil.copy(reviews, moved)
    os.utime(moved, (1, 1))
    made(moved, tmp_path / "two")
    assert len(read) == 1
    before = reviews.stat()
    reviews.write_text(reviews.read_text().replace("film 3", "film 9"))
    os.utime(reviews, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    made(reviews, tmp_path / "three")
    assert len(read) == 2


@pytest.mark.parametrize(
    "changed", [{"length": 7}, {"train": 10}, {"validation_share": 0.5}, {"split_seed": 3}, {"title": "Mine"}]
)
def test_another_setting_is_encoded_anew(reviews, tmp_path, read, changed):
    made(reviews, tmp_path / "one")
    made(reviews, tmp_path / "two", **changed)
    assert len(read) == 2


def test_a_copy_that_was_damaged_goes_and_the_file_is_read_again(reviews, tmp_path, read):
    first = made(reviews, tmp_path / "one")
    (entry,) = entries(tmp_path)
    with (entry / "x_train.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x07")
    assert made(reviews, tmp_path / "two") == first and len(read) == 2
    assert made(reviews, tmp_path / "three") == first and len(read) == 2


def test_a_copy_that_lacks_a_file_is_none(reviews, tmp_path, read):
    first = made(reviews, tmp_path / "one")
    (entries(tmp_path)[0] / "y_val.npy").unlink()
    assert made(reviews, tmp_path / "two") == first and len(read) == 2


def test_what_was_not_used_for_longest_goes_when_the_limit_is_reached(reviews, tmp_path, read, monkeypatch):
    made(reviews, tmp_path / "one")
    (one,) = entries(tmp_path)
    made(reviews, tmp_path / "two", split_seed=1)
    (two,) = {*entries(tmp_path)} - {one}
    os.utime(one, (1, 1))
    os.utime(two, (2, 2))
    made(reviews, tmp_path / "one again")
    monkeypatch.setattr(encodings, "LIMIT_BYTES", int(2.5 * sum(file.stat().st_size for file in one.iterdir())))
    made(reviews, tmp_path / "three", split_seed=2)
    assert one.exists() and not two.exists() and len(entries(tmp_path)) == 2 and len(read) == 3


def test_what_is_larger_than_the_limit_is_not_kept(reviews, tmp_path, read, monkeypatch):
    monkeypatch.setattr(encodings, "LIMIT_BYTES", 100)
    made(reviews, tmp_path / "one")
    made(reviews, tmp_path / "two")
    assert len(read) == 2 and not (tmp_path / DOWNLOADS / encodings.FOLDER).exists()


def test_a_full_disk_leaves_nothing_half_kept_and_the_data_stand(reviews, tmp_path, read, monkeypatch, capsys):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encodings.shutil, "copyfile", full)
    assert len(made(reviews, tmp_path / "one")) == 5
    assert "not kept for other studies: No space left on device" in capsys.readouterr().out
    assert entries(tmp_path) == []


def test_what_a_killed_process_left_goes_a_day_later(reviews, tmp_path):
    folder = tmp_path / DOWNLOADS / encodings.FOLDER
    for name in (".old.1.part", ".new.2.part"):
        (folder / name).mkdir(parents=True)
    os.utime(folder / ".old.1.part", (1, 1))
    made(reviews, tmp_path / "one")
    assert [entry.name for entry in entries(tmp_path) if entry.name.startswith(".")] == [".new.2.part"]


def test_a_model_that_does_not_fit_is_refused_as_before(reviews, tmp_path, capsys):
    made(reviews, tmp_path / "one")
    told = json.dumps({"source": "text", "file": str(reviews), "outputs": [["cnn", 3]]})
    arguments = ["data", "--settings", told, "--length", "6", "--downloads", DOWNLOADS, "--out", "two"]
    assert main(arguments) == 2 and "has 2 labels (no, yes)" in capsys.readouterr().err
    assert not list((tmp_path / "two").glob("*.npy"))


def test_what_levelfield_data_read_the_study_need_not_read_again(reviews, tmp_path, read):
    config = {"study": "mine", "data": {"source": "text", "file": str(reviews)}, "protocol": {"length": 6}, "cases": ["torch"]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    assert main(["data", "mine.yaml", "--downloads", DOWNLOADS]) == 0
    made(reviews, tmp_path / "one")
    assert len(read) == 1


def test_made_up_sequences_have_no_file_and_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = json.dumps({"synthetic": True, "train": 8, "validation": 4})
    assert main(["data", "--settings", told, "--downloads", DOWNLOADS, "--out", "one"]) == 0
    assert not (tmp_path / DOWNLOADS / encodings.FOLDER).exists()


def test_two_models_of_one_name_are_both_held_against_the_labels(reviews, tmp_path, capsys):
    """The first of them as well as the last, by `levelfield data` and by the rule."""
    wide, narrow = (
        {"backend": "torch", "name": name, "settings": {"model": {"name": "cnn", "outputs": count}}}
        for name, count in (("a", 3), ("b", 1))
    )
    for cases in ([wide, narrow], [narrow, wide]):
        config = {"study": "mine", "data": {"source": "text", "file": str(reviews)}, "cases": cases}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
        assert main(["data", "mine.yaml", "--downloads", DOWNLOADS]) == 2
        assert "found 3 of cnn, but own file reviews.csv has 2 labels" in capsys.readouterr().err
        plan = Plan(read_study(config, "mine.yaml"))
        told = ["data", "--settings", str(plan.data_json), "--downloads", DOWNLOADS, "--out", "out"]
        assert main(told) == 2 and "found 3 of cnn" in capsys.readouterr().err


def test_models_that_vary_have_the_outputs_of_the_protocols(reviews):
    def outputs(model, *varied):
        config = {"study": "mine", "protocol": {"model": model}, "cases": ["torch"], "vary": {"model": list(varied)}}
        return read_study(config, "mine.yaml").outputs

    varied = ("bilstm", "cnn", "transformer")
    assert outputs({"name": "bilstm", "outputs": 3}, *varied) == [("bilstm", 3), ("cnn", 3), ("transformer", 3)]
    assert outputs("bilstm", *varied) == [("bilstm", 1), ("cnn", 1), ("transformer", 2)], "as published"
    assert outputs({"name": "transformer", "outputs": 1}, *varied) == [("bilstm", 1), ("cnn", 1), ("transformer", 1)]


def test_what_decides_the_reading_beside_the_file_is_encoded_anew(reviews, tmp_path, read, monkeypatch):
    """Names that the data tells, and versions of what reads it."""
    for name in ("a.csv", "b.csv"):
        shutil.copy(reviews, tmp_path / name)
    made(reviews, tmp_path / "one", validation_file="a.csv")
    made(reviews, tmp_path / "two", validation_file="b.csv")
    assert len(read) == 2
    assert "validation by b.csv" in json.loads((tmp_path / "two/data.json").read_text())["why"]
    made(reviews, tmp_path / "three", validation_file="b.csv")
    assert len(read) == 2
    monkeypatch.setattr(encodings, "_versions", lambda: {"pyarrow": "0.1", "tokenizers": None})
    made(reviews, tmp_path / "four", validation_file="b.csv")
    assert len(read) == 3


@pytest.mark.parametrize("content", ["[]", "{}", '{"arrays": {"x_train.npy": 1}}', '{"arrays": {}, "title": 1}', "{"])
def test_a_copy_whose_description_is_damaged_is_none(reviews, tmp_path, read, content):
    first = made(reviews, tmp_path / "one")
    (entries(tmp_path)[0] / "data.json").write_text(content)
    assert made(reviews, tmp_path / "two") == first and len(read) == 2


def test_a_copy_that_the_disk_cannot_give_is_encoded_anew(reviews, tmp_path, read):
    first = made(reviews, tmp_path / "one")
    array = entries(tmp_path)[0] / "y_val.npy"
    array.unlink()
    array.mkdir()  # reading it is an error of the system, and not that it is missing
    assert made(reviews, tmp_path / "two") == first and len(read) == 2
