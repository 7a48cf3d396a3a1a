"""The page over all studies: each one told once, by its own words; what cannot be read is named; nothing is compared across studies."""

import json
import os
import shutil

import pytest
from made_study import EVERY_KIND, make_study

from levelfield.commands.cli import main
from levelfield.errors import UserError
from levelfield.tell.collect import collect
from levelfield.tell.site.render import page, write_site
from levelfield.tell.site.standings import colours_of, own_row, standings
from levelfield.tell.site.studies import collected, machines, records, told, versions

FRAMES = ("keras-tensorflow", "torch", "torch-compile", "jax")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two studies in folders of different depth, a third with a question and its answer, and a fourth of nothing that finished."""
    root = tmp_path_factory.mktemp("site") / "results"
    made = {
        "frames": {"cases": FRAMES, "steps": 40},
        "reference/cpu/models": {"cases": ("torch", "flax"), "vary": {"model": ["bilstm", "cnn"]}, "steps": 20},
        "reference/cpu/one-asked": {
            "steps": 20, "seeds": (0, 1), "speed": 2.0, "question": "Is <b> it?", "source": "keras-team/keras#20713",
        },
        "none finished": {"cases": ("torch",), "seeds": (0,), "steps": 20, "failures": {("torch", 0): "failed"}},
    }  # fmt: skip
    for name, options in made.items():
        collect(make_study(root / name, **({"study": name.replace(" ", "-")} if " " in name else {}) | options))
    (root / "reference/cpu/one-asked/answer.md").write_text("It is & was.\n")
    return root


@pytest.fixture(scope="module")
def studies(root):
    return [told(folder, root) for folder in collected(root)]


def test_every_study_is_told_once_and_by_its_own_words(root, studies):
    text = page(studies, {})
    assert [one.place for one in studies] == ["frames", "none finished", "reference/cpu/models", "reference/cpu/one-asked"]
    for one in studies:
        assert text.count(f'href="{one.place.replace(" ", "%20")}/report.html"') == 1
    assert "4 studies, 28 finished runs</h1>" in text
    assert "Is &lt;b&gt; it?" in text and "<b> it" not in text and "It is &amp; was." in text
    assert '<a href="https://github.com/keras-team/keras/issues/20713">keras#20713</a>' in text
    assert "No run of this study has finished" in text


def test_a_study_is_not_searched_for_others(root, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(root, copy)
    shutil.copytree(root / "frames", copy / "frames/runs/torch/seed-0/inner")
    shutil.copytree(root / "frames", copy / ".hidden/frames")
    assert [folder.relative_to(copy).as_posix() for folder in collected(copy)] == [
        "frames", "none finished", "reference/cpu/models", "reference/cpu/one-asked",
    ]  # fmt: skip


def test_cases_stand_beside_those_of_their_study_and_model_alone(studies):
    rows = standings([one for one in studies if len(one.runs)])
    assert set(rows["group"].str.partition(" · ")[0]) == {"frames", "models", "one-asked"}
    for _, mine in rows.groupby(["group", "model"]):
        assert mine["value"].min() == 1 and (mine["value"] == 1).sum() == 1 and len(mine) in (2, 4)
    fastest = rows[rows["value"] == 1]
    assert not fastest["slower"].any() and set(fastest["interval"]) == {"the fastest"}
    assert len(rows) == 10 and set(rows[rows["model"] == "cnn"]["row"]) == {"torch", "flax"}


def test_an_option_has_its_frameworks_colour(studies):
    assert own_row("torch-compile") == own_row("torch") == "torch" and own_row("of-another-package") == "of-another-package"
    rows = standings([one for one in studies if len(one.runs)])
    assert set(rows["like"]) == {"keras-tensorflow", "torch", "jax", "flax"} == set(colours_of(rows))
    assert len(set(colours_of(rows).values())) == 4


def test_departures_and_settings_are_no_equals_of_the_study(tmp_path):
    folder = make_study(tmp_path / "s", EVERY_KIND, steps=20)
    collect(folder)
    one = told(folder, tmp_path)
    matched = {case.name for case in one.results.study.expanded if case.matched}
    assert set(standings([one])["case"]) <= matched


def test_the_table_of_records_counts_what_the_records_have(studies):
    data = records([one for one in studies if len(one.runs)]).data.set_index("study")
    assert data.loc["frames", ["runs", "planned", "sessions", "hosts"]].tolist() == [12, 12, 1, 1]
    assert data.loc["models", "models"] == "bilstm, cnn" and data.loc["models", "cases"] == 4
    assert data.loc["one-asked", "smallest_ratio"] in ("", *(f"{value / 100:.2f}" for value in range(100, 10_000)))


def test_machines_and_versions_are_counted_over_all_studies(studies):
    finished = [one for one in studies if len(one.runs)]
    assert machines(finished).data["runs"].sum() == sum(len(one.runs) for one in finished)
    data = versions(finished).data
    python = data[data["package"] == "Python"]
    assert python["runs"].sum() == sum(len(one.runs) for one in finished)
    assert python["studies"].iloc[0] == "frames, models, one-asked"


def test_what_cannot_be_read_is_named_and_the_rest_told(root, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(root / "frames", copy / "frames")
    shutil.copytree(root / "frames", copy / "broken")
    (copy / "broken/data/data.json").write_text(json.dumps({"corpus": "?"}))
    number, unread = write_site(copy, copy / "index.html")
    assert number == 1 and list(unread) == [str(copy / "broken")] and "run `snakemake` again" in unread[str(copy / "broken")]
    assert "run `snakemake` again" in (copy / "index.html").read_text()
    shutil.rmtree(copy / "frames")
    with pytest.raises(UserError, match=r"no study that was collected and can be read: .*data\.json"):
        write_site(copy, copy / "index.html")


def test_the_command_says_where_the_page_is_or_what_to_type(root, tmp_path, capsys, monkeypatch):
    out = tmp_path / "site/all.html"
    assert main(["site", str(root), "--out", str(out)]) == 0
    assert f"{out}: 4 studies" in capsys.readouterr().out
    assert f'href="{os.path.relpath(root, out.parent)}/frames/report.html"' in out.read_text()
    assert main(["site", str(tmp_path / "nowhere")]) == 2
    assert "is no folder: name one that holds studies" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["site", str(tmp_path / "empty")]) == 2
    assert "run one, or name a folder such as" in capsys.readouterr().err
