"""A run's curves as a TensorBoard event file: `step/…` by training step, `epoch/…` by epoch.

Times of day are those of `moments`; the steps of an epoch, which are not timed one by one, are spread evenly over its
training. TensorBoard's own EventFileWriter is not used: it loads TensorFlow where that is installed, and names its file by
the clock, so that a second export would lie beside the first and draw every curve twice.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from levelfield.export.moments import moments
from levelfield.export.runs import record_of
from levelfield.records import write_whole
from levelfield.tell.outcomes import Record

EPOCH = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "train_seconds",
    "validation_seconds",
    "sequences_per_second",
)


def write(run: Path, out: Path) -> str:
    """Writes `events.out.tfevents.<start of the run>.levelfield`."""
    _, record = record_of(run)
    found, content = list(events(record)), BytesIO()
    writer = RecordWriter(content)
    for event in found:
        writer.write(event.SerializeToString())
    file = out / f"events.out.tfevents.{found[0].wall_time:.0f}.levelfield"
    write_whole(file, content.getvalue())
    return f"{file}: {record.steps.epoch.size:,} steps and {len(record.epochs)} epochs"


def events(record: Record) -> Iterator[Event]:
    """The events of the file in the order of time; the first one names the format, version 2."""
    started, epochs = moments(record)
    yield Event(wall_time=started, file_version="brain.Event:2")
    for epoch, when in zip(record.epochs, epochs, strict=True):
        (mine,) = np.nonzero(record.steps.epoch == epoch.epoch)
        ends = np.linspace(when.begun, when.trained, len(mine) + 1)[1:]
        for step, end in zip(mine.tolist(), ends.tolist(), strict=True):
            figures = {"loss": record.steps.loss[step], "accuracy": record.steps.accuracy[step]}
            yield _scalars("step", figures, step + 1, end)
        yield _scalars("epoch", {name: getattr(epoch, name) for name in EPOCH}, epoch.epoch, when.validated)


def _scalars(group: str, figures: dict[str, float], step: int, time: float) -> Event:
    values = [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in figures.items()]
    return Event(wall_time=time, step=step, summary=Summary(value=values))
