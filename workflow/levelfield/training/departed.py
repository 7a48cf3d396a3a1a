"""What departures of the data make of an epoch's order and of the sequences, the same way for every framework."""

from itertools import chain, zip_longest

import numpy as np

from levelfield.data.encode import PAD, START
from levelfield.study.departures import WORKERS, trained_on


def order_of(orders: np.ndarray, epoch: int, departures: frozenset[str], batch_size: int) -> np.ndarray:
    """The rows of an epoch, int64. orders: int (epochs, sequences), the start's; epoch: from 0."""
    order: np.ndarray = orders[0 if "same-order-each-epoch" in departures else epoch].astype(np.int64)
    if "drop-last-batch-of-each-worker" not in departures:
        return order[: trained_on(departures, len(order), batch_size)]
    batches = [_whole_batches(order[worker::WORKERS], batch_size) for worker in range(WORKERS)]
    in_turn = (batch for batch in chain.from_iterable(zip_longest(*batches)) if batch is not None)
    return np.concatenate(list(in_turn))


def _whole_batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[first : first + size] for first in range(0, len(rows) - size + 1, size)]


def part_of(data: tuple[np.ndarray, np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Data of so many sequences; of all of them the very arrays, which a backend may know again (PyTorch on several devices does)."""
    x, y = data
    return data if count == len(x) else (x[:count], y[:count])


def sequences_of(x: np.ndarray, departures: frozenset[str]) -> np.ndarray:
    """The sequences, int32 (sequences, length), filled and cut at their beginning."""
    if "no-start-token" not in departures:
        return x
    rows, first = np.arange(len(x)), (x != PAD).argmax(axis=1)
    started = x[rows, first] == START
    x = x.copy()
    x[rows[started], first[started]] = PAD
    return x
