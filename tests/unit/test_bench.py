"""`levelfield bench`: what was measured is written down at once, and goes on where it was broken off."""

import json
from argparse import ArgumentParser

import pytest

from levelfield.commands import bench
from levelfield.errors import UserError


@pytest.fixture
def benches(monkeypatch, tmp_path):
    """Two bars of two benches, which measure nothing; returns what was asked for, and how to ask."""
    bars = [bench.Bar("first", "bench_torch", "ratio", 1.0), bench.Bar("second", "bench_recording torch cnn", "ratio", 1.0)]
    asked, broken = [], set()

    def measured(name: str) -> dict:
        asked.append(name)
        if name in broken:
            raise KeyboardInterrupt
        return {"ratio": 0.5}

    def ask(*words: str) -> int:
        parser = ArgumentParser()
        bench.arguments(parser)
        asked.clear()
        return bench.run(parser.parse_args([*words, "--out", str(tmp_path)]))

    monkeypatch.setattr(bench, "BARS", bars)
    monkeypatch.setattr(bench, "measured", measured)
    monkeypatch.setattr(bench, "commit", lambda: "f00")
    return asked, broken, ask


def test_a_bench_that_is_broken_off_goes_on_with_what_is_missing(benches, tmp_path, monkeypatch):
    asked, broken, ask = benches
    broken.add("bench_recording torch cnn")
    with pytest.raises(KeyboardInterrupt):
        ask()
    (file,) = tmp_path.glob("*.json")
    assert [row["what"] for row in json.loads(file.read_text())["bars"]] == ["first"]
    broken.clear()
    assert ask("--missing") == 0 and asked == ["bench_recording torch cnn"]
    assert [row["found"] for row in json.loads(file.read_text())["bars"]] == [0.5, 0.5]
    assert ask("--missing") == 0 and asked == []
    assert ask("--missing", "bench_torch") == 0 and len(json.loads(file.read_text())["bars"]) == 2, "the others stay"
    assert ask("bench_torch") == 0 and asked == ["bench_torch"] and len(json.loads(file.read_text())["bars"]) == 2
    assert ask() == 0 and len(asked) == 2, "measured anew where nobody asks for what is missing"
    for other in ("f01", "f00+changes"):
        monkeypatch.setattr(bench, "commit", lambda told=other: told)
        assert ask("--missing") == 0 and len(asked) == 2, "another program's figures are not kept"


@pytest.mark.parametrize(
    ("details", "found", "word"),
    [
        ({"interval": [0.98, 1.009]}, 0.99, "met"),
        ({"interval": [0.98, 1.03]}, 0.99, "not decided"),
        ({"interval": [1.0, 1.03]}, 1.02, "not decided"),
        ({"interval": [1.011, 1.03]}, 1.02, "missed"),
        ({}, 1.0, "met"),
        ({}, 1.02, "missed"),
        ({"skipped": "no data"}, None, "skipped"),
        ({"failed": "no word"}, None, "failed"),
    ],
)
def test_a_bar_is_met_or_missed_where_the_whole_interval_says_so(details, found, word, capsys):
    row = {"what": "one", "found": found, "most": 1.01, "unit": "", "details": details}
    assert bench.verdict(row) == word
    bench.show([row])
    assert (details.get(word) or word) in capsys.readouterr().out


def test_a_file_that_is_damaged_is_told(benches, tmp_path):
    asked, _, ask = benches
    ask()
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text()[:40])
    with pytest.raises(UserError, match=r"is damaged .*: remove it"):
        ask("--missing")
    assert asked == []


def test_a_bench_that_failed_is_tried_again_and_a_bar_that_is_missed_is_told(benches, tmp_path, monkeypatch, capsys):
    asked, _, ask = benches
    monkeypatch.setattr(bench, "measured", lambda name: {"failed": "no word"} if "torch cnn" in name else {"ratio": 1.5})
    assert ask() == 1
    assert "missed" in capsys.readouterr().out
    monkeypatch.setattr(bench, "measured", lambda name: asked.append(name) or {"ratio": 0.5})
    assert ask("--missing") == 1 and asked == ["bench_recording torch cnn"], "the first bar is still missed"
