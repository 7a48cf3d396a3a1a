"""The page over all studies: each one told once, by its own words; what cannot be read is named; nothing is compared across studies."""

import json
import os
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from made_study import EVERY_KIND, make_study

from levelfield.commands.cli import main
from levelfield.measure.gpu import PRETENDED
from levelfield.tell.collect import collect
from levelfield.tell.report.sections import PAGE
from levelfield.tell.site.render import page
from levelfield.tell.site.standings import NO_CLAIM, OPEN, SLOWER, chart, colours_of, left_out, own_row, standings
from levelfield.tell.site.studies import _ratios, apart, collected, machines, records, told, versions

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
        assert (mine["interval"] == "the fastest").sum() == 1 and len(mine) in (2, 4)
    fastest = rows[rows["interval"] == "the fastest"]
    assert set(fastest["value"]) == {1} and set(fastest["claim"]) == {OPEN}
    assert len(rows) == 10 and set(rows[rows["model"] == "cnn"]["like"]) == {"torch", "flax"}


def of(folder, **options):
    """A study told, and the folder's page."""
    collect(make_study(folder, **{"steps": 20} | options))
    return told(folder, folder.parent)


def spoil(folder, case):
    """All runs of a case are spoilt by noise."""
    for file in folder.glob(f"runs/{case}/*/run.json"):
        file.write_text(file.read_text().replace('"noise_warning": null', '"noise_warning": "other work took 40% of the CPUs"'))
    collect(folder)


def test_what_bears_no_claim_is_marked_as_such_wherever_it_lies(tmp_path):
    """A case without a clean run is never the fastest, and its time may be the shortest."""
    of(tmp_path / "s", cases=("keras-tensorflow", "torch", "jax"))
    fastest = standings([told(tmp_path / "s", tmp_path)]).set_index("case")["value"].idxmin()
    spoil(tmp_path / "s", fastest)
    rows = standings([told(tmp_path / "s", tmp_path)]).set_index("case")
    row = rows.loc[fastest]
    assert row["value"] < 1 and row["claim"] == NO_CLAIM and "pairs" in row["interval"] and row["pairs"] == 0
    drawn = chart(rows.reset_index(), colours_of(rows), "bilstm", PAGE).to_dict()
    scales = [layer["encoding"]["x"]["scale"]["domain"] for layer in drawn["layer"]]
    assert all(low < rows["value"].min() and high > rows["value"].max() for low, high in scales)
    assert f"{fastest} {row['value']:.2f} (no claim)" in drawn["usermeta"]["values"]


def test_a_ratio_within_the_noise_of_a_twin_is_not_shown(tmp_path):
    one = of(tmp_path / "s", cases=("keras-tensorflow", "torch"), twin=True, seeds=range(6))
    rows, board = standings([one]), one.board
    assert set(rows["case"]) == {"keras-tensorflow", "torch"}
    for row in rows.itertuples():
        assert (row.claim == SLOWER) == board.set_index("case").loc[row.case, "shown_slower"]


def test_a_study_without_parity_is_not_drawn_and_says_so(tmp_path):
    one = of(tmp_path / "s", parity=False)
    rows = standings([one])
    assert rows.empty and left_out([one], rows) == {"s": "parity was not asked for"}
    text = page([one, of(tmp_path / "t")], {})
    assert "that the cases compute the same is not proven" in text and "Not drawn: s (parity was not asked for)" in text


def test_a_study_of_sizes_alone_has_a_line_for_each(tmp_path):
    one = of(tmp_path / "s", vary={"batch_size": [8, 64]}, protocol={"batch_size": 32})
    rows = standings([one])
    assert sorted(set(rows["group"].str.split(" · ").str[1])) == ["batch size 64", "batch size 8"] and len(rows) == 4
    usual = of(tmp_path / "t", vary={"batch_size": [8, 32]}, protocol={"batch_size": 32})
    assert len(standings([usual])) == 2 and left_out([usual], standings([usual])) == {}


def test_two_studies_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for place in ("a/s", "b/s", "a/other"):
        of(tmp_path / place)
    found = apart([told(tmp_path / place, tmp_path) for place in ("a/s", "b/s", "a/other")])
    assert [one.label for one in found] == ["a/s", "b/s", "other"]
    assert len(set(standings(found)["group"])) == 3 and set(records(found).data["study"]) == {"a/s", "b/s", "other"}


def test_what_was_not_recorded_is_no_number(tmp_path):
    one = of(tmp_path / "s")
    earlier = replace(one, runs=one.runs.assign(host_id=None, boot=None), label="earlier")
    row = machines([earlier]).data.iloc[0]
    assert (row["hosts"], row["boots"]) == ("not recorded", "not recorded")
    known = replace(one, runs=one.runs.assign(host_id="0123456789ab", boot="b"))
    both = machines([known, earlier]).data.iloc[0]
    assert both["hosts"] == both["boots"] == "1, and some not recorded"


def test_the_smallest_ratios_are_ordered_as_numbers():
    assert _ratios([2.1, None, 12.0]) == "2.10 to 12.00" and _ratios([1.051, 1.049]) == "1.05" and _ratios([None]) == ""


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
    assert data.loc["frames", ["runs", "planned", "sessions", "hosts"]].tolist() == [12, 12, 1, "not recorded"]
    assert data.loc["models", "models"] == "bilstm, cnn" and data.loc["models", "cases"] == 4
    assert data.loc["one-asked", "smallest_ratio"] in ("", *(f"{value / 100:.2f}" for value in range(100, 10_000)))


def test_machines_and_versions_are_counted_over_all_studies(studies):
    finished = [one for one in studies if len(one.runs)]
    assert machines(finished).data["runs"].sum() == sum(len(one.runs) for one in finished)
    data = versions(finished).data
    python = data[data["package"] == "Python"]
    assert python["runs"].sum() == sum(len(one.runs) for one in finished)
    assert python["studies"].iloc[0] == "frames, models, one-asked"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("data/data.json", b'{"corpus": "?"}', "run `snakemake` again"),
        ("runs.parquet", b"version https://git-lfs.github.com/spec/v1\n", "cannot be read"),
        ("runs.parquet", b"", "cannot be read"),
        ("epochs.parquet", None, "is missing: type `levelfield collect"),
        ("runs.parquet", "of another version", "has no column take, it is of another version: type `levelfield tell"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_told(root, tmp_path, capsys, name, content, why):
    copy = tmp_path / "results"
    shutil.copytree(root / "frames", copy / "frames")
    shutil.copytree(root / "frames", copy / "broken")
    file = copy / "broken" / name
    if content is None:
        file.unlink()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        pd.read_parquet(file).drop(columns="take").to_parquet(file)
    assert main(["site", str(copy)]) == 0
    said = capsys.readouterr().out
    assert f"not told: {copy / 'broken'}: " in said and why in said and f"{copy / 'index.html'}: 1 study" in said
    assert str(copy / "broken") in (copy / "index.html").read_text()
    shutil.rmtree(copy / "frames")
    assert main(["site", str(copy)]) == 2 and "no study that was collected and can be read: " in capsys.readouterr().err


def test_a_pretended_gpu_is_not_told(root, tmp_path, capsys):
    copy = tmp_path / "results"
    shutil.copytree(root / "frames", copy / "frames")
    file = copy / "frames/runs/torch/seed-0/run.json"
    record = json.loads(file.read_text())
    record["machine"]["driver"] = f"{PRETENDED} 1.0"
    file.write_text(json.dumps(record))
    assert main(["site", str(copy)]) == 2
    assert "a pretended GPU measured nothing" in capsys.readouterr().err


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
