"""The committed results are what their records tell: made anew, they come out unchanged; they are small; the README quotes them."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from levelfield.commands.cli import main
from levelfield.commands.keep import refuse_pretended
from levelfield.commands.rules import tables
from levelfield.tell.collect import collect
from levelfield.tell.figures import write_figures
from levelfield.tell.site.render import write_site

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("article", "quick")
"""Told anew by the everyday tests; the others by the long ones."""
STUDIES = sorted(file.parent for file in (ROOT / "results/reference").glob("*/*/study.json"))


class Arguments:
    def __init__(self, folder):
        self.folder = folder


@pytest.fixture(
    scope="module",
    params=[one if one.name in QUICK else pytest.param(one, marks=pytest.mark.long) for one in STUDIES],
    ids=lambda folder: "/".join(folder.parts[-2:]),
)
def anew(request, tmp_path_factory) -> tuple[Path, Path]:
    """A committed study, and a copy of its records from which all was made again."""
    committed = request.param
    copy = tmp_path_factory.mktemp("anew") / "results" / committed.relative_to(ROOT / "results")
    made = ("tables", "figures", "runs.parquet", "epochs.parquet", "steps.parquet", "README.md", "report.html")
    shutil.copytree(committed, copy, ignore=shutil.ignore_patterns(*made))
    collect(copy)
    tables.run(Arguments(copy))
    write_figures(copy)
    return committed, copy


def names(folder: Path, *patterns: str) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for pattern in patterns for file in folder.glob(pattern))


def test_leaderboard_and_tables_are_unchanged(anew):
    committed, copy = anew
    # the link to the manual depends on where the folder lies, and the copy lies in no checkout
    here, there = ((folder / "README.md").read_text().split("## The rest")[0] for folder in anew)
    assert here == there
    files = names(committed, "tables/*.csv", "tables/*.md")
    assert files == names(copy, "tables/*.csv", "tables/*.md")
    for name in files:
        if name.endswith(".md"):
            assert (committed / name).read_text() == (copy / name).read_text(), name
        else:  # the last digits of a float64 depend on the CPU: sums are vectorised to its width
            pd.testing.assert_frame_equal(pd.read_csv(committed / name), pd.read_csv(copy / name), rtol=1e-9, obj=name)


def test_figures_are_unchanged(anew):
    committed, copy = anew
    files = names(committed, "figures/*.svg")
    assert files == names(copy, "figures/*.svg")
    for name in files:
        assert (committed / name).read_bytes() == (copy / name).read_bytes(), name


def test_a_committed_study_of_several_models_is_shown_from_what_is_kept(tmp_path, capsys):
    """As a fresh clone has it: without what `levelfield tell` makes again."""
    copy = tmp_path / "real-models"
    again = ("steps.parquet", "*.png", "*.tex")
    shutil.copytree(ROOT / "results/reference/cpu/real-models", copy, ignore=shutil.ignore_patterns(*again))
    assert main(["show", str(copy)]) == 0
    assert "Fastest by model" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_committed_study_is_small(folder):
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name] or pytest.skip("no checkout of git")
    assert len(files) <= 60 and sum(file.stat().st_size for file in files) < 4 * 2**20
    assert (folder / "report.html").stat().st_size < 2**20
    assert {file.suffix for file in files} <= {".json", ".jsonl", ".parquet", ".csv", ".md", ".svg", ".html"}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_committed_record_names_nobodys_folder(folder):
    assert not re.search(r"/(root|home|Users)/", (folder / "records.jsonl").read_text())


NAMED = {
    "PyTorch": "torch", "compiled": "torch-compile", "Keras on TensorFlow": "keras-tensorflow", "Keras on TensorFlow as it comes": "keras-tensorflow", "JAX": "jax", "Flax": "flax",
    "Keras on JAX": "keras-jax", "Keras on PyTorch": "keras-torch", "without": "torch",
    "PyTorch with its memory in pages of 2 MiB": "torch-huge-pages", "PyTorch with its memory kept": "torch-kept-memory",
}  # fmt: skip
"""Case of each name in the README."""
INTERVAL = r"([\d.]+ \[[\d.]+, [\d.]+\])"


def times(study: str, case: str) -> tuple[str, str]:
    """A case's time beside the study's fastest one, as the README writes it, and the name of that one."""
    board = pd.read_csv(ROOT / study / "tables/leaderboard.csv")
    (row,) = board[board["case"] == case].to_dict("records")
    told = "{times_fastest:.2f} [{times_fastest_low:.2f}, {times_fastest_high:.2f}]".format(**row)
    return ("1" if row["fastest"] == row["case"] else told), row["fastest"]


def test_every_time_in_the_readme_is_that_of_the_case_that_it_names():
    readme = (ROOT / "README.md").read_text()
    found, study = 0, ""
    for names, told, link in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", readme, re.M):
        if not re.search(INTERVAL, told):
            continue
        study = re.search(r"\((results/reference/\w+/[\w-]+)/", link)[1] if link != "the same" else study
        quoted = [re.match(INTERVAL + "|1$", one.strip()) for one in told.split("; ")]
        for name, one in zip(re.sub(r" \([^)]*\)$", "", names).split("; "), quoted, strict=True):
            assert one[0] == times(study, NAMED[name])[0], (study, name)
            found += bool(one[1])
    flax, long, fastest = re.search(rf"(\w+) took {INTERVAL} times as long as ([\w ]+) \(", " ".join(readme.split())).groups()
    assert (long, NAMED[fastest]) == times("results/reference/cpu/reproduction-transformer", NAMED[flax])
    found += 1
    models = pd.read_csv(ROOT / "results/reference/cpu/models/tables/comparisons.csv").set_index(["case", "against"])
    takes = rf"with the {{}} ([\w ]+?) takes {INTERVAL} times as long as ([\w ]+?)[.,]"
    for model, name in (("transformer", "Transformer"), ("cnn", "CNN")):
        slow, interval, fast = re.search(takes.format(name), " ".join(readme.split())).groups()
        row = models.loc[f"{NAMED[fast]}+model={model}", f"{NAMED[slow]}+model={model}"]
        assert interval == "{speed:.2f} [{speed_low:.2f}, {speed_high:.2f}]".format(**row) and row["faster"]
        found += 1
    assert found == len(re.findall(INTERVAL, readme)), "an interval stands where this test does not look"


def test_the_readme_quotes_the_published_figures_as_reproduced():
    table = (ROOT / "results/reference/cpu/reproduction/tables/published.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    quoted = [" | ".join(figures) for _, figure, epoch, *figures in rows if figure.endswith("accuracy") and epoch == "2"]
    assert len(quoted) == 4
    assert all(figures in (ROOT / "README.md").read_text() for figures in quoted)


def test_the_readme_quotes_the_second_pair_as_reproduced():
    table = (ROOT / "results/reference/cpu/reproduction-transformer/tables/published.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    told = {(side, epoch): figures for side, _, epoch, *figures in rows}
    keras, jax, keras_last, jax_last = (told[key] for key in (("Keras", "1"), ("JAX", "1"), ("Keras", "2"), ("JAX", "10")))
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert (
        f"said {keras[0]} (Keras) and {jax[0]} (JAX) after one epoch, {keras_last[0]} and {jax_last[0]} after two and ten."
        in readme
    )
    assert f"{keras[1]} and {jax[1]}, {keras_last[1]} and {jax_last[1]}; why" in readme
    assert f"One program in both: {keras[2]} and {jax[2]}, after" in readme


def test_the_readme_says_which_difference_of_the_second_pair_was_shown_to_matter():
    """Of the cases that were trained for as many epochs as the matched one."""
    worth = pd.read_csv(ROOT / "results/reference/cpu/ablation-transformer/tables/departures.csv")
    worth = worth[worth["epochs"] == worth["matched_epochs"]]
    (row,) = worth[(worth["validation_accuracy_low"] > 0) | (worth["validation_accuracy_high"] < 0)].to_dict("records")
    assert row["settings"] == "learning_rate 0.0001" and pd.isna(row["departures"])
    value, low, high = (100 * row[f"validation_accuracy{end}"] for end in ("", "_low", "_high"))
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"was shown to change the validation accuracy, by {value:.2f} points [{low:.2f}, {high:.2f}] (2,500" in readme


def test_the_page_of_bounds_names_the_largest_share_of_a_first_step():
    """Over the committed studies whose bounds were derived: those of earlier versions name no tensor."""
    shares = []
    for folder in STUDIES:
        file = folder / "tables/parity.csv"
        told = pd.read_csv(file).dropna(subset="tensor") if file.exists() else pd.DataFrame()
        if not told.empty:
            first = told["distance"].isin(["probabilities", "gradients"]) | told["distance"].str.endswith("_step_1")
            shares += list((told["measured"] / told["bound"])[first & told["matched"]])
    page = (ROOT / "workflow/levelfield/level/README.md").read_text()
    assert f"Of the first step the largest share is **{max(shares):.3f}**" in page


@pytest.mark.long
def test_the_page_over_all_committed_studies_is_what_they_tell(tmp_path):
    root, copy = ROOT / "results/reference", tmp_path / "reference"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("figures", "report.html", "index.html"))
    number, unread = write_site(copy, copy / "index.html", refuse_pretended)
    assert (number, unread) == (len(STUDIES), {})
    assert (copy / "index.html").read_text() == (root / "index.html").read_text()
