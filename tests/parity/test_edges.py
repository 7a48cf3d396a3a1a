"""Edges of a protocol: decays of 0, epochs longer than Keras's buffers, a batch left out; and what the warm-up must have done."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from textwrap import dedent

import numpy as np
import pytest
import torch
import torch._dynamo

from levelfield import registry
from levelfield.backends.torch import Torch, loss_and_right
from levelfield.level.bounds import proven
from levelfield.level.check import check
from levelfield.level.parity import judge, measure
from levelfield.level.start import make_start
from levelfield.level.trial import small_protocol

OWN = [name for name, backend in registry.backends().items() if not backend.like]
KERAS = [name for name in OWN if registry.backend(name).framework == "keras"]


def told(code: str, *arguments) -> str:
    """The last line of what a process says."""
    command = [sys.executable, "-c", dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


def quick(names: list[str], among: tuple[str, ...]) -> list:
    return [name if name in among else pytest.param(name, marks=pytest.mark.long) for name in names]


DECAYS = """
    import sys
    from dataclasses import replace
    from levelfield.backends import confine, load_backend
    from levelfield.level import check, trial
    small, betas = trial.small_protocol, dict(zip(("beta_1", "beta_2"), map(float, sys.argv[2:])))
    trial.small_protocol = lambda *given: replace(small(*given), **betas)
    threads, make = confine("cpu", 1), load_backend(sys.argv[1])
    found = trial.Trial(sys.argv[1], "cnn", lambda protocol, departures, device: make(protocol, departures, device, threads))
    print(check.makes_one_step(found))
    losses, _ = found.train(found.loaded)
    print(float(abs(losses[:5] - found.losses[:5]).max()))
"""


@pytest.mark.parametrize("backend", quick(OWN, ("torch",)))
@pytest.mark.parametrize(("beta_1", "beta_2"), [(0, 0), (0, 0.99), (0.8, 0)])
def test_with_decays_of_0_the_steps_are_those_of_the_reference(backend, beta_1, beta_2):
    """The first five: without a second moment a step is m / (|g| + ε), which makes much of rounding where g is nearly 0."""
    assert float(told(DECAYS, backend, beta_1, beta_2)) < 1e-6


ROOM = """
    import sys
    import numpy as np
    from levelfield.backends import confine, load_backend
    threads, make = confine("cpu", 1), load_backend(sys.argv[1], int(sys.argv[2]))
    from levelfield.backends import keras
    from levelfield.level.trial import Trial
    keras.CAPACITY = 4
    given = lambda protocol, departures, device: make(protocol, departures, device, threads)
    found = Trial(sys.argv[1], "cnn", given, devices=int(sys.argv[2]))
    assert len(found.batches) == 8
    off = lambda losses: float(np.abs(losses - found.losses[:8]).max())
    # without a warm-up: two steps within the buffers, then six beyond, the optimiser carried on
    backend = found.loaded
    parts = [found.train(backend, order)[0] for order in (found.order[:8], found.order[8:])]
    apart = off(np.concatenate(parts))
    # with one: nothing is made anew in the epoch
    backend = found.made(frozenset())
    backend.warm_up(found.x, found.y, found.weights)
    function = backend.model.train_function
    losses, correct = found.train(backend)
    assert backend.model.train_function is function is not None
    assert list(correct) == list(found.correct[:8]), correct
    print(max(apart, off(losses)))
"""


@pytest.mark.parametrize(
    ("backend", "devices"),
    [
        ("keras-torch", 1),
        *(pytest.param(name, 1, marks=pytest.mark.long) for name in KERAS if name != "keras-torch"),
        *(pytest.param(name, 2, marks=pytest.mark.long) for name in KERAS if registry.backend(name).devices),
    ],
)
def test_an_epoch_of_more_steps_than_the_buffers_hold_makes_room_in_the_warm_up(backend, devices):
    assert float(told(ROOM, backend, devices)) < 1e-6


RUN_ONCE = """
    import sys
    import numpy as np
    from levelfield.backends import confine, load_backend
    from levelfield.level.start import make_start
    from levelfield.level.trial import small_protocol
    threads, make = confine("cpu", 1), load_backend(sys.argv[1])
    protocol = small_protocol("cnn", "device")
    x, y = np.ones((75, protocol.length), np.int32), np.ones(75, np.float32)
    backend, run = make(protocol, frozenset(), "cpu", threads), []
    compiled = backend._compiled

    def counted(batches):
        program = compiled(batches)
        return lambda *given: run.append(len(batches[0])) or program(*given)

    backend._compiled = counted
    weights = make_start(protocol, 0, 75).weights
    backend.warm_up(x, y, weights, 50)
    assert all(np.array_equal(value, weights[name]) for name, value in backend.weights().items())
    print(run)
"""


@pytest.mark.parametrize("backend", quick(["jax-scan", "flax-scan"], ("jax-scan",)))
def test_the_program_of_a_whole_epoch_has_run_before_the_clock_begins(backend):
    """Of 75 sequences 18 batches of 4 are one call; the two of the warm-up's own are another."""
    assert told(RUN_ONCE, backend) == "[2, 18]"


def trained(departures: frozenset[str], torch_like: type[Torch] = Torch):
    """What parity measures of a backend on ten batches and a smaller one."""
    protocol = small_protocol("cnn")
    rng, sequences = np.random.default_rng(0), 10 * protocol.batch_size + 3
    x = rng.integers(0, protocol.vocabulary, (sequences, protocol.length)).astype(np.int32)
    y, start = (rng.random(sequences) < 0.5).astype(np.float32), make_start(protocol, 0, sequences)
    reference = proven(protocol, start.weights, x, y, start.order[0])
    assert [len(rows) for rows in reference.batches[:4]] == [4, 4, 3, 4] and len(reference.losses) == 11
    found = measure(torch_like(protocol, departures, "cpu", 1), start.weights, reference, x, y, departures)
    return found, judge(found, reference.bounds["float32"])


@pytest.mark.parametrize("departure", ["drop-last-batch", "drop-last-training-batch", "drop-last-batch-of-each-worker"])
def test_where_an_epochs_smaller_batch_is_left_out_parity_tells_from_it_on(departure):
    found, judged = trained(frozenset({departure}))
    assert len(found.losses) == 10 and max(found.losses[:2]) < 1e-6
    assert not judged["passed"] and all("step_1:" not in missed for missed in judged["missed"])
    assert any("weights_step_3" in missed for missed in judged["missed"])


class MeanOverTheWholeSize(Torch):
    """The gradient of a smaller batch divided by the size of a whole one: its loss, and whole batches, are right."""

    def _step(self, tokens, labels):
        self.optimizer.zero_grad(set_to_none=True)
        loss, right = loss_and_right(self.forward(tokens), labels)
        (loss * len(labels) / self.protocol.batch_size).backward()
        self._update()
        return loss.detach(), right.sum()


def test_a_backend_that_is_wrong_in_the_smaller_batch_alone_is_barred():
    _, right = trained(frozenset())
    assert right["passed"]
    _, judged = trained(frozenset(), MeanOverTheWholeSize)
    assert not judged["passed"] and all("step_1:" not in missed for missed in judged["missed"])
    assert any("step_3" in missed for missed in judged["missed"])


class OneBufferForAll(Torch):
    """What an evaluation of several batches gives is all of the last one's, as of a CUDA graph whose output nobody copied."""

    def predict(self, x):
        size = self.protocol.batch_size
        last = super().predict(x[len(x) - len(x) % size or len(x) - size :])
        return np.concatenate([np.resize(last, (len(x) - len(last), *last.shape[1:])), last])


class ForgetsTheRest(Torch):
    """The smaller batch of an evaluation is told as its first sequence, over and over."""

    def predict(self, x):
        found, rest = super().predict(x), len(x) % self.protocol.batch_size
        found[len(x) - rest :] = found[len(x) - rest : len(x) - rest + 1]
        return found


class PredictsWithWhatWasLoaded(Torch):
    """As an inference program in which the weights were folded when it was made."""

    def load(self, weights):
        super().load(weights)
        self.folded = copy.deepcopy(self.model).eval()

    def predict(self, x):
        trained, self.forward = self.forward, self.folded
        found = super().predict(x)
        self.forward = trained
        return found


class CountsTheFilling(Torch):
    """Of a smaller batch one more right answer than there is: a sequence that fills it up was counted."""

    def train_epoch(self, x, y, order, *others, **named):
        losses, right = super().train_epoch(x, y, order, *others, **named)
        right[-1] += len(order) % self.protocol.batch_size > 0
        return losses, right


@pytest.mark.parametrize(
    ("wrong", "quantity"),
    [
        (OneBufferForAll, "probabilities"),
        (ForgetsTheRest, "probabilities"),
        (PredictsWithWhatWasLoaded, "probabilities_step_1"),
        (CountsTheFilling, "right_step_3"),
    ],
)
def test_a_backend_that_is_wrong_in_the_evaluation_or_in_its_counts_is_barred(wrong, quantity):
    _, judged = trained(frozenset(), wrong)
    assert not judged["passed"] and judged["missed"] and all(missed.startswith(quantity) for missed in judged["missed"])


def test_the_contract_finds_who_predicts_with_what_was_loaded():
    def make(protocol, departures, device):
        return PredictsWithWhatWasLoaded(protocol, departures, "cpu" if device == "auto" else device, 1)

    found = {one.check: one.found for one in check("torch", "cnn", make) if not one.passed}
    assert list(found) == ["one step"] and "they are those before it" in found["one step"]


COMPILED = """
    import numpy as np
    from levelfield.backends import confine, load_backend
    from levelfield.level.trial import Trial
    threads, make = confine("cpu", 1), load_backend("torch-compile")
    found = Trial("torch-compile", "cnn", lambda protocol, departures, device: make(protocol, departures, device, threads))
    np.testing.assert_allclose(found.train(found.loaded)[0], found.losses[:8], atol=1e-6)
"""


@pytest.mark.long
def test_a_compiled_program_of_another_kind_of_cpu_is_not_taken(tmp_path):
    """What PyTorch kept for AVX2 wrote beyond its arrays where its compiler takes AVX-512; on a CPU without that there is one kind alone."""
    for kind in ({"ATEN_CPU_CAPABILITY": "avx2"}, {}):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), **kind}
        done = subprocess.run([sys.executable, "-c", dedent(COMPILED)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr


KEYS = """
    import sys
    from dataclasses import replace
    import numpy as np
    from levelfield.backends import confine, load_backend
    from levelfield.level.start import make_start
    from levelfield.level.trial import small_protocol
    threads, make = confine("cpu", 1), load_backend(sys.argv[1])
    protocol = small_protocol("transformer")
    backend = make(protocol, frozenset({"own-dropout"}), "cpu", threads)
    backend.load(make_start(protocol, 0, 8).weights)
    layers = [layer for layer in backend.model.layers if hasattr(layer, "seed_generator")]
    print(*(int(np.asarray(layer.seed_generator.state)[1]) for layer in layers))
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", ["keras-tensorflow", "keras-jax"])
def test_no_two_dropout_layers_of_keras_ever_draw_with_one_key(backend):
    """A draw adds 1 to the key: between two layers' keys there is room for more steps than any training has."""
    keys = sorted(map(int, told(KEYS, backend).split()))
    assert len(keys) >= 3 and min(np.diff(keys)) >= 1 << 24


def test_torch_compile_has_a_program_of_its_own_for_each_size_and_all_are_made_in_the_warm_up(monkeypatch):
    """Left to itself it makes one for any size when it meets a second one, and whole batches run that one from then on."""
    compile_it, made = torch.compile, []

    def recording(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        sizes = [size for value in inputs for size in (value.shape if isinstance(value, torch.Tensor) else (value,))]
        made.append(any(isinstance(size, torch.SymInt) for size in sizes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda model, mode, **how: compile_it(model, backend=recording, **how))
    protocol = small_protocol("transformer")
    rng, sequences = np.random.default_rng(0), 4 * protocol.batch_size + 3
    x = rng.integers(0, protocol.vocabulary, (sequences, protocol.length)).astype(np.int32)
    y, start = (rng.random(sequences) < 0.5).astype(np.int32), make_start(protocol, 0, sequences)
    torch._dynamo.reset()
    backend = Torch(protocol, frozenset(), "cpu", 1, compiled="default")
    backend.warm_up(x, y, start.weights, 2 * protocol.batch_size + 2)
    warmed = len(made)
    backend.train_epoch(x, y, start.order[0].astype(np.int64))
    backend.predict(x[: 2 * protocol.batch_size + 2])
    assert warmed and len(made) == warmed and not any(made)


UNEVEN = """
    import sys
    import numpy as np
    from dataclasses import replace
    from levelfield import registry
    from levelfield.backends import confine, load_backend
    from levelfield.level.start import make_start
    from levelfield.level.trial import small_protocol
    threads, count, name = confine("cpu", 1), 35 * 4 + 3, sys.argv[1]
    rng, found = np.random.default_rng(3), []
    for row in (name, registry.backend(name).like):
        lies = "device" if row == name and name.endswith("scan") else "host"
        protocol = replace(small_protocol("cnn", lies), epochs=2)
        if not found:
            x = rng.integers(1, protocol.vocabulary, (count, protocol.length)).astype(np.int32)
            y = rng.integers(0, 2, count).astype(np.float32)
            start = make_start(protocol, 0, count)
        backend = load_backend(row)(protocol, frozenset(), "cpu", threads)
        backend.warm_up(x, y, start.weights, 7)
        epochs = [backend.train_epoch(x, y, order.astype(np.int64)) for order in start.order]
        found.append([np.concatenate(parts) for parts in zip(*epochs)] + [backend.predict(x[:7])])
    (losses, correct, logits), (plain, counted, others) = found
    assert len(losses) == len(plain) == 72 and list(correct) == list(counted), (correct, counted)
    print(max(abs(losses - plain).max(), abs(logits - others).max()))
"""


@pytest.mark.parametrize(
    "backend",
    quick([name for name, row in registry.backends().items() if row.like and name.endswith(("-16-steps", "scan"))], ()),
)
def test_several_steps_a_call_are_the_steps_of_one_a_call_with_a_rest_and_a_smaller_batch_in_each_epoch(backend):
    """Two epochs of 35 whole batches and one of 3 sequences: two calls of 16 and a rest of 3, or one call of all."""
    assert float(told(UNEVEN, backend)) < 1e-5
