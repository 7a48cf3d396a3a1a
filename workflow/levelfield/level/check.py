"""The contract's tests: what `levelfield check <backend>` asks of any backend, for each model that it trains, small, in seconds.

Gradients are held against bounds that are derived for these sizes as parity's are; outputs, weights and losses against `BOUND`, which
is about ten times what rounding explains here. Where a mistake of `mistakes.py` explains what was found, the check names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from levelfield import registry
from levelfield.backends.base import Backend, DeviceError, evaluate
from levelfield.backends.departures import CLIP_NORM, FRAMEWORK_EPSILON
from levelfield.level import mistakes
from levelfield.level.bounds import gradient_bounds
from levelfield.level.parity import share
from levelfield.level.reference import gradients
from levelfield.level.start import initial_weights
from levelfield.level.trajectory import Weights, distance, gradient_distances
from levelfield.level.trial import SEQUENCES, Trial, weights_without_zeros
from levelfield.models.base import model_of, parameters, shapes
from levelfield.study.protocol import Protocol

BOUND = 1e-6
"""Of probabilities, of a weight after one step and of a loss: absolute, of every model at these sizes."""
HALF_PRECISION = (2e-6, 5e-3)
"""Distances in probability that rounding to 11 bits makes in this model; the mistakes of `mistakes.py` make larger ones."""


class Fault(Exception):
    """What was found, and what was expected."""


@dataclass(frozen=True)
class Finding:
    """One check's result."""

    check: str
    passed: bool
    found: str


def check(name: str, model: str, make: Callable[[Protocol, frozenset[str], str], Backend], devices: int = 1) -> list[Finding]:
    """Runs every check of a model on the backend `name`, which `make(protocol, departures, device)` builds.

    devices: how many it trains on; on several no departure is made.

    An exception fails its check alone.
    """
    trial = Trial(name, model, make, registry.backend(name).data_on[0], devices)
    findings = []
    for title, test in CHECKS.items():
        try:
            findings.append(Finding(title, True, test(trial)))
        except Fault as fault:
            findings.append(Finding(title, False, str(fault)))
        except Exception as error:  # whatever a stranger's backend raises is that check's result
            findings.append(Finding(title, False, f"raised {type(error).__name__}: {error}"))
    return findings


def within(what: str, found: float | None, bound: float) -> str:
    """A line for a distance within its bound; raises Fault beyond it."""
    if found is None or not found <= bound:
        raise Fault(f"{what}: found {'no finite number' if found is None else f'{found:.1e}'}, bound {bound:.0e}")
    return f"{what} {found:.1e}, bound {bound:.0e}"


def expect(holds: bool, fault: str) -> None:
    if not holds:
        raise Fault(fault)


def or_infinite(off: float | None) -> float:
    """A distance; infinite where it is no finite number."""
    return np.inf if off is None else off


def apart(found: Weights, expected: Weights) -> tuple[float, str]:
    """Largest absolute difference of two sets of weights, and the parameter where it is."""
    return max((or_infinite(distance(found[name], value)), name) for name, value in expected.items())


def weights_come_back(trial: Trial) -> str:
    found = trial.loaded.weights()
    for name, value in trial.weights.items():
        expect(name in found, f"weights() has no {name!r}; it has {', '.join(found)}")
        here = f"{found[name].dtype} {found[name].shape}"
        expect(
            found[name].dtype == np.float32 and found[name].shape == value.shape,
            f"{name} is {here}, expected float32 {value.shape}",
        )
        expect(
            np.array_equal(found[name], value),
            f"{name} came back from load changed by up to {distance(found[name], value):.1e}",
        )
    return f"{len(found)} arrays, bit for bit"


def counts_parameters(trial: Trial) -> str:
    found, expected = trial.loaded.parameters(), parameters(trial.protocol)
    why = ""
    for name in model_of(trial.protocol).departures:
        if found == parameters(trial.protocol, frozenset({name})) != expected:
            why = f": as with the departure {name}"
    expect(found == expected, f"found {found:,} trainable parameters, expected {expected:,}{why}")
    return f"{found:,}"


def computes_outputs(trial: Trial) -> str:
    logits = trial.loaded.predict(trial.x)
    shape = (SEQUENCES, trial.protocol.model.outputs)
    expect(logits.shape == shape, f"predict gave shape {logits.shape}, expected {shape}: logits (sequences, outputs)")
    found = evaluate(trial.backend, trial.x, trial.y).probabilities
    off = distance(found, mistakes.outputs(trial.protocol, trial.exact, trial.x))
    try:
        return within("probabilities", off, BOUND)
    except Fault as fault:
        known = mistakes.of_outputs(trial.protocol, trial.exact, trial.x)
        why = mistakes.named(found, known, lambda a, b: or_infinite(distance(a, b)), 0.02 * off) if off else None
        if why is None and off and HALF_PRECISION[0] < off < HALF_PRECISION[1]:
            why = "of the size that rounding to half precision makes: something is cast to float16 or bfloat16"
        raise Fault(f"{fault}{f': {why}' if why else ''}") from None


def computes_gradients(trial: Trial) -> str:
    loss, found = trial.loaded.gradients(*trial.first)
    expected_loss, expected = gradients(trial.protocol, trial.exact, *trial.first)
    within("loss", distance(np.array(loss), expected_loss), BOUND)
    distances = gradient_distances(found, expected)
    bounds = gradient_bounds(trial.protocol, trial.exact, *trial.first)
    name = max(distances, key=lambda name: share(distances[name], bounds[name]))
    scale = max(1.0, bounds[name])  # of a tensor that is nothing but rounding
    told = within(f"{name}, over its largest entry", or_infinite(distances[name]) / scale, bounds[name] / scale)
    changed, name = apart(trial.backend.weights(), trial.weights)
    expect(changed == 0, f"gradients() changed {name} by {changed:.1e}; it must leave the model as it is")
    return told


def makes_one_step(trial: Trial) -> str:
    """Of the weights, and of what is predicted with them."""
    trial.train(trial.loaded, trial.batches[0])
    found = trial.backend.weights()
    off, name = apart(found, trial.trained[0])
    outputs = evaluate(trial.backend, trial.x, trial.y).probabilities
    expected, before = (mistakes.outputs(trial.protocol, weights, trial.x) for weights in (trial.trained[0], trial.exact))
    stale = ": they are those before it" if or_infinite(distance(outputs, before)) <= BOUND else ""
    try:
        told = within(name, off, BOUND)
    except Fault as fault:
        known = mistakes.of_update(trial.protocol, trial.exact, *trial.first)
        why = mistakes.named(found, known, lambda a, b: apart(a, b)[0], BOUND)
        raise Fault(f"{fault}{f': {why}' if why else ''}") from None
    off = or_infinite(distance(outputs, expected))
    expect(off <= BOUND, f"probabilities after a step are off by {off:.1e}, bound {BOUND:.0e}{stale}")
    return told


def trains_every_batch(trial: Trial) -> str:
    losses, correct = trial.train(trial.loaded)
    steps = len(trial.batches)
    why = ": the smaller last batch is left out" if len(losses) == SEQUENCES // trial.protocol.batch_size else ""
    expect(len(losses) == len(correct) == steps, f"found {len(losses)} losses and {len(correct)} counts, expected {steps}{why}")
    nothing = tuple(len(values) for values in trial.train(trial.backend, trial.order[:0]))
    expect(nothing == (0, 0), f"of an empty order found {nothing[0]} losses and {nothing[1]} counts, expected none")
    shape = trial.backend.predict(trial.x[:0]).shape
    expect(shape == (0, trial.protocol.model.outputs), f"predict of no sequence gave shape {shape}, expected (0, outputs)")
    return f"{steps} steps for {SEQUENCES} sequences, none for none"


def keeps_the_order(trial: Trial) -> str:
    losses, _ = trial.train(trial.loaded)
    size = trial.protocol.batch_size
    off = or_infinite(distance(losses[0], trial.losses[0]))
    own = gradients(trial.protocol, trial.exact, trial.x[:size], trial.y[:size])[0]
    unordered = or_infinite(distance(losses[0], own)) < 1e-6
    why = ": it is that of the data's own order, `order` was not followed" if unordered else ""
    expect(off <= BOUND, f"the first batch's loss is off by {off:.1e}{why}")
    return f"the first batch's loss {off:.1e}, bound {BOUND:.0e}"


def counts_answers(trial: Trial) -> str:
    """Of the trial's labels; then of labels that are all 1, from weights that leave the first batch undecided: its step turns
    wrong answers into right ones, so that it shows when they were counted."""
    _, correct = trial.train(trial.loaded)
    pairs = [(correct, trial.correct)]
    if undecided := trial.undecided():
        ones = np.ones_like(trial.y)
        trial.backend.load(undecided)
        _, turned = trial.backend.train_epoch(trial.x, ones, trial.order)
        pairs.append((turned, trial.reference(undecided, epochs=1, y=ones)[1]))
    for counted, expected in pairs:
        for step, (found, right) in enumerate(zip(counted, expected[: len(counted)], strict=True), 1):
            expect(found == right, f"step {step}: found {found}, expected {right}: counted before the update?")
    return f"{correct.sum()} of {SEQUENCES}"


def follows_the_reference(trial: Trial) -> str:
    losses, _ = trial.train(trial.loaded)
    return within("losses", distance(losses, trial.losses[: len(losses)]), BOUND)


def continues(trial: Trial) -> str:
    first, _ = trial.train(trial.loaded)
    second, _ = trial.train(trial.backend)
    off = distance(second, trial.losses[len(first) : len(first) + len(second)])
    return within("losses of a second epoch, the optimiser's state carried on", off, BOUND)


def loads_afresh(trial: Trial) -> str:
    first, _ = trial.train(trial.loaded)
    again, _ = trial.train(trial.loaded)
    return within("losses after a second load", distance(again, first), BOUND)


def warms_up_without_trace(trial: Trial) -> str:
    expected, _ = trial.train(trial.loaded)
    trial.backend.warm_up(trial.x, trial.y, trial.weights)
    changed, name = apart(trial.backend.weights(), trial.weights)
    expect(changed == 0, f"after warm_up {name} is off by {changed:.1e}; the weights must be those given, bit for bit")
    found, _ = trial.train(trial.backend)
    off = or_infinite(distance(found, expected))
    expect(
        off <= BOUND,
        f"losses after warm_up are off by {off:.1e}, the weights are not: the optimiser kept its state or its count of steps",
    )
    return f"weights bit for bit, losses {off:.1e}"


def reports_progress(trial: Trial) -> str:
    """Each step once, or each call's last one; in order where each is waited for, else a framework may report from threads of its own."""
    told: dict[int, tuple[float, float]] = {}
    call = trial.loaded.steps_a_call or SEQUENCES // trial.protocol.batch_size

    def progress(step: int, fetch: Callable[[], tuple[float, float]]) -> None:
        told[step] = fetch()

    for wait in (False, True):
        told.clear()
        losses, correct = trial.train(trial.loaded, progress=progress, wait=wait)
        steps, expected = list(told), [*range(call, len(losses), call), len(losses)]
        expect((steps if wait else sorted(steps)) == expected, f"progress was told the steps {steps}, expected {expected}")
        within("losses beside progress", distance(losses, trial.losses[: len(losses)]), BOUND)
    loss, accuracy = told[len(losses)]
    share = correct.sum() / SEQUENCES
    expect(abs(accuracy - share) < 1e-3, f"the last accuracy so far was {accuracy:.4f}, the epoch's is {share:.4f}")
    expect(abs(loss - losses.mean()) < 0.02, f"the last mean loss so far was {loss:.4f}, the epoch's is {losses.mean():.4f}")
    return f"{len(steps)} steps, means so far"


def takes_data_from(trial: Trial) -> str:
    """Wherever the backend can have an epoch's data lie, it trains on the same."""
    first, *others = registry.backend(trial.name).data_on if trial.protocol.devices == 1 else (trial.protocol.data_on,)
    expected, _ = trial.train(trial.loaded)
    for place in others:
        backend = trial.make(replace(trial.protocol, data_on=place), frozenset(), "auto")
        backend.load(trial.weights)
        losses, _ = trial.train(backend)
        within(f"losses with the data on the {place} against the {first}", distance(losses, expected), BOUND)
    return ", ".join((first, *others))


def leaves_its_inputs(trial: Trial) -> str:
    for name, array, kept in zip(("x", "y", "order"), (trial.x, trial.y, trial.order), trial.kept, strict=True):
        expect(np.array_equal(array, kept), f"{name} was changed in place")
    return "x, y and order are as they were"


def tells_its_device(trial: Trial) -> str:
    device, versions = trial.backend.device, trial.backend.versions()
    expect(device in ("cpu", "cuda"), f"device is {device!r}, expected 'cpu' or 'cuda'")
    expect(bool(versions) and all(isinstance(v, str) for v in versions.values()), f"versions() gave {versions!r}")
    try:
        found = trial.make(trial.protocol, frozenset(), "cuda").device
    except DeviceError:
        found = "cuda"
    expect(found == "cuda", "asked for cuda it runs on the CPU in silence; expected a DeviceError")
    return f"{device}; {', '.join(f'{name} {version}' for name, version in versions.items())}"


def makes_departures(trial: Trial) -> str:
    """Each departure that the backend declares for this model is made; ignored in silence it would be a row that lies. Those of the data
    and of the start are made before a backend has anything to do with them, those of the telling after."""
    made = []
    able = registry.possible(trial.name, trial.protocol.model.name) if trial.protocol.devices == 1 else {}
    for name, departure in able.items():
        if departure.kind == "weights":
            initial_weights(trial.protocol, 0, frozenset({name}), registry.backend(trial.name).framework)
        if departure.kind in ("data", "weights", "reporting"):
            continue
        made_right(trial, name, trial.made(frozenset({name})))
        made.append(name)
    return f"made: {', '.join(made) or 'none'}"


def made_right(trial: Trial, name: str, backend: Backend) -> None:
    """Raises Fault where a backend that accepted the departure does not make it. On whole batches, since another size is
    another program to compile."""
    departures, protocol = frozenset({name}), trial.protocol
    weights = weights_without_zeros(protocol, departures)
    backend.load(weights)
    full = SEQUENCES // protocol.batch_size
    rows = trial.order[: full * protocol.batch_size]
    if name in mistakes.reproducible(protocol) or shapes(protocol, departures) != shapes(protocol):
        count, asked = backend.parameters(), parameters(protocol, departures)
        expect(count == asked, f"{name}: found {count:,} trainable parameters, expected {asked:,}")
        exact = {key: value.astype(np.float64) for key, value in weights.items()}
        found = evaluate(backend, trial.x[rows], trial.y[rows]).probabilities
        off = distance(found, mistakes.outputs(protocol, exact, trial.x[rows], departures))
        within(f"{name}: probabilities", off, BOUND)
        losses, _ = trial.train(backend, rows)
        expected = trial.reference(weights, epochs=1, departures=departures)[0][:full]
        within(f"{name}: losses", distance(losses, expected), BOUND)
    elif name == "clip-norm":
        # the last kernel a thousand times larger makes gradients beyond the norm that is clipped at
        last, _ = trial.last_layer
        steep = {key: value * np.float32(1000 if key == last else 1) for key, value in trial.weights.items()}
        expected = trial.reference(steep, epochs=1, clip_norm=CLIP_NORM)[0][:full]
        backend.load(steep)
        losses, _ = trial.train(backend, rows)
        within(f"{name}: losses over the largest", distance(losses, expected, expected.max()), 10 * BOUND)
    elif name == "sparse-embedding-adam":
        trial.train(backend, trial.batches[0])
        off, tensor = apart(backend.weights(), mistakes.sparse_step(protocol, trial.exact, *trial.first))
        within(f"{name}: {tensor} after one step", off, BOUND)
    elif name == "framework-epsilon":
        trial.train(backend, trial.batches[0])
        after, (_, slopes) = backend.weights(), gradients(protocol, trial.exact, *trial.first)
        rate = protocol.learning_rate
        # Adam's first step; where the gradient is all rounding it may go either way
        steps = {
            key: np.where(np.abs(g) > 1e-5, trial.exact[key] - rate * g / (np.abs(g) + FRAMEWORK_EPSILON), after[key])
            for key, g in slopes.items()
        }
        off, tensor = apart(after, steps)
        within(f"{name}: {tensor} after one step", off, BOUND)
    else:
        if name == "own-dropout":
            predicted = evaluate(backend, trial.x[rows], trial.y[rows]).probabilities
            off = distance(predicted, mistakes.outputs(protocol, trial.exact, trial.x[rows]))
            within(f"{name}: probabilities, which dropout leaves alone", off, BOUND)
            backend.load(trial.weights)  # predicting may draw from the stream of masks
        losses, _ = trial.train(backend, rows)
        same = or_infinite(distance(losses, trial.losses[:full])) <= BOUND
        expect(not same, f"{name} is accepted and not made: its losses are those without it")
        backend.load(trial.weights)
        again, _ = trial.train(backend, rows)
        within(f"{name}: losses after a second load", distance(again, losses), BOUND)


CHECKS: dict[str, Callable[[Trial], str]] = {
    "weights": weights_come_back,
    "parameters": counts_parameters,
    "outputs": computes_outputs,
    "gradients": computes_gradients,
    "one step": makes_one_step,
    "every batch": trains_every_batch,
    "order": keeps_the_order,
    "answers": counts_answers,
    "trajectory": follows_the_reference,
    "second epoch": continues,
    "second load": loads_afresh,
    "warm-up": warms_up_without_trace,
    "progress": reports_progress,
    "departures": makes_departures,
    "data on": takes_data_from,
    "device": tells_its_device,
    "inputs": leaves_its_inputs,
}
