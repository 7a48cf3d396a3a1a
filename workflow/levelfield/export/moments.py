"""When a run's epochs were, in Unix time: the record has durations and one time of day, `started`.

Moments are sums: `started`, then importing, building and warm-up, then each epoch's training and validation. What a record
does not time (reading the data, probes) is not in them, so that they lie up to some seconds before the true ones.
"""

from datetime import datetime
from typing import NamedTuple

from levelfield.tell.outcomes import Record


class EpochMoments(NamedTuple):
    """Unix time, in seconds."""

    begun: float
    trained: float
    validated: float


def moments(record: Record) -> tuple[float, list[EpochMoments]]:
    """When the run started, and the moments of its epochs."""
    times = record.run.times
    started = datetime.fromisoformat(record.run.started).timestamp()
    settled = float(record.run.measurements.get("gpu_settling_seconds") or 0)
    now, found = started + times.import_seconds + times.build_seconds + times.warm_up_seconds + settled, []
    for epoch in record.epochs:
        trained = now + epoch.train_seconds
        found.append(EpochMoments(now, trained, trained + epoch.validation_seconds))
        now = found[-1].validated
    return started, found
