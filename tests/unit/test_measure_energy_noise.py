"""Energy counters and the machine's rest: what cannot be read is None, and what disturbs is named."""

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.measure import energy, noise


def test_the_gpus_counter_counts_over_a_block(machine):
    machine(a_gpu(1, energy=5_000))
    with energy.Energy("GPU-111") as used:
        machine(a_gpu(1, energy=12_500))
    assert used.joules == 7.5
    assert energy.source("GPU-111") == "nvml"


def test_a_counter_that_fell_or_is_not_there_gives_none(machine):
    machine(a_gpu(1, energy=5_000))
    with energy.Energy("GPU-111") as used:
        machine(a_gpu(1, energy=1_000))
    assert used.joules is None
    old = a_gpu(1)
    del old["energy"]
    machine(old)
    with energy.Energy("GPU-111") as used:
        pass
    assert used.joules is None
    assert energy.source("GPU-111") is None


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Pretends two processor packages with a core domain each, whose counters start anew at 100 J."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)

    def counters(first: float, second: float) -> None:
        for name, joules in (("intel-rapl:0", first), ("intel-rapl:1", second), ("intel-rapl:0:0", 1.0)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
            (tmp_path / name / "max_energy_range_uj").write_text("100000000\n")

    return counters


def test_rapl_adds_the_packages_and_counts_a_new_start(packages):
    packages(10, 95)
    with energy.Energy(None) as used:
        packages(15, 3)
    assert used.joules == pytest.approx(5 + 8)


def test_without_rapl_there_is_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    with energy.Energy(None) as used:
        pass
    assert used.joules is None and energy.source(None) is None


STAT = "cpu  9999 0 0 0 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu1 9999 0 0 0 0 0 0 0 0 0\n"


def test_other_work_and_stolen_time_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "PROC", tmp_path)
    monkeypatch.setattr(noise.os, "sched_getaffinity", lambda process: {0})
    monkeypatch.setattr(noise.os, "sysconf", lambda name: 100)
    own, now = iter([1.0, 11.0]), iter([0.0, 10.0])
    monkeypatch.setattr(noise, "own_seconds", lambda: next(own))
    (tmp_path / "stat").write_text(STAT.format(busy=0, idle=0, steal=0))
    (tmp_path / "cpuinfo").write_text("cpu MHz\t: 3000.0\n")
    with noise.Restlessness(lambda: next(now)) as rest:
        (tmp_path / "stat").write_text(STAT.format(busy=1200, idle=0, steal=50))
        (tmp_path / "cpuinfo").write_text("cpu MHz\t: 2400.0\n")
    found = rest.measurements()
    assert found["others_cpu_share"] == pytest.approx(0.2)
    assert found["steal_share"] == pytest.approx(0.05)
    assert found["frequency_change"] == pytest.approx(-0.2)
    assert found["noise_warning"] == (
        "other work took 20% of the CPUs; the hypervisor took 5% of the CPUs; the CPU's clock changed by -20%"
    )


def test_a_quiet_machine_is_not_warned_of_and_an_unknown_one_not_invented(tmp_path, monkeypatch):
    monkeypatch.setattr(noise, "PROC", tmp_path)
    with noise.Restlessness() as rest:
        pass
    found = rest.measurements()
    assert [found[name] for name in ("others_cpu_share", "steal_share", "frequency_change", "noise_warning")] == [None] * 4
