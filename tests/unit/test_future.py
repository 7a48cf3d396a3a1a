"""Files that a clock which was set back left in the future are dated as of now, and no others are touched."""

import os
import time

from levelfield.plan.future import pulled_back


def test_what_is_of_the_future_is_dated_as_of_now(tmp_path):
    now = time.time()
    for name, seconds in (("data/x.npy", 7200), ("runs/a/run.json", 3600), ("start.npz", -60)):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        os.utime(file, (now + seconds,) * 2)
    assert pulled_back(tmp_path) == 2
    times = {file.name: file.stat().st_mtime for file in tmp_path.rglob("*.*")}
    assert times["x.npy"] == times["run.json"], "none is newer than what was made from it"
    assert now <= times["x.npy"] <= time.time() and times["start.npz"] == os.stat(tmp_path / "start.npz").st_mtime < now
    assert pulled_back(tmp_path) == 0 and pulled_back(tmp_path / "nowhere") == 0
