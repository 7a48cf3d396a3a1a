"""A kept study has few files and tells the same as the one that it was kept from; a number edited in either form is noticed."""

import json
import re
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
from made_study import EVERY_KIND, make_study

from levelfield.commands import keep
from levelfield.commands.cli import main
from levelfield.commands.rules import collect, tables
from levelfield.errors import UserError
from levelfield.export.runs import record_of
from levelfield.tell.kept import LINES, STEPS, Records
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

COLLECTED = ("runs.parquet", "epochs.parquet", "steps.parquet")


def told(folder: Path) -> dict[str, bytes]:
    """All that tables are made from, and the tables."""
    for step in (collect, tables):
        step.run(Namespace(folder=folder))
    files = [*map(folder.joinpath, COLLECTED), *sorted((folder / "tables").iterdir())]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path]:
    """A study as its runs left it, and the same kept."""
    folder = tmp_path_factory.mktemp("both")
    failures = {("torch", 1): "failed", ("torch", 2): "missing"}
    source = make_study(folder / "s", EVERY_KIND, steps=20, failures=failures, hashed=True)
    take = source / "runs/jax/seed-0/takes/1"
    take.mkdir(parents=True)
    for file in ("run.json", "epochs.csv", "steps.npz"):
        (take / file).write_bytes((source / "runs/jax/seed-0" / file).read_bytes())
    keep.run(Namespace(source=source, folder=folder / "kept" / "s"))
    return source, folder / "kept" / "s"


def test_both_forms_tell_the_same_to_the_byte(both):
    source, kept = both
    assert told(source) == told(kept)


def test_a_kept_study_has_few_files_and_no_run_of_its_own(both):
    source, kept = both
    assert not (kept / "runs").exists() and not (kept / "parity").exists()
    assert len(list(source.rglob("*.npz"))) == 20 and not list(kept.rglob("*.npz"))
    named = {json.loads(line)["file"] for line in (kept / LINES).read_text().splitlines()}
    assert {"runs/jax/seed-0/run.json", "runs/jax/seed-0/takes/1/epochs.csv", "parity/jax.json"} <= named
    assert "runs/jax/seed-0/takes/1/steps.npz" in pd.read_parquet(kept / STEPS)["file"].tolist()
    for name in named:
        if name.endswith(".json"):
            assert json.loads(Records(kept).read(name)) == json.loads((source / name).read_bytes())
        else:
            assert Records(kept).read(name) == (source / name).read_bytes()
    assert Records(kept).read("runs/jax/seed-0/steps.npz") == (source / "runs/jax/seed-0/steps.npz").read_bytes()


@pytest.mark.long
def test_what_is_kept_can_be_kept_again(both, tmp_path):
    _, kept = both
    keep.run(Namespace(source=kept, folder=tmp_path / "again" / "s"))
    for name in (LINES, STEPS, "report.html", "tables/leaderboard.csv"):
        assert (tmp_path / "again/s" / name).read_bytes() == (kept / name).read_bytes()


def test_a_run_of_a_kept_study_can_be_named(both):
    _, kept = both
    _, record = record_of(kept / "runs/jax/seed-1")
    assert (record.run.case, record.run.seed, record.steps.loss.size) == ("jax", 1, 40)


@pytest.mark.parametrize(
    ("pretended", "what"),
    [
        ({"driver": "pretended 590.10"}, "driver 'pretended 590.10'"),
        ({"flags": {"pretended": "on the CPU"}}, "a pretended backend"),
    ],
    ids=["by its driver", "where NVML is absent"],
)
def test_what_was_pretended_is_neither_kept_nor_exported_nor_compared(tmp_path, capsys, pretended, what):
    folder = make_study(tmp_path / "s", ["torch"], seeds=[0], steps=5)
    file = folder / "runs/torch/seed-0/run.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"machine": record["machine"] | pretended}))
    for command in (["keep", folder, tmp_path / "kept"], ["export", "--mllog", folder], ["compare", folder, folder]):
        assert main([str(word) for word in command]) == 2, command
        assert f"{what}: a pretended GPU measured nothing" in " ".join(capsys.readouterr().err.split()), command
    assert not (tmp_path / "kept").exists() and not list(folder.rglob("mllog.txt"))


@pytest.mark.parametrize(
    ("pattern", "edit", "file"),
    [
        (r'("file": "runs/jax/seed-1/run.json".*"train_seconds": )[\d.]+', r"\g<1>1.5", "run.json"),
        (r'("file": "runs/jax/seed-1/epochs.csv".*\\n1,)[\d.]+', r"\g<1>1.5", "epochs.csv"),
    ],
)
def test_a_number_edited_in_a_kept_record_is_noticed(both, tmp_path, pattern, edit, file):
    folder = tmp_path / "s"
    _, kept = both
    (folder / "data").mkdir(parents=True)
    for name in ("study.json", "data/data.json", STEPS):
        (folder / name).write_bytes((kept / name).read_bytes())
    text, count = re.subn(pattern, edit, (kept / LINES).read_text())
    assert count == 1
    (folder / LINES).write_text(text)
    told(folder)
    runs = pd.read_parquet(folder / "runs.parquet").set_index(["case", "seed"])
    assert runs.loc[("jax", 1), "error"].startswith(f"damaged: runs/jax/seed-1/{file}: is not as it was written: sha256 ")
    right = pd.read_parquet(kept / "runs.parquet").set_index(["case", "seed"])
    assert (right["status"] == "finished").sum() - (runs["status"] == "finished").sum() == 1


def test_records_of_an_earlier_version_are_told_as_such(tmp_path):
    folder = make_study(tmp_path / "s", steps=5)
    told(folder)
    said = "6 of 6 records are of a version that wrote no checksums: a number edited in them is not noticed."
    assert said in make_tables(Results.read(folder))["leaderboard"].notes


def test_a_line_that_names_no_file_is_said_and_a_name_twice_is_no_record(both, tmp_path):
    _, kept = both
    lines = (kept / LINES).read_text().splitlines()
    (tmp_path / LINES).write_text("\n".join([*lines, lines[0]]))
    name = json.loads(lines[0])["file"]
    with pytest.raises(Exception, match=f"{name}: stands twice in {LINES}"):
        Records(tmp_path).read(name)
    (tmp_path / LINES).write_text("\n".join([lines[0], lines[1][5:]]))
    with pytest.raises(UserError, match=rf"{LINES}: line 2 names no file"):
        Records(tmp_path).read(name)
