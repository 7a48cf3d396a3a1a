"""Hosts, sessions, blocks and places, as the records tell them."""

import pandas as pd

from levelfield.study.config import read_study
from levelfield.tell.sessions import placed, times

STUDY = read_study({"study": "s", "cases": ["torch", "jax"], "seeds": [0, 1, 2]}, "s.yaml")


def runs(*rows) -> pd.DataFrame:
    """Rows of (case, seed, host, host_id, boot, started, ended)."""
    names = ("case", "seed", "host", "host_id", "boot", "started", "ended")
    return pd.DataFrame([dict(zip(names, row, strict=True)) | {"process_seconds": 90.0} for row in rows])


def test_a_break_of_an_hour_or_a_boot_begins_a_session_and_the_place_is_the_real_one():
    found = placed(
        runs(
            ("torch", 0, "a", "1", "b", "2026-11-25T10:00:00Z", "2026-11-25T10:50:00Z"),
            ("jax", 0, "a", "1", "b", "2026-11-25T11:40:00Z", "2026-11-25T11:50:00Z"),
            ("torch", 1, "a", "1", "b", "2026-11-25T13:00:00Z", "2026-11-25T13:01:00Z"),
            ("jax", 1, "a", "1", "b", "2026-11-25T12:58:00Z", "2026-11-25T12:59:00Z"),
            ("jax", 2, "a", "1", "c", "2026-11-25T13:05:00Z", "2026-11-25T13:06:00Z"),
        ),
        STUDY,
    )
    assert list(found["session"]) == [
        "a 2026-11-25 10:00", "a 2026-11-25 10:00", "a 2026-11-25 12:58", "a 2026-11-25 12:58", "a 2026-11-25 13:05",
    ]  # fmt: skip
    assert list(found["block"]) == ["seed 0", "seed 0", "seed 1", "seed 1", "seed 2"]
    assert list(found["position"]) == [1, 2, 2, 1, 1]


def test_two_machines_of_one_name_are_two_hosts():
    found = placed(
        runs(
            ("torch", 0, "vm", "1234abcd", "b", "2026-11-25T10:00:00Z", None),
            ("jax", 0, "vm", "5678abcd", "c", "2026-11-25T10:00:00Z", None),
        ),
        STUDY,
    )
    assert list(found["host_name"]) == ["vm (1234)", "vm (5678)"]
    assert found["session"].nunique() == 2 and list(found["position"]) == [1, 1]


def test_records_that_tell_less_are_read():
    told = runs(
        ("torch", 0, "vm", None, None, "2026-11-25T10:00:00+00:00", None),
        ("jax", 0, None, None, None, None, None),
        ("torch", 9, "vm", None, None, "2026-11-25T10:00:30.125+00:00", None),
    )
    found = placed(told, STUDY)
    assert found["session"].iloc[0] == found["session"].iloc[2] == "vm 2026-11-25 10:00"
    assert pd.isna(found["session"].iloc[1]) and pd.isna(found["position"].iloc[1]) and pd.isna(found["block"].iloc[2])
    began, over = times(told)
    assert (over - began).iloc[0].total_seconds() == 90
    nothing = placed(told.iloc[:0], STUDY)
    assert nothing.empty
