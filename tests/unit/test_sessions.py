"""A study that asks for several sessions: which seeds may run, and what the next session waits for."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from levelfield.errors import UserError
from levelfield.host import boot, host_id
from levelfield.plan.sessions import begun, recorded, told
from levelfield.study.config import read_study

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
CONFIG = {
    "study": "small",
    "cases": ["torch", "jax"],
    "seeds": [0, 1, 2, 3, 4],
    "sessions": 2,
    "data": {"synthetic": True, "train": 99},
}


@pytest.fixture
def study():
    return read_study(CONFIG, "small.yaml")


def ran(folder: Path, study, seeds: list[int], minutes_ago: int, **machine) -> None:
    """Records of runs that ended so long ago, on this host in this boot where nothing else is said."""
    here = {"host_id": host_id(), "boot": boot(), "scheduler": {}} | machine
    for case, seed in study.runs:
        if seed in seeds:
            file = folder / f"runs/{case}/seed-{seed}/run.json"
            file.parent.mkdir(parents=True)
            ended = (NOON - timedelta(minutes=minutes_ago)).isoformat()
            file.write_text(json.dumps({"ended": ended, "machine": here}))


def test_the_seeds_are_shared_out_one_after_the_other(study):
    assert study.sessions_of_seeds == [[0, 1], [2, 3, 4]]
    with pytest.raises(UserError, match="sessions: found 6 with 5 seeds"):
        read_study(CONFIG | {"sessions": 6}, "small.yaml")


def test_a_study_that_asks_for_none_has_all_its_seeds(tmp_path):
    assert begun(tmp_path, read_study(CONFIG | {"sessions": 1}, "small.yaml")) == ([0, 1, 2, 3, 4], None)


def test_the_second_waits_for_the_first_ones_runs(tmp_path, study):
    ran(tmp_path, study, [0], 300)
    seeds, waits = begun(tmp_path, study, NOON)
    assert seeds == [0, 1]
    assert waits == (
        "session 2 of 2 (seeds 2, 3, 4) waits until 2 runs of seeds 0, 1 have ended; then type the same command again "
        "(`accepted` in the config names cases that need not)"
    )
    (tmp_path / "runs/jax/seed-1").mkdir()
    (tmp_path / "runs/jax/seed-1/failure.json").write_text("{}")
    ran(tmp_path, study, [], 0)
    assert "until 1 runs" in begun(tmp_path, study, NOON)[1]


@pytest.mark.parametrize(
    ("minutes_ago", "machine", "may"),
    [
        (59, {}, False),
        (61, {}, True),
        (1, {"boot": "another"}, True),
        (1, {"host_id": "another"}, True),
        (1, {"boot": "another", "scheduler": {"SLURM_JOB_ID": "7"}}, False),
        (61, {"boot": "another", "scheduler": {"SLURM_JOB_ID": "7"}}, True),
        (1, {"boot": "another", "scheduler": {"CUDA_VISIBLE_DEVICES": "0"}}, True),
    ],
    ids=["the same", "an hour", "another boot", "another host", "a cluster", "a cluster after an hour", "no scheduler"],
)
def test_it_begins_in_another_session_alone(tmp_path, study, minutes_ago, machine, may):
    ran(tmp_path, study, [0, 1], minutes_ago, **machine)
    seeds, waits = begun(tmp_path, study, NOON)
    assert seeds == ([0, 1, 2, 3, 4] if may else [0, 1]) and (waits is None) == may
    if not may:
        assert waits.startswith(
            "session 2 of 2 (seeds 2, 3, 4) waits for another session: type the same command after 2026-11-25 1"
        )
        assert waits.endswith("or on another one") == ("scheduler" not in machine)
    assert recorded(tmp_path, study) == [0, 1], "a job of the same start adds none"


FOREIGN = {
    "no zone": {"ended": "2026-11-25T11:59:00"},
    "no zone, of a cluster": {"ended": "2026-11-25T11:59:00", "machine": {"scheduler": {"SLURM_JOB_ID": "7"}}},
    "a number": {"ended": 1e9},
    "no machine": {"machine": None},
    "nested": None,
    "a list": [],
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("minutes_ago", [30, 90])
def test_a_foreign_record_stops_no_study_and_does_not_count(tmp_path, study, what, minutes_ago):
    """The collector tells it as damaged."""
    ran(tmp_path, study, [0, 1], minutes_ago)
    file = tmp_path / "runs/torch/seed-0/run.json"
    record, own = json.loads(file.read_text()), FOREIGN[what]
    changed = record | own if isinstance(own, dict) else own
    file.write_text("[" * 100_000 if own is None else json.dumps(changed))
    seeds, waits = begun(tmp_path, study, NOON)
    assert seeds == ([0, 1] if minutes_ago == 30 else [0, 1, 2, 3, 4])
    assert waits is None or waits.endswith("or on another one"), "no scheduler ran what counts"


def test_one_that_has_begun_goes_on_without_waiting(tmp_path, study):
    ran(tmp_path, study, [0, 1], 1)
    ran(tmp_path, study, [2], 0)
    assert begun(tmp_path, study, NOON) == ([0, 1, 2, 3, 4], None) and recorded(tmp_path, study) == [0, 1, 2, 3, 4]


def test_the_plan_says_which_blocks_of_which_session_are_missing(tmp_path, study):
    ran(tmp_path, study, [0], 300)
    assert told(tmp_path, study)[:2] == [
        "session 1 of 2 misses 1 blocks: seed 1",
        "session 2 of 2 misses 3 blocks: seed 2; seed 3; seed 4",
    ]
