"""The stopwatch waits for the device at both ends, and believes no clock that steps back."""

import pytest

from levelfield.measure.clock import ClockError, Stopwatch


class Device:
    """A clock, and a device that computes in the background until `busy_until`."""

    def __init__(self):
        self.now, self.busy_until = 100.0, 0.0

    def clock(self) -> float:
        return self.now

    def launch(self, seconds: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + seconds
        self.now += 0.001

    def synchronize(self) -> None:
        self.now = max(self.now, self.busy_until)


def test_work_in_the_background_is_counted_and_work_from_before_is_not():
    device = Device()
    device.launch(50)
    with Stopwatch(device.synchronize, device.clock) as watch:
        device.launch(3)
    assert watch.seconds == pytest.approx(3)
    assert watch.waited_seconds == pytest.approx(3, abs=0.01)


def test_a_block_that_leaves_the_device_idle_is_not_waited_for():
    device = Device()
    with Stopwatch(device.synchronize, device.clock) as watch:
        device.launch(3)
        device.synchronize()
    assert watch.seconds == pytest.approx(3)
    assert watch.waited_seconds == 0


def test_a_clock_that_steps_back_gives_no_time():
    device = Device()
    watch = Stopwatch(device.synchronize, device.clock)
    with pytest.raises(ClockError, match="stepped back"), watch:
        device.now -= 1
    assert not hasattr(watch, "seconds")


def test_a_block_that_raises_has_no_time():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch:
        1 / 0  # noqa: B018
    assert not hasattr(watch, "seconds")
