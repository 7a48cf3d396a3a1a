"""Where the reviews come from, in which order, and what data.json tells of it."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from outside import registered

from levelfield.commands.cli import main
from levelfield.data import corpus as corpora
from levelfield.data.arrays import load_description, load_split
from levelfield.data.download import DownloadError, RefusedError
from levelfield.data.origin import checksum
from levelfield.data.prepare import Shape, prepare, review
from levelfield.data.sources import imdb as published
from levelfield.data.sources import snippets
from levelfield.errors import UserError
from levelfield.study.data import Data
from levelfield.study.protocol import Protocol

SHAPE = Shape(vocabulary=50, length=4, padding="pre", truncation="pre")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def nobody(url, *_):
        raise DownloadError(f"{url}: the host cannot be reached")

    monkeypatch.delenv("LEVELFIELD_IMDB", raising=False)
    monkeypatch.setattr(published, "fetch", nobody)


def find_corpus(downloads, vocabulary, **data):
    return corpora.find_corpus(downloads, Data(**data), vocabulary=vocabulary)


def imdb(path, train=6, validation=4):
    arrays = {}
    for part, count in (("train", train), ("test", validation)):
        rows = np.empty(count, object)
        rows[:] = [[number + 1, 2] for number in range(count)]
        arrays |= {f"x_{part}": rows, f"y_{part}": np.arange(count) % 2}
    np.savez(path, **arrays)
    return path


def sdist(path, lines):
    """A source distribution as the snippets come in."""

    def packed(name, content):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return file.getvalue()

    outer, inner = snippets.MEMBERS
    path.write_bytes(packed(outer, packed(inner, "\r\n".join(lines).encode())))
    return path


@pytest.fixture
def with_snippets(tmp_path, monkeypatch):
    """20 snippets in downloads, one of them rated 0."""
    lines = [f"{n}\t{(-1) ** n * 1.5}\tIt's word{n % 4}, (WORD{n % 4}) and film-{n}." for n in range(19)]
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    path = sdist(downloads / snippets.SDIST, [*lines, "20\t0.0\tneither"])
    monkeypatch.setattr(snippets, "SHA256", checksum(path))
    return downloads


def test_an_own_file_comes_first(tmp_path, monkeypatch):
    own, other = imdb(tmp_path / "own.npz"), imdb(tmp_path / "other.npz", train=3)
    monkeypatch.setenv("LEVELFIELD_IMDB", str(other))
    corpus = find_corpus(tmp_path, file=own, vocabulary=50)
    assert (len(corpus.train), corpus.why, corpus.corpus) == (6, "data.file names it", "own file own.npz")
    assert corpus.source_sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    corpus = find_corpus(tmp_path, vocabulary=50)
    assert (len(corpus.train), corpus.why) == (3, "LEVELFIELD_IMDB names it")


def test_an_own_file_must_have_the_checksum_given_and_stays_where_it_is(tmp_path):
    own = imdb(tmp_path / "own.npz")
    assert find_corpus(tmp_path, file=own, sha256=checksum(own), vocabulary=50).title == "own file own.npz"
    with pytest.raises(UserError, match=r"refused: found the sha256 .*, expected 000"):
        find_corpus(tmp_path, file=own, sha256="0" * 64, vocabulary=50)
    assert own.exists()


def test_an_own_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"own.npz: no such file; data.file names it"):
        find_corpus(tmp_path, file=tmp_path / "own.npz", vocabulary=50)


def test_a_checksum_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"data.sha256 is set, but neither"):
        find_corpus(tmp_path, sha256="0" * 64, vocabulary=50)


def test_the_copy_at_hand_is_taken_before_the_network(tmp_path, monkeypatch):
    path = imdb(tmp_path / "imdb.npz")
    monkeypatch.setattr(published, "IMDB_SHA256", checksum(path))
    corpus = find_corpus(tmp_path, vocabulary=50)
    assert (corpus.corpus, corpus.why) == ("IMDB reviews (Keras's imdb.npz)", "the copy already downloaded")


def test_an_altered_copy_at_hand_is_put_aside_and_not_used(tmp_path, with_snippets):
    imdb(with_snippets / "imdb.npz")
    assert find_corpus(with_snippets, vocabulary=50).title == "VADER snippets, not IMDB"
    assert (with_snippets / "imdb.npz.refused").exists() and not (with_snippets / "imdb.npz").exists()


def test_the_published_file_is_fetched(tmp_path, monkeypatch):
    def fetched(url, target, expected):
        assert (url.rsplit("/", 1)[1], expected) == ("imdb.npz", published.IMDB_SHA256)
        return imdb(target)

    monkeypatch.setattr(published, "fetch", fetched)
    assert find_corpus(tmp_path, vocabulary=50).why.startswith("downloaded from https://")


def test_snippets_say_that_they_are_no_imdb(with_snippets, tmp_path):
    corpus = find_corpus(with_snippets, vocabulary=50)
    data = prepare(corpus, SHAPE, train=4, validation=900, out=tmp_path / "data")
    assert data["title"] == "VADER snippets, not IMDB" and "Hutto" in data["citation"]
    assert "the host cannot be reached" in data["why"]
    assert "900 validation reviews were asked for, there are 10" in data["why"]
    assert (data["train_sequences"], data["validation_sequences"]) == (4, 10)


def test_snippets_are_halved_and_ranked_by_the_training_half(with_snippets):
    train, validation, index = snippets.read_snippets(with_snippets / snippets.SDIST)
    assert (len(train), len(validation)) == (9, 10)
    assert sum(train.labels) + sum(validation.labels) == 10
    assert [index["and"], index["film"], index["it's"]] == [1, 2, 3] and "neither" not in index
    assert validation.ranks.max() <= len(index)
    assert snippets.words("It's (WORD), film-1.\t") == ["it's", "word", "film", "1"]


def test_without_a_stand_in_the_ways_out_are_named(tmp_path):
    with pytest.raises(UserError, match=r"Three ways out: name a file.*put Keras's imdb.npz at .*set data.otherwise: snippets"):
        find_corpus(tmp_path, otherwise="none", vocabulary=50)


def test_snippets_that_cannot_be_had_either(tmp_path, monkeypatch):
    def no_pip(*_, **__):
        raise RefusedError("pip download: no")

    monkeypatch.setattr(snippets, "fetch_snippets", no_pip)
    with pytest.raises(UserError, match=r"neither the IMDB reviews nor the VADER snippets can be had: .*data.synthetic: true"):
        find_corpus(tmp_path, vocabulary=50)


def test_the_files_are_plain_and_data_json_tells_their_checksums(tmp_path):
    corpus = find_corpus(tmp_path, file=imdb(tmp_path / "own.npz"), vocabulary=50)
    data = prepare(corpus, SHAPE, None, 3, tmp_path / "data")
    assert data == json.loads((tmp_path / "data" / "data.json").read_text())
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == sorted([*data["arrays"], "data.json"])
    lines = ""
    for name in ("x_train.npy", "y_train.npy", "x_val.npy", "y_val.npy"):
        told, array = data["arrays"][name], np.load(tmp_path / "data" / name, mmap_mode="r", allow_pickle=False)
        assert told["sha256"] == checksum(tmp_path / "data" / name)
        assert told["shape"] == list(array.shape) and array.dtype == (np.int32 if name[0] == "x" else np.float32)
        lines += f"{told['sha256']}  {name}\n"
    assert data["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert (data["train_sequences"], data["validation_sequences"], data["train_tokens"]) == (6, 3, 18)
    assert data["train_positive_share"] == 0.5


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_val", "y_val"])
def test_an_array_that_is_not_the_one_that_was_written_is_not_trained_on(tmp_path, name):
    """One bit of it is another, and it would be read as any other number."""
    prepare(find_corpus(tmp_path, file=imdb(tmp_path / "own.npz"), vocabulary=50), SHAPE, None, None, tmp_path / "data")
    file, protocol, split = tmp_path / "data" / f"{name}.npy", Protocol(vocabulary=50, length=4), name.partition("_")[2]
    x, y = load_split(tmp_path / "data", split, protocol)
    assert len(x) == len(y) == {"train": 6, "val": 4}[split]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    told = rf"data/{name}.npy is altered: sha256 [0-9a-f]{{64}}, written with [0-9a-f]{{64}}; delete it and run snakemake again"
    with pytest.raises(UserError, match=told):
        load_split(tmp_path / "data", split, protocol)
    load_split(tmp_path / "data", {"train": "val", "val": "train"}[split], protocol)
    described = load_description(tmp_path / "data")
    (tmp_path / "data/data.json").write_text(json.dumps(described | {"arrays": {}}))
    assert load_split(tmp_path / "data", split, protocol)[0].shape == x.shape, "older data does not tell checksums"


@pytest.mark.parametrize("content", [b'{"sha256": "0', b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_data_json_is_told_in_one_line(tmp_path, content):
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(UserError, match=r"data.json is damaged \(.*\): put the right one back, or .*`--config replace=data`"):
        load_description(tmp_path)


def test_fewer_reviews_are_the_first_of_all(tmp_path):
    corpus = find_corpus(tmp_path, file=imdb(tmp_path / "own.npz"), vocabulary=50)
    prepare(corpus, SHAPE, None, None, tmp_path / "all")
    prepare(corpus, SHAPE, 2, 1, tmp_path / "few")
    for name, count in (("x_train", 2), ("y_train", 2), ("x_val", 1), ("y_val", 1)):
        assert np.array_equal(np.load(tmp_path / "few" / f"{name}.npy"), np.load(tmp_path / "all" / f"{name}.npy")[:count])


def test_more_reviews_than_there_are(tmp_path):
    corpus = find_corpus(tmp_path, file=imdb(tmp_path / "own.npz"), vocabulary=50)
    with pytest.raises(UserError, match=r"data.validation: found 5, .* has 4 reviews"):
        prepare(corpus, SHAPE, 6, 5, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_review_is_the_row_of_the_data_uncut(tmp_path):
    corpus = find_corpus(tmp_path, file=imdb(tmp_path / "own.npz"), vocabulary=50)
    prepare(corpus, SHAPE, None, None, tmp_path / "data")
    x, y = np.load(tmp_path / "data" / "x_train.npy"), np.load(tmp_path / "data" / "y_train.npy")
    ids, label = review(corpus, 5, 50)
    assert ids.tolist() == x[5, 1:].tolist() and label == y[5]
    with pytest.raises(UserError, match="found review 6, expected 0 to 5"):
        review(corpus, 6, 50)


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = imdb(tmp_path / "own.npz")
    settings = {"file": "own.npz", "train": 4}
    sizes = ["--vocabulary", "50", "--length", "4"]
    assert main(["data", "--settings", json.dumps(settings), *sizes, "--downloads", "d", "--out", "results/s/data"]) == 0
    assert "own file own.npz: 4 + 4 sequences of 4 tokens" in capsys.readouterr().out
    study = {"study": "s", "cases": ["torch"], "data": settings, "protocol": {"vocabulary": 50, "batch_size": 4}}
    (tmp_path / "results/s/study.json").write_text(json.dumps(study))
    assert main(["review", "0", "--study", "results/s"]) == 0
    assert "no word index is at hand" in capsys.readouterr().out
    own.with_name("imdb_word_index.json").write_text(json.dumps({f"word{rank}": rank for rank in range(1, 9)}))
    assert main(["review", "0", "--study", "results/s"]) == 0
    assert "text: <START> word" in capsys.readouterr().out
    imdb(own, train=5)
    assert main(["review", "0", "--study", "results/s"]) == 2
    assert "made from another file" in capsys.readouterr().err
    assert main(["review", "0", "--study", "results/none"]) == 2
    for file in ("data/data.json", "study.json"):
        for content in ("{", "{}", '{"data": {"trian": 4}}'):
            (tmp_path / "results/s" / file).write_text(content)
            capsys.readouterr()
            assert main(["review", "0", "--study", "results/s"]) == 2
            said = capsys.readouterr().err.splitlines()[-1]
            assert said.startswith("levelfield review: ") and f"results/s/{file}" in said
    assert main(["data", "--settings", '{"file": "no.npz"}', "--downloads", "d", "--out", "o"]) == 2


def test_an_environment_without_pip_is_told_what_to_do(tmp_path, monkeypatch):
    def without_pip(command, **_):
        return snippets.subprocess.CompletedProcess(command, 1, "", f"{command[0]}: No module named pip\n")

    monkeypatch.setattr(snippets.subprocess, "run", without_pip)
    with pytest.raises(
        UserError, match=r"this environment has none: install it.*or put the file at .*vaderSentiment-3.3.2.tar.gz"
    ):
        find_corpus(tmp_path, vocabulary=50)


def test_certificates_that_are_not_there_lead_to_the_snippets(tmp_path, monkeypatch):
    """They are no traceback, and pip is not told of them: the snippets' checksum is pinned."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    asked = {}

    def pip(command, env, **_):
        asked.update(env)
        return snippets.subprocess.CompletedProcess(command, 1, "", "ERROR: no network\n")

    monkeypatch.setattr(snippets.subprocess, "run", pip)
    with pytest.raises(UserError, match="neither the IMDB reviews nor the VADER snippets can be had"):
        find_corpus(tmp_path, vocabulary=50)
    assert "PATH" in asked and "REQUESTS_CA_BUNDLE" not in asked


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: no versions (from https://ada:hunter2@index/simple)\n", r"no versions \(from https://\*\*\*@index/simple\)"),
        ("ERROR: Exception:\n  InvalidURL: 'ada:hunter2' is not a valid host or port\n", "an address cannot be read"),
        ("LocationParseError: Failed to parse: http://ada:hunter2#x@proxy:3128\n", "an address cannot be read"),
    ],
)
def test_what_pip_tells_of_an_address_is_told_without_its_password(tmp_path, monkeypatch, said, told):
    def pip(command, **_):
        return snippets.subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(snippets.subprocess, "run", pip)
    with pytest.raises(UserError, match=told) as caught:
        find_corpus(tmp_path, vocabulary=50)
    assert "hunter2" not in str(caught.value)


def test_why_it_is_no_imdb_is_told_without_a_proxys_password(with_snippets, tmp_path, monkeypatch):
    def through_a_proxy(url, *_):
        raise DownloadError(f"{url}: no way through http://ada:hunter2@proxy:3128")

    monkeypatch.setattr(published, "fetch", through_a_proxy)
    data = prepare(find_corpus(with_snippets, vocabulary=50), SHAPE, 4, 4, tmp_path / "data")
    assert data["why"].endswith("no way through http://***@proxy:3128")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"film": 1, "th', r"damaged \(.*\): put Keras's imdb_word_index.json there, or take it away"),
        (b'{"film\xff": 1}', r"damaged \(.*\): put"),
        (b"[" * 100_000, r"damaged \(.*\): put"),
        (b'["film"]', "found a list, expected an object of words and their ranks: put"),
        (b'{"film": "one"}', "'film': found 'one', expected its rank, a whole number: put"),
        (b'{"film": true}', "'film': found 'True', expected its rank"),
    ],
)
def test_an_own_word_index_that_is_none_is_told_in_one_line(tmp_path, content, told):
    own = imdb(tmp_path / "own.npz")
    (tmp_path / "imdb_word_index.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"imdb_word_index.json: {told}") as caught:
        corpora.find_corpus(tmp_path, Data(file=own), vocabulary=50, words=True)
    assert "\n" not in str(caught.value)
    assert corpora.find_corpus(tmp_path, Data(file=own), vocabulary=50).words is None, "nobody asks for words: it is not read"


def test_an_own_file_is_imdb_by_its_checksum_alone(tmp_path, monkeypatch):
    own = imdb(tmp_path / "imdb.npz")
    corpus = find_corpus(tmp_path, file=own, vocabulary=50, title="My films", citation="Me, 2026")
    assert (corpus.corpus, corpus.title, corpus.citation) == ("own file imdb.npz (My films)", "My films", "Me, 2026")
    assert find_corpus(tmp_path, file=own, vocabulary=50).citation is None
    monkeypatch.setattr(published, "IMDB_SHA256", checksum(own))
    corpus = find_corpus(tmp_path, file=own, vocabulary=50, title="My films")
    assert (corpus.title, corpus.citation) == ("IMDB", published.MAAS)


def test_data_json_tells_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = imdb(tmp_path / "own.npz")
    monkeypatch.setenv("LEVELFIELD_IMDB", str(own))
    assert main(["data", "--settings", '{"train": 4}', "--vocabulary", "50", "--length", "4", "--out", "results/s/data"]) == 0
    source = json.loads((tmp_path / "results/s/data/data.json").read_text())["source"]
    assert source == {
        "kind": "imdb", "sha256": checksum(own), "name": "own.npz", "named_by": "LEVELFIELD_IMDB", "settings": {},
    }  # fmt: skip


OUTSIDE = '''
"""A source from outside."""
import numpy as np
from levelfield.data.corpus import Corpus
from levelfield.data.encode import Reviews

TAKES = ("options",)


def read(data, asked):
    rows = [[n % 7 + 1] * data.options["words"] for n in range(20)]
    part = Reviews.from_lists(rows, np.arange(20) % 2)
    return Corpus("counting", "counting", "data.source names it", None, None, part, part, kind="counting")
'''


def test_a_source_from_outside(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project/counting.py").write_text(OUTSIDE)
    points = '[project]\nname = "counting"\nversion = "1"\n[project.entry-points."levelfield.sources"]\ncounting = "counting"\n'
    (tmp_path / "project/pyproject.toml").write_text(points)
    with registered(tmp_path / "project", tmp_path / "site", monkeypatch):
        corpus = find_corpus(tmp_path, vocabulary=50, source="counting", options={"words": 3})
        assert corpus.title == "counting" and corpus.train.sizes.tolist() == [3] * 20
        told = prepare(corpus, SHAPE, None, None, tmp_path / "out")
        assert told["validation_also_in_train"] == 20
