"""Latency and pauses, on a pretended backend whose steps take known times on a pretended clock."""

import numpy as np
import pytest

from levelfield.backends.base import silent
from levelfield.measure import summary
from levelfield.measure.clock import ClockError, Stopwatch
from levelfield.measure.latency import probe
from levelfield.measure.pauses import StepClock


class Backend:
    """Steps that take the given seconds on the device; the host hands each out in 1 ms and waits only where asked."""

    batch_size, steps_a_call = 4, 1

    def __init__(self, seconds, stall_before=0.0, stall_after=0.0, waits_for_device=True):
        self.seconds, self.stall_before, self.stall_after = seconds, stall_before, stall_after
        self.waits = waits_for_device
        self.now = self.ready = 50.0

    def clock(self):
        return self.now

    def synchronize(self):
        if self.waits:
            self.now = max(self.now, self.ready)

    def train_epoch(self, x, y, order, progress=silent, wait=False):
        self.now += self.stall_before
        for step in range(len(order) // self.batch_size):
            self.now += 0.001
            self.ready = max(self.ready, self.now) + self.seconds[step % len(self.seconds)]
            if wait:
                self.synchronize()
            progress(step + 1, lambda: (0.0, 0.0))
        self.synchronize()
        self.now += self.stall_after


X, Y = np.zeros((4 * 30, 5), np.int32), np.zeros(4 * 30, np.float32)


def test_latency_is_that_of_single_steps_waited_for():
    backend = Backend([0.1] * 9 + [0.2])
    latency = probe(backend, X, Y, step_seconds=0.1, clock=backend.clock)
    assert latency.steps == 29
    assert latency.p50_seconds == pytest.approx(0.101)
    assert latency.p99_seconds == pytest.approx(0.201)


def test_latency_without_synchronisation_differs_from_the_epochs_steps():
    """The planted fault: a backend whose synchronize does not wait. The run's check of latency against epoch finds it."""
    backend = Backend([0.1], waits_for_device=False)
    assert probe(backend, X, Y, step_seconds=0.1, clock=backend.clock).p50_seconds == pytest.approx(0.001)


def test_few_batches_are_trained_on_again_until_there_are_twenty_steps():
    class Seen(Backend):
        def train_epoch(self, x, y, order, *options, **more):
            self.rows = order
            super().train_epoch(x, y, order, *options, **more)

    backend = Seen([0.1])
    assert probe(backend, X[:14], Y[:14], step_seconds=0.1, clock=backend.clock).steps == 20
    np.testing.assert_array_equal(backend.rows, np.tile(np.arange(12), 7))


def test_steps_of_many_seconds_are_probed_for_a_minute():
    backend = Backend([10.0])
    assert probe(backend, X, Y, step_seconds=10.0, clock=backend.clock).steps == 6
    assert probe(backend, X, Y, step_seconds=100.0, clock=backend.clock).steps == 3


def test_too_little_data_gives_no_latency():
    backend = Backend([0.1])
    assert probe(backend, X[:8], Y[:8], step_seconds=0.1, clock=backend.clock) is None


def test_a_clock_that_steps_back_gives_no_latency():
    backend, readings = Backend([0.1]), iter([5.0, 6.0, 4.0] + [7.0] * 40)
    with pytest.raises(ClockError):
        probe(backend, X, Y, step_seconds=0.1, clock=lambda: next(readings))


def epoch(backend, steps=200):
    x, y = np.zeros((4 * steps, 5), np.int32), np.zeros(4 * steps, np.float32)
    stamps = StepClock(steps, silent, backend.clock)
    with Stopwatch(backend.synchronize, backend.clock) as watch:
        backend.train_epoch(x, y, np.arange(len(x)), stamps)
    found = stamps.pauses()
    assert found.seconds == watch.seconds
    return found


class Queue(Backend):
    """A backend that hands out as many steps ahead as `depth` says; 0 is a computation on the host."""

    def __init__(self, depth, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.depth, self.ends = depth, []

    def train_epoch(self, x, y, order, progress=silent, wait=False):
        def bounded(step, fetch):
            self.ends.append(self.ready)
            if len(self.ends) > self.depth:
                self.now = max(self.now, self.ends[-1 - self.depth])
            progress(step, fetch)

        super().train_epoch(x, y, order, bounded)


@pytest.mark.parametrize("depth", [0, 32, 1000])
def test_an_epoch_without_stalls_has_none(depth):
    pauses = epoch(Queue(depth, [0.1]))
    assert pauses.stalls == 0
    assert pauses.hidden == (depth == 1000)


def test_a_step_that_is_waited_for_empties_the_queue_and_is_no_stall():
    """JAX on a CPU, where the progress shows a loss every ten seconds."""

    class Shown(Queue):
        def train_epoch(self, x, y, order, progress=silent, wait=False):
            def shown(step, fetch):
                progress(step, fetch)
                if step % 50 == 0:
                    self.synchronize()

            super().train_epoch(x, y, order, shown)

    pauses = epoch(Shown(32, [0.2]))
    assert pauses.longest_seconds > 6 and pauses.depth == 31 and pauses.stalls == 0
    assert epoch(Shown(32, [0.2] * 117 + [15.2] + [0.2] * 82)).stalls == 1


@pytest.mark.parametrize("milliseconds", range(30, 150, 7))
def test_a_loss_that_is_shown_near_the_end_of_an_epoch_is_no_stall(milliseconds):
    class Shown(Queue):
        shown_at = 0.0

        def train_epoch(self, x, y, order, progress=silent, wait=False):
            def shown(step, fetch):
                progress(step, fetch)
                if self.now - self.shown_at > 10:
                    self.synchronize()
                    self.shown_at = self.now

            super().train_epoch(x, y, order, shown)

    assert epoch(Shown(32, [milliseconds / 1000]), 391).stalls == 0


@pytest.mark.parametrize("steps", [20, 200])
def test_a_stall_counts_by_what_it_makes_of_the_epochs_time(steps):
    long, short = 0.5, 0.05 * steps * 0.02
    assert epoch(Backend([0.9] * steps, stall_after=0.003 * steps), steps).stalls == 0, "0.3 % of the time spoil nothing"
    pauses = epoch(Queue(0, [0.02], stall_before=3 * 0.021 + short), steps)
    assert pauses.stalls == 1 and pauses.stalled_seconds < long, "5 % of a short one do"


@pytest.mark.parametrize("depth", [0, 32])
@pytest.mark.parametrize("fault", [{"stall_before": 5}, {"stall_after": 5}, {"seconds": [0.1] * 117 + [5.1] + [0.1] * 82}])
def test_a_stall_is_seen_wherever_it_hides(depth, fault):
    pauses = epoch(Queue(depth, **{"seconds": [0.1]} | fault))
    assert pauses.stalls == 1
    assert pauses.stalled_seconds > 2


def test_steps_that_arrive_out_of_order_are_no_fault_of_the_clock():
    readings = iter([0.0, 1.2, 1.1, 2.0])
    steps = StepClock(2, silent, lambda: next(readings))
    steps(1, None)
    steps(2, None)
    assert steps.pauses().longest_seconds == pytest.approx(0.1)


def test_a_clock_that_steps_back_gives_no_pauses():
    readings = iter([5.0, 6.0, 4.0])
    steps = StepClock(1, silent, lambda: next(readings))
    steps(1, None)
    with pytest.raises(ClockError):
        steps.pauses()


class Calls(Backend):
    """A backend that makes several steps in one call of its framework and reports the last of them."""

    def __init__(self, a_call, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.a_call = self.steps_a_call = a_call

    def train_epoch(self, x, y, order, progress=silent, wait=False):
        steps = len(order) // self.batch_size

        def of_calls(step, fetch):
            if step % self.a_call == 0 or step == steps:
                self.synchronize()
                progress(step, fetch)

        super().train_epoch(x, y, order, of_calls, wait)


def test_where_a_call_makes_several_steps_no_single_one_has_a_latency():
    backend = Calls(16, [0.1])
    assert probe(backend, X, Y, step_seconds=0.1, clock=backend.clock) is None


@pytest.mark.parametrize("a_call", [16, 60])
def test_calls_of_several_steps_are_no_stall(a_call):
    pauses = epoch(Calls(a_call, [0.1]))
    assert (pauses.steps, pauses.a_call, pauses.stalls, pauses.unseen) == (200, a_call, 0, False)


@pytest.mark.parametrize("fault", [{"stall_before": 5}, {"stall_after": 5}, {"seconds": [0.1] * 117 + [5.1] + [0.1] * 82}])
def test_a_stall_beside_calls_of_several_steps_is_seen(fault):
    pauses = epoch(Calls(16, **{"seconds": [0.1]} | fault))
    assert pauses.stalls == 1 and pauses.stalled_seconds > 2


def test_what_one_call_for_the_whole_epoch_hides_is_not_told():
    """A stall of 5 s, and none: neither is told as none."""
    for seconds in ([0.1], [0.1] * 117 + [5.1] + [0.1] * 82):
        pauses = epoch(Calls(200, seconds))
        assert pauses.unseen
        assert set(summary.step_measurements([pauses], None).values()) == {None}
        assert summary.time_checks([pauses], [0.0], None) == {"device_idle": True}


def test_what_a_queue_hides_is_not_told_without_a_probe():
    pauses = epoch(Queue(1000, [0.1]))
    assert summary.step_measurements([pauses], None)["stalled_seconds"] is None
    assert summary.time_checks([pauses], [0.0], None) == {"device_idle": True}
    stalled = epoch(Queue(1000, [0.1], stall_before=5))
    assert summary.time_checks([stalled], [0.0], None)["no_stall"] is False
