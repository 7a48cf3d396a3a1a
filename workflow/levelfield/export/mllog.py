"""A run as lines `:::MLLOG {…}`, which MLPerf's tools read: the keys of MLCommons' logging package, and some of our own.

It is no submission to MLPerf, whose suite has no such benchmark; its division is `open`, its status `research`. Times are
those of `moments`, in milliseconds. As in MLPerf, the run's status is `success` where the validation accuracy reached the
study's target, else `aborted`; all epochs are there in both cases. `file` and `lineno` name the record that a line comes
from. What a departure changes in the optimiser is left out: `departures` tells of it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levelfield.export.moments import moments
from levelfield.export.runs import record_of
from levelfield.records import Run, write_whole
from levelfield.tell.outcomes import Record

POINT, BEGIN, END = "POINT_IN_TIME", "INTERVAL_START", "INTERVAL_END"


def write(run: Path, out: Path) -> str:
    """Writes `mllog.txt`."""
    study, record = record_of(run)
    lines = [f":::MLLOG {json.dumps(line, allow_nan=False)}\n" for line in events(record, study.target_accuracy)]
    write_whole(out / "mllog.txt", "".join(lines).encode())
    return f"{out / 'mllog.txt'}: {len(lines)} lines"


def events(record: Record, target: float) -> Iterator[dict[str, Any]]:
    """What each line holds, in the order of time. target: validation accuracy of a run that succeeded."""
    started, epochs = moments(record)
    for key, value in {"cache_clear": False, **submission(record.run)}.items():
        yield _event(started, POINT, key, value)
    yield _event(started, BEGIN, "init_start")
    for key, value in settings(record.run).items():
        yield _event(started, POINT, key, value)
    yield _event(epochs[0].begun, END, "init_stop")
    yield _event(epochs[0].begun, BEGIN, "run_start")
    samples = 0
    for epoch, when in zip(record.epochs, epochs, strict=True):
        place = {"file": "epochs.csv", "lineno": epoch.epoch + 1, "epoch_num": epoch.epoch}
        yield _event(when.begun, BEGIN, "epoch_start", samples_count=samples, **place)
        samples += int(record.steps.sequences[record.steps.epoch == epoch.epoch].sum())
        place["samples_count"] = samples
        yield _event(when.trained, END, "epoch_stop", **place)
        yield _event(when.trained, BEGIN, "eval_start", **place)
        yield _event(when.validated, POINT, "eval_accuracy", epoch.validation_accuracy, **place)
        yield _event(when.validated, END, "eval_stop", **place)
    reached = any(epoch.validation_accuracy >= target for epoch in record.epochs)
    yield _event(epochs[-1].validated, END, "run_stop", status="success" if reached else "aborted")


def submission(run: Run) -> dict[str, Any]:
    """What ran where, and under which name."""
    machine = run.machine
    return {
        "submission_benchmark": run.protocol["model"]["name"],
        "submission_org": "Levelfield, no submission",
        "submission_division": "open",
        "submission_status": "research",
        "submission_platform": machine.gpu or "GPU not told"
        if machine.device == "cuda"
        else f"{machine.cpu}, threads: {machine.threads}",
        **{name: getattr(run, name) for name in ("study", "case", "backend", "departures", "corpus", "commit")},
    }


def settings(run: Run) -> dict[str, Any]:
    """Seed, sizes and optimiser."""
    protocol = run.protocol
    found = {
        "seed": run.seed,
        "global_batch_size": protocol["batch_size"],
        "max_sequence_length": protocol["length"],
        "train_samples": run.train_sequences,
        "eval_samples": run.validation_sequences,
        "opt_name": "adam",
        "opt_base_learning_rate": protocol["learning_rate"],
        "opt_adam_beta_1": protocol["beta_1"],
        "opt_adam_beta_2": protocol["beta_2"],
    }
    return found if "framework-epsilon" in run.departures else found | {"opt_adam_epsilon": protocol["epsilon"]}


def _event(time: float, kind: str, key: str, value: Any = None, **metadata: Any) -> dict[str, Any]:
    place = {"file": "run.json", "lineno": 1}
    return {
        "namespace": "", "time_ms": round(1000 * time), "event_type": kind, "key": key, "value": value,
        "metadata": place | metadata,
    }  # fmt: skip
