"""Nothing that has finished is made anew unasked, and two Snakemakes never work on one study."""

import errno
import os
from types import SimpleNamespace

import pytest
from snakemake.persistence.file import FilePersistence

from levelfield.errors import UserError
from levelfield.plan import finished

NOTHING = {
    "forced": False, "incomplete_output": set(), "updated_input": set(), "updated_input_run": set(), "input_changed": False,
    "software_stack_changed": False, "params_changed": False, "code_changed": False,
}  # fmt: skip


def a_run(tmp_path, number: int, **why):
    file = tmp_path / f"runs/torch/seed-{number}/run.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    job = SimpleNamespace(rule=SimpleNamespace(name="train"), output=[str(file)])
    return job, SimpleNamespace(**NOTHING | why)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ({"updated_input_run": {"results/s/start/bilstm/seed-0.npz"}}, "results/s/start/bilstm/seed-0.npz: an edited config"),
        ({"input_changed": True}, "from other files"),
        ({"software_stack_changed": True}, "in another container, or in none"),
        ({"code_changed": True}, "the rule that makes them changed"),
    ],
)
def test_finished_runs_are_not_made_anew_unasked(tmp_path, why, told):
    runs = [a_run(tmp_path, number, **why) for number in range(5)]
    with pytest.raises(UserError, match=told) as refused:
        finished.refuse_to_replace(str(tmp_path), runs)
    said = str(refused.value)
    assert "runs/torch/seed-0, runs/torch/seed-1, runs/torch/seed-2 and 2 more" in said and "replace=runs" in said


def test_what_was_asked_for_was_cut_off_or_is_not_there_is_made(tmp_path):
    missing = SimpleNamespace(rule=SimpleNamespace(name="train"), output=[str(tmp_path / "runs/jax/seed-0/run.json")])
    proof = SimpleNamespace(rule=SimpleNamespace(name="parity"), output=["parity/torch.json"])
    table = SimpleNamespace(rule=SimpleNamespace(name="tables"), output=[str(tmp_path)])
    finished.refuse_to_replace(
        str(tmp_path),
        [
            a_run(tmp_path, 0, forced=True, updated_input={"x"}),
            a_run(tmp_path, 1, incomplete_output={"run.json"}),
            (proof, SimpleNamespace(**NOTHING | {"forced": True})),
            a_run(tmp_path, 2, updated_input_run={"parity/torch.json"}),
            (missing, SimpleNamespace(**NOTHING)),
            (table, SimpleNamespace(**NOTHING | {"updated_input": {"x"}})),
        ],
    )


def test_a_block_that_lacks_a_run_is_continued_and_a_whole_one_is_not_made_anew(tmp_path):
    (first, _), other = a_run(tmp_path, 0), str(tmp_path / "runs/jax/seed-0/run.json")
    block = SimpleNamespace(rule=SimpleNamespace(name="block"), output=[str(tmp_path / "blocks/seed-0.done")])
    why = SimpleNamespace(**NOTHING | {"input_changed": True})
    block.params = SimpleNamespace(runs=[*first.output, other])
    finished.refuse_to_replace(str(tmp_path), [(block, why)])
    block.params.runs = first.output
    with pytest.raises(UserError, match="blocks/seed-0"):
        finished.refuse_to_replace(str(tmp_path), [(block, why)])


def test_the_second_of_two_snakemakes_is_told_of_the_first(tmp_path):
    held = finished.take(str(tmp_path / "s"))
    with pytest.raises(UserError, match=r"process \d+ on .* works on this study"):
        finished.take(str(tmp_path / "s"))
    finished.os.close(held)
    finished.os.close(finished.take(str(tmp_path / "s")))


@pytest.mark.parametrize("link", ["results", "results/s", "results/s/.running"])
def test_a_link_to_nothing_is_told_with_the_way_out(tmp_path, monkeypatch, link):
    """As to a disk that is not mounted."""
    monkeypatch.chdir(tmp_path)
    finished.Path(link).parent.mkdir(parents=True, exist_ok=True)
    finished.Path(link).symlink_to(tmp_path / "disk/which/is/not/there")
    told = rf"^{link}: is a link to .*/not/there, which cannot be found: make it, have its disk mounted, or remove the link"
    with pytest.raises(UserError, match=told):
        finished.take("results/s")


@pytest.mark.parametrize("what", ["results", "results/s", "results/s/.running"])
def test_what_is_no_folder_or_no_file_is_told_with_the_way_out(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    place = finished.Path(what)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if place.name == finished.LOCK else place.touch()
    with pytest.raises(UserError, match=r"^results.*`results` must be a folder.* in which you may write"):
        finished.take("results/s")


def closed_to_writing(monkeypatch, number: int) -> None:
    """No file can be opened for writing, as by another than its owner: root itself is refused nothing."""
    opened = os.open

    def refusing(path, flags, *more, **others):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *more, **others)

    monkeypatch.setattr(finished.os, "open", refusing)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_study_that_a_colleague_took_before_can_be_taken_without_the_right_to_write(tmp_path, monkeypatch, number):
    folder = str(tmp_path / "s")
    finished.os.close(finished.take(folder))
    with monkeypatch.context() as patched:
        closed_to_writing(patched, number)
        held = finished.take(folder)
        with pytest.raises(UserError, match="works on this study"):
            finished.take(folder)
        finished.os.close(held)
    (tmp_path / "s" / finished.LOCK).unlink()
    closed_to_writing(monkeypatch, number)
    with pytest.raises(UserError, match=rf"{finished.LOCK}: {os.strerror(number)}: .*ask its owner"):
        finished.take(folder)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_told_before_anything_runs(tmp_path, monkeypatch, number):
    closed_to_writing(monkeypatch, number)
    with pytest.raises(UserError, match=rf"{finished.LOCK}: {os.strerror(number)}: .*or work in a copy of your own"):
        finished.take(str(tmp_path / "s"))


def test_a_study_is_taken_though_the_disk_has_no_room_for_a_word(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(finished.os, "write", full)
        held = finished.take(str(tmp_path / "s"))
    with pytest.raises(UserError, match="another process works on this study"):
        finished.take(str(tmp_path / "s"))
    finished.os.close(held)


@pytest.mark.parametrize("case", ["torch", "of-a-name-as-long-as-one-may-be-" * 4], ids=["short", "long"])
def test_a_run_that_an_orphan_finished_is_not_incomplete(tmp_path, monkeypatch, case):
    """The marks as Snakemake itself makes them."""
    monkeypatch.chdir(tmp_path)
    finished.INCOMPLETE.mkdir(parents=True)
    kept = FilePersistence.__new__(FilePersistence)
    kept._max_len = None
    study = "a-study-of-a-long-name-" * 4
    records = [finished.Path(f"results/{study}/runs/{case}/seed-{seed}/run.json") for seed in (0, 1)]
    marks = {}
    for record in records:
        record.parent.mkdir(parents=True)
        for name in finished.WHOLE:
            record.with_name(name).touch()
            marks[record, name] = finished.Path(kept._record_path(str(finished.INCOMPLETE), str(record.with_name(name))))
            marks[record, name].parent.mkdir(parents=True, exist_ok=True)
            marks[record, name].touch()
    records[1].with_name("failure.json").touch()
    finished.keep_whole(records)
    assert [mark.exists() for (record, _), mark in marks.items() if record == records[0]] == [False] * 4
    assert all(mark.exists() for (record, _), mark in marks.items() if record == records[1]), "it did not end by itself"
