"""Energy counters: what cannot be read is None."""

import itertools
import threading

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.measure import energy


def used_of(counter, machine, seconds=2.0):
    """Joules of a block in which the GPU's counter goes through `counter`, mJ."""
    first, *rest = counter
    machine(a_gpu(1) | first)
    times = iter([0.0, seconds, seconds])
    with energy.Energy(["GPU-111"], "cuda", lambda: next(times)) as used:
        for values in rest:
            machine(a_gpu(1) | values)
    return used.joules


def test_the_gpus_counter_counts_over_a_block(machine):
    assert used_of([{"energy": 5_000}, {"energy": 12_500}], machine) == 7.5
    assert energy.source(["GPU-111"], "cuda") == "nvml"


def test_a_counter_that_fell_stood_still_or_was_hardly_moved_on_is_not_told(machine):
    assert used_of([{"energy": 5_000}, {"energy": 1_000}], machine) is None
    assert used_of([{"energy": 5_000}, {"energy": 5_000}], machine) is None
    assert used_of([{"energy": 0}, {"energy": 0}], machine) is None
    assert used_of([{"energy": 5_000}, {"energy": 12_500}], machine, seconds=0.5) is None


def test_a_gpu_without_a_counter_is_not_told_by_the_processors(machine, packages):
    packages(10, 95)
    old = a_gpu(1)
    del old["energy"]
    machine(old)
    for uuids in (["GPU-111"], []):
        with energy.Energy(uuids, "cuda") as used:
            packages(15, 96)
        assert used.joules is None
        assert energy.source(uuids, "cuda") is None


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Pretends two processor packages with a core domain each, whose counters start anew at 65 kJ."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)

    def counters(first: float, second: float) -> None:
        for name, joules in (("intel-rapl:0", first), ("intel-rapl:1", second), ("intel-rapl:0:0", 1.0)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("65000000000\n")

    return counters


def test_rapl_adds_the_packages_and_counts_a_new_start(packages):
    packages(10, 64_995)
    with energy.Energy() as used:
        packages(15, 3)
    assert used.joules == pytest.approx(5 + 8)
    assert energy.source() == "rapl"


def test_every_round_of_an_epoch_of_twenty_minutes_is_counted(packages, monkeypatch):
    """At 280 W a counter of 65 kJ goes round every 232 s (likwid#646)."""
    now = [0.0]
    monkeypatch.setattr(energy, "Thread", lambda **_: Idle())  # whose part the loop plays
    packages(0, 0)
    used = energy.Energy(clock=lambda: now[0])
    with used:
        for _ in range(40):
            now[0] += 30
            packages(280 * now[0] % 65_000, 100 * now[0] % 65_000)
            used._count()
    assert used.joules == pytest.approx(380 * 1200)


class Idle:
    def start(self):
        pass

    def join(self):
        pass


def test_the_watching_thread_reads_twice_a_round_of_a_kilowatt(packages, monkeypatch):
    made = []

    class Watching(Idle):
        def __init__(self, target, args, daemon):
            made.append(args)

    monkeypatch.setattr(energy, "Thread", Watching)
    packages(0, 0)
    with energy.Energy():
        packages(1, 1)
    assert made == [(32.5,)]


def test_a_counter_that_was_read_too_rarely_to_count_its_rounds_is_not_told(packages):
    times = iter([0.0, 70.0, 70.0])
    packages(0, 0)
    with energy.Energy(clock=lambda: next(times)) as used:
        packages(100, 100)
    assert used.joules is None


def test_a_package_that_vanishes_leaves_no_energy(packages, tmp_path):
    packages(1, 1)
    with energy.Energy() as used:
        packages(2, 2)
        (tmp_path / "intel-rapl:1/energy_uj").unlink()
    assert used.joules is None


def test_a_package_that_stood_still_over_the_block_tells_nothing(packages):
    packages(10, 20)
    with energy.Energy() as used:
        packages(15, 20)
    assert used.joules is None


def test_the_thread_counts_in_the_background(packages, monkeypatch):
    monkeypatch.setattr(energy, "MOST_WATTS", 65_000 / 2 / 0.05)  # a reading every 0.05 s, of which the next must be within 0.1
    counted, third = itertools.count(1), threading.Event()

    def used_since(start, end, seconds):
        if next(counted) == 3:
            third.set()
        return {"intel-rapl:0": 1.0}

    monkeypatch.setattr(energy, "_used", used_since)
    packages(1, 1)
    with energy.Energy() as used:
        assert third.wait(30)
    assert used.joules == next(counted) - 1 >= 3


def test_the_whole_platforms_counter_is_not_added_to_the_packages_in_it(packages, tmp_path):
    packages(10, 95)
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "psys")):
        (tmp_path / zone / "name").write_text(f"{name}\n")
    with energy.Energy() as used:
        packages(15, 195)
    assert used.joules == 5


def test_without_rapl_there_is_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    with energy.Energy() as used:
        pass
    assert used.joules is None and energy.source() is None
