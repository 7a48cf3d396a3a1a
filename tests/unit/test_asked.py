"""Questions that people asked elsewhere: each is a study of its own, and what is kept of it has an answer that its runs bear."""

import re
import shutil
from pathlib import Path

import pytest
from made_study import make_study

from levelfield.study.asked import PAGE, answer_in, answers, asked_readme, config_of, linked, questions
from levelfield.tell.collect import collect
from levelfield.tell.readme import write_readme
from levelfield.tell.report.render import page
from levelfield.tell.results import Results

ROOT = Path(__file__).resolve().parents[2]
ASKED = questions()
KEPT = [pytest.param(one, id=one.folder.as_posix()) for study in ASKED.values() for one in answers(study.study)]
INTERVAL = r"\[[−+\d.,]+, [−+\d.,]+\]"
SOURCES = [
    "pytorch/pytorch#94457", "keras-team/keras#20902", "keras-team/keras#22275", "keras-team/keras#21851", "pytorch/pytorch#81634",
    "jax-ml/jax#23646", "keras-team/keras#20804", "openvax/mhcflurry#375", "keras-team/keras#16389", "keras-team/keras#22307",
    "google/flax#4848", "keras-team/keras#20713",
]  # fmt: skip


def test_ten_questions_are_put_and_every_thread_is_among_them():
    assert len({study.source for study in ASKED.values()}) == 10
    told = " ".join(study.source for study in ASKED.values())
    assert all(source in told for source in SOURCES)
    assert sum("#" not in study.source for study in ASKED.values()) == 1, "one is our own"


@pytest.mark.parametrize(("path", "study"), ASKED.items(), ids=[study.study for study in ASKED.values()])
def test_each_names_its_question_and_who_asks_and_is_named_as_its_file(path, study):
    assert study.study == Path(path).stem and config_of(study.study) == path
    assert study.question.endswith("?") and "\n" not in study.question and study.source
    assert study.parity and len(study.seeds) >= 3
    assert not (ROOT / "config" / f"{study.study}.yaml").exists(), "results/<study> is one folder"


def test_the_page_has_not_drifted():
    assert (ROOT / PAGE).read_text() == asked_readme(), "type `levelfield schema`"


def test_the_readme_lists_each_question_with_its_runs():
    text = (ROOT / "README.md").read_text()
    for study in ASKED.values():
        for one in answers(study.study):
            assert f"- [{study.question}](" in text and f"]({one.folder.as_posix()}/README.md)" in text, study.study


@pytest.mark.parametrize("one", KEPT)
def test_what_is_kept_is_answered_in_words_and_its_runs_bear_them(one):
    assert one.words, f"write {one.folder}/answer.md, then type `levelfield schema`"
    told = (ROOT / one.folder / "README.md").read_text() + "".join(
        file.read_text() for file in (ROOT / one.folder / "tables").glob("*.md")
    )
    assert all(found in told for found in re.findall(INTERVAL, one.words))
    assert [number for number in re.findall(r"\d+\.\d+", one.words) if number not in told] == []


def test_a_question_is_open_until_results_are_kept_and_put_into_words(tmp_path):
    shutil.copytree(ROOT / "config/asked", tmp_path / "config/asked")
    assert asked_readme(tmp_path).count("On a CPU: not yet run.") == len(ASKED)
    kept = make_study(tmp_path / "results/reference/cpu/lstm-on-a-cpu", steps=5)
    collect(kept)
    told = r"2 threads, [\d,]+ training sequences, \d seeds?(, \d sessions?)?: run, and not yet put into words\."
    assert re.search(told, asked_readme(tmp_path))
    (kept / "answer.md").write_text("Not three times:\n1.25 times.\n")
    gpu = make_study(
        tmp_path / "results/reference/h100/flax-memory",
        ["torch", "flax"],
        gpus={"torch": "NVIDIA H100", "flax": "NVIDIA H100"},
        steps=5,
    )
    collect(gpu)
    (gpu / "answer.md").write_text("A little more.")
    made = asked_readme(tmp_path)
    assert "1 session: Not three times: 1.25 times. [The runs](../../results/reference/cpu/lstm-on-a-cpu/README.md)" in made
    assert (
        "1 session: A little more. [The runs](../../results/reference/h100/flax-memory/README.md)\n- On a CPU: not yet run."
        in made
    )
    assert made.count("On a CPU: not yet run.") == len(ASKED) - 1


def test_readme_and_page_begin_with_the_question_its_source_and_the_answer(tmp_path):
    folder = make_study(tmp_path / "s", steps=5, question="Is it <faster>?", source="pytorch/pytorch#1, keras-team/keras#2")
    collect(folder)
    write_readme(folder)
    top = (folder / "README.md").read_text().split("\n\n")[1]
    assert top == (
        "**Is it &lt;faster&gt;?** Asked: [pytorch#1](https://github.com/pytorch/pytorch/issues/1), "
        "[keras#2](https://github.com/keras-team/keras/issues/2)."
    )
    (folder / "answer.md").write_text("It is not.\n")
    write_readme(folder)
    assert "issues/2). It is not.\n\n- " in (folder / "README.md").read_text()
    assert "<b>Is it &lt;faster&gt;?</b> Asked: pytorch/pytorch#1, keras-team/keras#2. It is not." in page(Results.read(folder))


def test_no_answer_is_none_and_words_are_no_link(tmp_path):
    assert answer_in(tmp_path) is None
    assert linked("our own, from results") == "our own, from results"


def test_an_answer_of_several_machines_names_them_all(tmp_path):
    shutil.copytree(ROOT / "config/asked", tmp_path / "config/asked")
    folder = make_study(tmp_path / "results/reference/cpu/lstm-on-a-cpu", steps=5)
    file = folder / "runs/torch/seed-1/run.json"
    file.write_text(file.read_text().replace("Made Processor 9000", "Other Processor 1"))
    collect(folder)
    (one,) = answers("lstm-on-a-cpu", tmp_path)
    assert one.measured.startswith("Made Processor 9000, 2 threads and Other Processor 1, 2 threads, ")
