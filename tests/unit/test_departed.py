"""Departures of the data: what they make of an order and of sequences, against the plain way; and that a run is told as having made them."""

import numpy as np
import pytest

from levelfield.data.encode import Reviews, encode
from levelfield.errors import UserError
from levelfield.study.config import read_study
from levelfield.study.departures import trained_on, without_start
from levelfield.training.departed import order_of, part_of, sequences_of

EACH = frozenset({"drop-last-batch-of-each-worker"})


@pytest.mark.parametrize(("sequences", "size"), [(25_000, 128), (2_500, 32), (43, 4), (16, 4), (17, 4), (13, 4)])
def test_four_workers_make_batches_of_every_fourth_sequence_and_are_asked_in_turn(sequences, size):
    orders = np.stack([np.random.default_rng(seed).permutation(sequences) for seed in range(2)]).astype(np.int32)
    found = order_of(orders, 1, EACH, size)
    queues = [[] for _ in range(4)]
    for place, row in enumerate(orders[1]):
        queues[place % 4].append(row)
    batches = [[queue[first : first + size] for first in range(0, len(queue), size)] for queue in queues]
    expected = []
    for turn in range(max(map(len, batches))):
        for mine in batches:
            if turn < len(mine) and len(mine[turn]) == size:
                expected += mine[turn]
    assert found.tolist() == expected and found.dtype == np.int64
    assert len(found) == trained_on(EACH, sequences, size) and len(found) % size == 0


def test_of_all_sequences_the_warm_up_gets_the_very_arrays():
    """By which PyTorch on several devices knows that it has them: else the first timed epoch would hand them over once more."""
    x, y = np.zeros((8, 3), np.int32), np.zeros(8, np.float32)
    assert part_of((x, y), 8)[0] is x and part_of((x, y), 8)[1] is y
    assert [len(part) for part in part_of((x, y), 6)] == [6, 6]


def test_the_tutorials_epoch_has_192_steps():
    """As its page shows: `[192/195]`."""
    assert trained_on(EACH, 25_000, 128) == 192 * 128
    assert trained_on({"drop-last-training-batch"}, 25_000, 128) == 195 * 128 and trained_on((), 25_000, 128) == 25_000


def test_the_same_order_each_epoch_is_the_first_ones():
    orders = np.array([[2, 0, 1], [1, 2, 0]], np.int32)
    assert order_of(orders, 1, frozenset(), 2).tolist() == [1, 2, 0]
    assert order_of(orders, 1, frozenset({"same-order-each-epoch"}), 2).tolist() == [2, 0, 1]


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8])
def test_without_its_start_id_a_sequence_is_its_last_words_filled_at_the_beginning(length):
    rows = [[7], [5, 6, 8], [4, 9, 9, 5], [1, 2, 3, 4, 5, 6], [1]]
    reviews = Reviews.from_lists(rows, np.zeros(len(rows), np.int64))
    x, _ = encode(reviews, np.arange(len(rows)), 100, length, "pre", "pre")
    before = x.copy()
    plain = [[rank + 3 for rank in row][-length:] for row in rows]
    expected = [[0] * (length - len(row)) + row for row in plain]
    assert sequences_of(x, frozenset({"no-start-token"})).tolist() == expected
    assert np.array_equal(x, before), "what others read stays"
    assert sequences_of(x, frozenset()) is x


def test_where_no_start_id_can_be_left_out_the_departure_is_refused():
    wanted = ("no-start-token",)
    assert without_start(wanted, "pre", "pre", False) is None and without_start((), "post", "post", True) is None
    assert "of token ids that are made already" in without_start(wanted, "pre", "pre", True)
    study = {"study": "s", "cases": [{"backend": "torch", "departures": list(wanted)}], "seeds": [0]}
    for sides in (("post", "post"), ("pre", "post")):
        protocol = dict(zip(("padding", "truncation"), sides, strict=True))
        with pytest.raises(UserError, match=f"no-start-token: found padding {sides[0]} and truncation {sides[1]}"):
            read_study(study | {"protocol": protocol}, "s.yaml")
    with pytest.raises(UserError, match="no-start-token: of token ids"):
        read_study(study | {"data": {"source": "encoded", "file": "x.npz"}}, "s.yaml")
    read_study(study, "s.yaml")
