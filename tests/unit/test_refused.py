"""Cases that cannot be are refused when the config is read, in one line that names file and case; so are too few sequences."""

import pytest

from levelfield.errors import UserError
from levelfield.study.config import read_study
from levelfield.study.departures import too_few

BOTH = {"backend": "keras-tensorflow", "departures": ["clip-norm", "sparse-embedding-adam"]}
SOFTMAX = {"backend": "torch", "departures": ["double-softmax"]}
SHARED = {"backend": "torch", "departures": ["heads-share-width"]}
DROPS = {"backend": "torch", "departures": ["drop-last-batch"]}
IMPOSSIBLE = {
    "what is clipped has no slices": ({"cases": [BOTH]}, "clip-norm and sparse-embedding-adam exclude each other"),
    "one output has no softmax": (
        {"protocol": {"model": {"name": "transformer", "outputs": 1}}, "cases": [SOFTMAX]},
        "the softmax of one output is always 1: set outputs to 2 or more",
    ),
    "heads cannot share evenly": (
        {"protocol": {"model": {"name": "transformer", "heads": 5}}, "cases": [SHARED]},
        "5 heads cannot share an embedding of 32 evenly",
    ),
    "more heads than numbers": (
        {"protocol": {"model": {"name": "transformer", "heads": 64}}, "cases": [SHARED]},
        "64 heads cannot share an embedding of 32 evenly",
    ),
    "too short for two convolutions": ({"protocol": {"model": "cnn", "length": 10}, "cases": ["torch"]}, "length 10 is too short"),
    "a key of an earlier version": (
        {"protocol": {"units": 8}, "cases": ["torch"]},
        "protocol.units: is the model's now: write `protocol.model.units`, as in `protocol: {model: {name: bilstm, units: 8}}`",
    ),
    "a key of an earlier version that several models have": (
        {"protocol": {"embedding": 8}, "cases": ["torch"]},
        "write `protocol.model.embedding`, as in `protocol: {model: {name: bilstm, embedding: 8}}`",
    ),
    "a setting that vary has, too": (
        {"cases": [{"backend": "torch", "name": "eight", "settings": {"batch_size": 8}}], "vary": {"batch_size": [32, 64]}},
        "case eight sets batch_size, of which `vary` gives every case each value: take it out of one of the two",
    ),
    "no batch of training": (
        {"data": {"synthetic": True, "train": 20}, "cases": ["torch"]},
        "batch_size 32 is larger than the training data (20 sequences)",
    ),
    "no batch of validation": (
        {"data": {"synthetic": True, "train": 64, "validation": 20}, "cases": [DROPS]},
        "batch_size 32 is larger than the validation data (20 sequences), of which drop-last-batch leaves nothing",
    ),
    "no batch of IMDB's validation": (
        {"protocol": {"batch_size": 25_001}, "data": {"train": 50_000}, "cases": [DROPS]},
        "larger than the validation data (25,000 sequences)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_case_is_refused(what):
    config, told = IMPOSSIBLE[what]
    with pytest.raises(UserError) as refused:
        read_study({"study": "s"} | config, "s.yaml")
    said = str(refused.value)
    assert said.startswith("s.yaml: ") and told in said and "\n" not in said, said


@pytest.mark.parametrize(
    "config",
    [
        {"cases": [BOTH | {"departures": ["clip-norm"]}, BOTH | {"departures": ["sparse-embedding-adam"]}]},
        {"protocol": {"model": "transformer"}, "cases": [SOFTMAX, SHARED]},
        {"data": {"synthetic": True, "train": 64, "validation": 20}, "cases": ["torch"]},
        {"data": {"synthetic": True, "train": 64, "validation": 32}, "cases": [DROPS]},
        {"data": {"source": "snippets"}, "protocol": {"batch_size": 100_000}, "cases": [DROPS]},
    ],
)
def test_what_is_possible_or_not_yet_known_is_not_refused(config):
    read_study({"study": "s"} | config, "s.yaml")


def test_a_number_that_is_not_known_is_not_too_few():
    assert too_few((), 32, None, None) is None and too_few(("drop-last-batch",), 32, None, None) is None
    assert "each of 4 workers" in too_few(("drop-last-batch-of-each-worker",), 32, 124, None)
    assert too_few(("drop-last-batch-of-each-worker",), 32, 125, None) is None, "the first worker has 32 of them"
    assert too_few((), 32, 32, 0) is None and too_few(("drop-last-training-batch",), 32, 32, 1) is None
    assert "training" in too_few((), 32, 31, None) and "validation" in too_few(("drop-last-batch",), 32, 32, 31)


@pytest.mark.parametrize("name", ["beta_1", "beta_2"])
@pytest.mark.parametrize(("value", "taken"), [(0, True), (0.9999, True), (0.99991, False), (1, False), (-0.1, False)])
def test_a_decay_is_one_that_float32_can_tell_from_1(name, value, taken):
    config = {"study": "s", "cases": ["torch"], "protocol": {name: value}}
    if taken:
        assert getattr(read_study(config, "s.yaml").protocol, name) == value
        return
    with pytest.raises(UserError, match=name):
        read_study(config, "s.yaml")
