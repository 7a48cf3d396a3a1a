"""The warm-up of a GPU goes on until its clock has settled: pretended traces, on a pretended clock of time."""

import time

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.measure import gpu
from levelfield.measure.settling import LIMIT_SECONDS, NOT_WAITED, STEADY_SECONDS, Settling, settle


def waited(*traces, work_seconds: float = 0.05) -> tuple[Settling, int]:
    """What `settle` finds of clocks that follow `traces` (seconds to MHz), and how often it worked."""
    passed, worked = [0.0], [0]

    def work() -> None:
        passed[0] += work_seconds
        worked[0] += 1

    return settle(work, lambda: [trace(passed[0]) for trace in traces], lambda: passed[0]), worked[0]


def steps(*changes: tuple[float, int]):
    """A clock that holds each value from its second on."""
    return lambda at: next(value for since, value in reversed(changes) if at >= since)


def hunting(at: float) -> int:
    """A power cap that the card hunts around."""
    return 1980 - 150 * (int(at * 10) % 2)


@pytest.mark.parametrize(
    ("trace", "work_seconds", "seconds"),
    [
        (steps((0, 1980)), 0.05, STEADY_SECONDS),
        (steps((0, 345), (0.2, 1125), (0.6, 1980)), 0.05, 0.6 + STEADY_SECONDS),
        (steps((0, 1980), (9, 1410)), 0.05, STEADY_SECONDS),  # what comes after it, nobody has seen
        (steps((0, 1980), (1, 1755), (8, 1740)), 0.05, 1 + STEADY_SECONDS),
        (lambda at: 1980 - 15 * (int(at * 10) % 3), 0.05, STEADY_SECONDS),  # two steps of the clock
        (steps((0, 345), (6, 1980)), 5.0, 20),  # an epoch in one call: three readings that agree
    ],
    ids=["steady", "awakes", "falls-later", "heats-up", "two-steps", "long-work"],
)
def test_work_goes_on_until_the_clock_is_steady(trace, work_seconds, seconds):
    found, worked = waited(trace, work_seconds=work_seconds)
    assert found.settled is True
    assert found.seconds == pytest.approx(seconds, abs=2.5 * work_seconds)
    assert worked == pytest.approx(found.seconds / work_seconds, abs=1)
    assert found.measurements() == {"gpu_settling_seconds": found.seconds, "gpu_settling": "settled"}


@pytest.mark.parametrize("trace", [hunting, lambda at: int(1000 + 30 * at)], ids=["hunting", "climbing"])
def test_a_clock_that_never_settles_is_told_and_holds_up_no_run(trace):
    found, _ = waited(trace)
    assert found.settled is False and LIMIT_SECONDS <= found.seconds < LIMIT_SECONDS + 0.1
    told = found.measurements()
    assert told["gpu_settling_seconds"] == found.seconds
    low, high = found.range_mhz
    assert told["gpu_settling"] == f"the clock did not settle: {low} to {high} MHz in the last of 30.0 s" and high - low >= 45


@pytest.mark.parametrize("trace", [lambda at: None, steps((0, 1980), (1, None))], ids=["never", "no more"])
def test_a_clock_that_is_not_told_is_not_waited_for(trace):
    found, worked = waited(trace)
    assert worked <= 21 and found.settled is None and str(found) == ""
    assert set(found.measurements().values()) == {None} == set(NOT_WAITED.measurements().values())


@pytest.mark.parametrize("work_seconds", [15.5, 40.0])
def test_work_that_takes_too_long_for_a_judgement_is_told_as_not_told(work_seconds):
    found, worked = waited(steps((0, 1980)), work_seconds=work_seconds)
    assert worked == -(-LIMIT_SECONDS // work_seconds) and found.settled is None
    assert set(found.measurements().values()) == {None}


def test_of_several_gpus_each_ones_clock_must_settle():
    steady, late = steps((0, 1410)), steps((0, 345), (1, 900), (2, 1410), (3, 1700), (4, 1980))
    found, _ = waited(steady, late)
    assert found.settled is True and found.seconds == pytest.approx(4 + STEADY_SECONDS, abs=0.2)
    found, _ = waited(steady, hunting)
    assert found.settled is False and found.range_mhz == (1830, 1980)
    assert waited(steady, lambda at: None)[0].settled is None


def test_the_clock_is_read_through_nvml(machine):
    began = time.monotonic()
    machine(a_gpu(1, clock={"steps": [[0, 345], [began + 0.3, 1980]]}))
    found = settle(lambda: time.sleep(0.01), lambda: [gpu.clock_mhz("GPU-111")])
    assert found.settled is True and found.range_mhz == (1980, 1980)
    assert time.monotonic() - began >= STEADY_SECONDS + 0.3 and found.seconds < STEADY_SECONDS + 10
    machine({"uuid": "GPU-111"})
    assert gpu.clock_mhz("GPU-111") is None and gpu.clock_mhz("GPU-222") is None
