"""Simulated rounding is as large as rounding is, and the bounds that it gives bar no right program and free no wrong one."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from levelfield import registry
from levelfield.errors import UserError
from levelfield.level import bounds, reference
from levelfield.level.bounds import RoundedAdam, proven
from levelfield.level.parity import judge, share
from levelfield.level.rounding import MARGIN, SINGLE, Rounded, Rounding, exact, rounded
from levelfield.level.start import make_start
from levelfield.level.trajectory import distance, first_distances, weight_distances
from levelfield.level.trial import small_protocol, weights_without_zeros

sys.path.insert(0, str(Path(__file__).parent))
import bounds_told
from bounds_study import by_numpy, fault_shares, to_tf32

MODELS = sorted(registry.models())


def rounding(precision: str = "float32", seed: int = 0) -> Rounding:
    return Rounding(precision, np.random.default_rng(seed))


def off(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(exact(found) - expected).max())


def test_a_result_is_off_by_the_precisions_unit():
    values = np.random.default_rng(1).uniform(1, 2, 10_000)
    for precision, unit in (("float32", 2**-24), ("tf32", 2**-24), ("bfloat16", 2**-8)):
        error = exact(rounded(values, rounding(precision)) * 3) / (values * 3) - 1
        assert error.std() == pytest.approx(MARGIN * unit / 3**0.5, rel=0.05)


def test_what_rounds_nothing_stays_exact():
    values = rounded(np.arange(-6.0, 6).reshape(3, 4), rounding())
    assert off(np.array([0.1, 0.2]) + rounded(np.zeros(2), rounding()), np.array([0.1, 0.2])) == 0
    for found, expected in ((-values, -np.arange(-6.0, 6).reshape(3, 4)), (values.max(axis=1), [-3, 1, 5]), (values * 0, 0)):
        assert off(found, expected) == 0
    assert isinstance(np.stack([values, values]), Rounded) and (np.stack([values, values]) * 3).rounding is values.rounding


def test_a_sum_that_cancels_is_off_by_the_size_of_its_terms():
    rng = np.random.default_rng(2)
    terms = rng.normal(size=(6_400, 8))
    terms -= terms.mean(axis=0)
    found = [off(rounded(terms, rounding(seed=seed)).sum(axis=0), 0) for seed in range(8)]
    size = np.abs(terms).sum(axis=0).max()
    assert MARGIN * SINGLE * size * 10 < max(found) < MARGIN * SINGLE * size * 6_400**0.5


def test_a_sum_of_equal_terms_stagnates_as_float32_does():
    """As PyTorch adds up the gradient of LayerNorm's beta: `layer_norm_sum.py`."""
    terms = np.full((204_800, 2), 0.1)
    one_by_one = np.add.accumulate(terms.astype(np.float32), axis=0)[-1]
    assert off(rounded(terms, rounding()).sum(axis=0), terms.sum(axis=0)) > abs(one_by_one[0] - 20_480) > 20


def test_a_sum_of_sums_is_one_sum_of_all():
    """`autograd` adds up what was broadcast axis by axis; a program adds it up in one go, and it stagnates as a whole."""
    terms = np.full((1_024, 200, 2), 0.1)
    assert off(np.sum(np.sum(rounded(terms, rounding()), axis=0), axis=0), terms.sum(axis=(0, 1))) > 20


def test_a_product_is_off_by_about_what_float32_is_off_by():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(64, 512)), rng.normal(size=(512, 64))
    single = off(a.astype(np.float32) @ b.astype(np.float32), a @ b)
    assert single < off(rounded(a, rounding()) @ b, a @ b) < 300 * single
    assert off(rounded(a, rounding("tf32")) @ b, a @ b) > 1_000 * single


def test_tf32_rounds_a_weight_at_every_step_alike():
    values, found = np.random.default_rng(4).normal(size=1_000), rounding("tf32")
    np.testing.assert_array_equal(found.input(values), found.input(values))
    assert 2**-11 < np.abs(found.input(values) / values - 1).max() <= 2 * MARGIN * 2**-11


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """A protocol of small sizes with Keras's optimiser, its data, and the reference with its bounds."""
    protocol = replace(small_protocol(request.param), length=20, batch_size=16, learning_rate=1e-3, epsilon=1e-7)
    rng = np.random.default_rng(5)
    x = rng.integers(0, protocol.vocabulary, (10 * 16, protocol.length)).astype(np.int32)
    y = (rng.random(len(x)) < 0.3).astype(np.float64)
    weights = weights_without_zeros(protocol)
    return protocol, x, y, proven(protocol, weights, x, y, make_start(protocol, 0, len(x)).order[0])


def test_every_distance_of_a_reference_has_a_bound(case):
    found = case[-1]
    bounds = found.bounds["float32"]
    assert set(bounds) == {"probabilities", "gradients", "probabilities_step_1"} | {
        f"{kind}_step_{step}" for kind in ("weights", "moved", "travelled", "loss", "right") for step in (1, 3, 10)
    }
    assert all(set(bounds[name]) == set(found.start) for name in ("gradients", "weights_step_1", "moved_step_10"))
    assert all(
        0 < value < 1e-2 for name, known in bounds.items() if name[:4] in ("prob", "weig", "loss") for value in known.values()
    )


def test_plain_float32_is_within_the_bounds(case):
    """The reference's own program in float32: numpy rounds it as it does, nothing is simulated."""
    protocol, x, y, found = case
    rows = found.rows[: protocol.batch_size]
    single = {name: value.astype(np.float32) for name, value in found.start.items()}
    logits, back = reference.logits_and_back(protocol, single, x[rows])
    _, slope = reference.loss_and_slope(logits.astype(np.float32), y[rows].astype(np.float32))
    off = first_distances(reference.probabilities(logits), back(slope.astype(np.float32)), found.probabilities, found.gradients)
    shares = {
        (kind, name): share(value, found.bounds["float32"][kind][name]) for kind in off for name, value in off[kind].items()
    }
    assert max(shares.values()) < 1, max(shares, key=shares.get)


def test_every_mistake_is_outside_the_bounds(case):
    protocol, x, y, found = case
    rows = found.rows[: protocol.batch_size]
    shares = fault_shares(protocol, found, x[rows], y[rows])
    assert [name for name, value in shares.items() if value <= 1] == []


class CountsNoSteps(reference.Adam):
    """The bias correction of the first step in every step."""

    def update(self, weights, gradients):
        self.steps = 0
        super().update(weights, gradients)


class ForgetsMoments(reference.Adam):
    """As one that is made anew for each part of an epoch: every third step is a first one."""

    def update(self, weights, gradients):
        if self.steps == 3:
            self.__init__(self.protocol, weights)
        super().update(weights, gradients)


class DecaysWeights(reference.Adam):
    """AdamW with its default decay of 0.01."""

    def update(self, weights, gradients):
        for value in weights.values():
            value *= 1 - 0.01 * self.protocol.learning_rate
        super().update(weights, gradients)


class KeepsLargestMoment(reference.Adam):
    """AMSGrad: what is divided by never falls."""

    def update(self, weights, gradients):
        before = {name: value.copy() for name, value in self.second.items()}
        super().update({name: value.copy() for name, value in weights.items()}, gradients)
        for name, value in self.second.items():
            np.maximum(value, before[name], out=value)
            rate = self.protocol.learning_rate * (1 - self.protocol.beta_2**self.steps) ** 0.5
            rate /= 1 - self.protocol.beta_1**self.steps
            weights[name] -= rate * self.first[name] / (np.sqrt(value) + self.protocol.epsilon)


def another(**settings):
    return lambda protocol, weights: reference.Adam(replace(protocol, **settings), weights)


@pytest.mark.parametrize(
    "mistaken",
    [another(beta_1=0.9), another(beta_2=0.999), CountsNoSteps, ForgetsMoments, DecaysWeights, KeepsLargestMoment],
    ids=["beta_1", "beta_2", "counts no steps", "forgets moments", "decays weights", "AMSGrad"],
)
def test_a_mistake_of_the_optimiser_that_no_first_step_shows_is_outside_the_bounds_later(case, mistaken):
    """Without any rounding. The first step of Adam is the same whatever its decays, its count of steps or what it keeps."""
    protocol, x, y, found = case
    batches = np.split(found.rows, np.cumsum(found.sizes)[:-1])
    weights = {name: value.astype(np.float64) for name, value in found.start.items()}
    adam, shares = mistaken(protocol, weights), {}
    for step, rows in enumerate(batches, 1):
        _, slopes = reference.gradients(protocol, weights, x[rows], y[rows])
        adam.update(weights, slopes)
        if step in found.weights:
            distances = weight_distances(step, weights, found.weights[step], found.start)
            known = found.bounds["float32"]
            shares[step] = max(share(value, known[kind][name]) for kind in distances for name, value in distances[kind].items())
    assert max(shares[3], shares[10]) > 1, shares


class StandsStill(reference.Adam):
    """From the eleventh step on."""

    def update(self, weights, gradients):
        if self.steps < 10:
            super().update(weights, gradients)


class HalvesItsRate(reference.Adam):
    """From the eleventh step on."""

    def update(self, weights, gradients):
        if self.steps == 10:
            self.protocol = replace(self.protocol, learning_rate=self.protocol.learning_rate / 2)
        super().update(weights, gradients)


@pytest.mark.parametrize("mistaken", [StandsStill, HalvesItsRate])
@pytest.mark.parametrize("model", MODELS)
def test_a_mistake_that_begins_late_is_outside_the_bounds_at_the_last_step(model, mistaken):
    """Of the Transformer's from this start nearly every tensor has an entry that turned by then: how far each went tells it all the same."""
    protocol = replace(
        small_protocol(model),
        vocabulary=200,
        length=20,
        batch_size=16,
        learning_rate=1e-3,
        epsilon=1e-7,
        beta_1=0.9,
        beta_2=0.999,
    )
    x = np.random.default_rng(5).integers(0, 200, (50 * 16, 20)).astype(np.int32)
    y, start = (x[:, 0] % 2).astype(np.float64), make_start(protocol, 0, len(x))
    found = proven(protocol, start.weights, x, y, start.order[0])
    weights = {name: value.copy() for name, value in found.start.items()}
    adam = mistaken(protocol, weights)
    for rows in found.batches:
        adam.update(weights, reference.gradients(protocol, weights, x[rows], y[rows])[1])
    off, known = weight_distances(50, weights, found.weights[50], found.start), found.bounds["float32"]
    shares = {kind: max(share(value, known[kind][name]) for name, value in values.items()) for kind, values in off.items()}
    assert max(shares.values()) > 3, shares
    if model == "transformer":
        assert max(shares, key=shares.__getitem__) == "travelled_step_50", shares


def test_a_protocol_that_diverges_is_told_in_one_line():
    protocol = replace(small_protocol("transformer"), learning_rate=1e6)
    x = np.random.default_rng(5).integers(0, 40, (10 * 4, 12)).astype(np.int32)
    with pytest.raises(
        UserError, match=r"the float64 reference or its rounded training gives no finite number .*; lower `learning_rate`"
    ):
        proven(protocol, weights_without_zeros(protocol), x, (x[:, 0] % 2).astype(np.float64), np.arange(len(x)))


def test_tf32_where_float32_was_asked_is_outside_the_bounds(case):
    """Its own rounding, a quarter of what its bounds allow, is beyond those of float32."""
    protocol, x, _, found = case
    rows = found.rows[: protocol.batch_size]
    logits = reference.logits(protocol, rounding("tf32").of(found.start), x[rows])
    off = distance(reference.probabilities(exact(logits)), found.probabilities)
    assert off / MARGIN > found.bounds["float32"]["probabilities"]["probabilities"]


def test_tf32_as_a_gpu_rounds_it_is_within_its_bounds_and_outside_those_of_float32(case):
    protocol, x, y, before = case
    protocol = replace(protocol, precision="tf32")
    start = {name: value.astype(np.float32) for name, value in before.start.items()}
    found = proven(protocol, start, x, y, before.rows[: protocol.batch_size])
    told = by_numpy(protocol, found, x, y)
    assert judge(told, found.bounds["tf32"], found.bounds["float32"])["missed"] == []
    assert judge(told, found.bounds["float32"])["missed"] != []


def test_tf32_is_rounded_to_the_nearest_even_of_ten_bits():
    ulp = 2.0**-10
    given = np.array([1, 1 + ulp, 1 + ulp / 2, 1 + 3 * ulp / 2, 1 + 0.51 * ulp, -1 - 0.49 * ulp], np.float32)
    np.testing.assert_array_equal(to_tf32(given), [1, 1 + ulp, 1, 1 + 2 * ulp, 1 + ulp, -1])


@pytest.mark.parametrize("places", [np.array([[3, 1], [3, -2], [0, 3]]), np.s_[1:5:2], (np.array([1, 1]), np.array([2, 2]))])
def test_what_is_scattered_is_off_by_the_size_of_its_terms(places):
    """As autograd and the references add up the gradient of what was taken from an array: by rows, by slices, by places."""
    rng = np.random.default_rng(6)
    before = rng.normal(size=(6, 4))
    values = rng.normal(size=before[places].shape) * 1e3
    expected, found = before.copy(), before.copy()
    np.add.at(expected, places, values)
    np.add.at(found, places, rounded(values, rounding()))
    touched = expected != before
    np.testing.assert_array_equal(found[~touched], before[~touched])
    assert 0 < off(found, expected) < 20 * MARGIN * SINGLE * np.abs(values).max() and np.all(
        found[touched] != expected[touched]
    )


def test_adam_by_blocks_is_adam(monkeypatch):
    """Bit for bit, and what does not move is not rounded."""
    protocol = small_protocol("bilstm")
    rng = np.random.default_rng(7)
    slopes = {"a": rng.normal(size=(50, 8)) * (np.arange(50) % 3 > 0)[:, None], "b": rng.normal(size=9)}
    start = {name: rng.normal(size=value.shape) for name, value in slopes.items()}
    trained = []
    for block in (1 << 15, 16):
        monkeypatch.setattr(reference, "BLOCK", block)
        weights = {name: value.copy() for name, value in start.items()}
        for _ in range(3):
            reference.Adam(protocol, weights).update(weights, slopes)
        trained.append(weights)
    simulated = {name: value.copy() for name, value in start.items()}
    RoundedAdam(protocol, simulated, rounding()).update(simulated, slopes)
    for name, value in start.items():
        np.testing.assert_array_equal(trained[0][name], trained[1][name])
        still = slopes[name] == 0
        assert np.all(simulated[name][still] == value[still]) and np.all(simulated[name][~still] != value[~still])


def test_where_a_batch_is_not_clear_of_kinks_gradients_have_three_times(case, monkeypatch):
    """Three of twenty starts of the Transformer were barred in TF32, whose real rounding turned other ReLUs than eight drawn ones."""
    protocol, x, y, before = case
    protocol, rows = replace(protocol, precision="tf32"), before.rows[: protocol.batch_size]
    start = {name: value.astype(np.float32) for name, value in before.start.items()}
    near = proven(protocol, start, x, y, rows).bounds["tf32"]
    monkeypatch.setitem(bounds.COARSE, "tf32", 0.0)
    clear = proven(protocol, start, x, y, rows).bounds["tf32"]
    times = 1 if protocol.model.name == "bilstm" else bounds.LATER
    assert near["probabilities"] == clear["probabilities"] and near["loss_step_1"] == clear["loss_step_1"]
    assert near["gradients"] == {name: times * value for name, value in clear["gradients"].items()}


def test_where_an_entrys_step_turned_round_there_is_room_for_one_more():
    """One of 32 entries of a bias turned in the farthest of eight trainings, and in the program, by a little more."""
    protocol = replace(small_protocol("transformer"), learning_rate=1e-3)
    start = {"bias": np.zeros(32)}
    envelope = bounds.Envelope.__new__(bounds.Envelope)
    envelope.protocol, envelope.precision, envelope.start = protocol, "tf32", start
    after = {"bias": np.full(32, 1e-3)}
    envelope.bounds = {"weights_step_1": {"bias": 1.98e-3}, "moved_step_1": {"bias": 1.98 / 32**0.5}}
    envelope._turned(reference.Step(1, True, np.arange(2), np.zeros(2), {}, 0.0, after))
    assert envelope.bounds["weights_step_1"]["bias"] == pytest.approx(2e-3)
    assert envelope.bounds["moved_step_1"]["bias"] == pytest.approx((1.98**2 + 2**2) ** 0.5 / 32**0.5)
    envelope.bounds = {"weights_step_1": {"bias": 0.9e-3}, "moved_step_1": {"bias": 0.1}}
    envelope._turned(reference.Step(1, True, np.arange(2), np.zeros(2), {}, 0.0, after))
    assert envelope.bounds == {"weights_step_1": {"bias": 0.9e-3}, "moved_step_1": {"bias": 0.1}}


@pytest.mark.parametrize(("step", "times"), [(1, 1), (10, bounds.LATER)])
def test_after_the_first_step_what_stands_beside_an_entry_that_turned_has_three_times(step, times):
    """JAX's CNN stood at 0.996 of the bound of its last bias at step 10: an entry of its embedding had turned, other ones in the training."""
    envelope = bounds.Envelope.__new__(bounds.Envelope)
    envelope.protocol, envelope.precision = replace(small_protocol("cnn"), learning_rate=1e-3), "float32"
    envelope.start = {"embedding": np.zeros(4), "bias": np.zeros(1)}
    after = {name: value + 1e-3 for name, value in envelope.start.items()}
    for off, widened in ((1.9e-3, times), (0.9e-3, 1)):
        envelope.bounds = {
            f"weights_step_{step}": {"embedding": off, "bias": 1e-6}, f"moved_step_{step}": {"embedding": 0.1, "bias": 1e-3},
        }  # fmt: skip
        envelope._turned(reference.Step(step, True, np.arange(2), np.zeros(2), {}, 0.0, after))
        assert envelope.bounds[f"weights_step_{step}"]["bias"] == pytest.approx(widened * 1e-6)
        assert envelope.bounds[f"moved_step_{step}"]["bias"] == pytest.approx(widened * 1e-3)


def test_the_page_tells_what_was_measured():
    """Its two tables are those of the committed records, in which nothing right is barred."""
    page = (Path(bounds.__file__).parent / "README.md").read_text(encoding="utf-8")
    shares, wrong = pd.read_csv(bounds_told.SHARES), pd.read_csv(bounds_told.MISTAKES)
    assert bounds_told.no_false_bar(shares) in page and bounds_told.no_false_pass(wrong) in page
    right = shares[(shares["program"] != "numpy-for-float32") & shares["error"].isna()]
    assert right["missed"].isna().all() and right["share"].max() <= 1
    assert shares.loc[shares["program"] == "numpy-for-float32", "share"].min() > 1
