"""Energy counters: what cannot be read is None."""

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.measure import energy


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
