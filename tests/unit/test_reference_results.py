"""The committed results are what their records tell: made anew, they come out unchanged; they are small; the README quotes them."""

import re
import shutil
import subprocess
from pathlib import Path

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
        assert (committed / name).read_text() == (copy / name).read_text(), name


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


def test_every_interval_in_the_readme_is_one_of_a_study_that_it_links_to():
    readme = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\((results/reference/[\w-]+/[\w-]+)/[^)]*\)", readme))
    told = " ".join(file.read_text() for folder in linked for file in (ROOT / folder / "tables").glob("*.md"))
    quoted = re.findall(r"([\d.]+)(?: times)? (\[[\d.]+, [\d.]+\])", readme.replace("\n", " "))
    assert len(quoted) >= 6
    for value, interval in quoted:
        assert (
            f"{value} {interval}" in told or f"{value} times {interval}" in told or f"{value} times as fast {interval}" in told
        )


def test_the_readme_quotes_the_published_figures_as_reproduced():
    table = (ROOT / "results/reference/cpu/reproduction/tables/published.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    quoted = [" | ".join(figures) for _, figure, epoch, *figures in rows if figure.endswith("accuracy") and epoch == "2"]
    assert len(quoted) == 4
    assert all(figures in (ROOT / "README.md").read_text() for figures in quoted)


@pytest.mark.long
def test_the_page_over_all_committed_studies_is_what_they_tell(tmp_path):
    root, copy = ROOT / "results/reference", tmp_path / "reference"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("figures", "report.html", "index.html"))
    number, unread = write_site(copy, copy / "index.html", refuse_pretended)
    assert (number, unread) == (len(STUDIES), {})
    assert (copy / "index.html").read_text() == (root / "index.html").read_text()
