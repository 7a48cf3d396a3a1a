"""The host's figures, against what is known about this very process."""

import subprocess
import sys
import time

import numpy as np
import pytest

from levelfield import host
from levelfield.commit import commit


def test_the_age_of_a_process_grows_with_the_clock_and_holds_its_start_up():
    code = "import time; time.sleep(0.3); from levelfield.host import process_age_seconds as a; print(a())"
    start = time.monotonic()
    age = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 0.3 <= age <= time.monotonic() - start + 0.02


def test_the_peak_is_this_programs_and_not_its_parents():
    held = np.ones(40_000_000)
    code = "from levelfield.host import peak_resident_bytes as p; print(p())"
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 1_000_000 < peak < held.nbytes < host.peak_resident_bytes()


def test_the_peak_of_training_is_not_that_of_loading():
    code = (
        "import numpy as np\nfrom levelfield import host\nnp.ones(40_000_000)\nassert host.forget_peak()\n"
        "print(host.resident_bytes(), host.peak_resident_bytes())"
    )
    before, peak = map(
        int, subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert 1_000_000 < before <= peak < 300_000_000


def test_without_linux_the_age_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "PROC", tmp_path)
    assert host.process_age_seconds() is None
    assert host.peak_resident_bytes() > 1_000_000
    assert host.resident_bytes() is None and not host.forget_peak()


@pytest.mark.parametrize("mode", ["always", "madvise", "never"])
def test_the_kernels_mode_of_huge_pages(monkeypatch, tmp_path, mode):
    monkeypatch.setattr(host, "SYS", tmp_path)
    assert host.huge_pages() is None
    enabled = tmp_path / "kernel/mm/transparent_hugepage/enabled"
    enabled.parent.mkdir(parents=True)
    enabled.write_text(f"{'always madvise never'.replace(mode, f'[{mode}]')}\n")
    assert host.huge_pages() == mode


def test_a_container_is_told_the_commit(monkeypatch):
    monkeypatch.setenv("LEVELFIELD_COMMIT", "abc+changes")
    assert commit() == "abc+changes"
