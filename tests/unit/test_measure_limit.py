"""Each model's operations, against a count of every product as it is made; the limit that follows; which kernel computed it."""

import json
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from levelfield import registry
from levelfield.errors import NodeError
from levelfield.level import reference
from levelfield.level.trial import small_protocol, weights_without_zeros
from levelfield.measure import calibrate, hang, kernels, limit
from levelfield.measure.gpu import Gpu
from levelfield.models.base import forward_operations, training_operations
from levelfield.models.bilstm import BiLstm
from levelfield.models.transformer import Transformer
from levelfield.study.protocol import Protocol


class Counted:
    """Multiplies matrices and counts the multiplications and additions of their elements."""

    def __init__(self):
        self.operations = 0

    def product(self, a, b):
        (n, k), (_, m) = a.shape, b.shape
        self.operations += n * m * k + n * m * k
        return a @ b


def lstm_forward_backward(count, inputs, kernel, recurrent):
    """One direction over one sequence, inputs (length, size): forward, and backward for a gradient of all states."""
    units, states, hidden, cell = recurrent.shape[0], [], np.zeros((1, recurrent.shape[0])), 0.0
    for token in inputs:
        z = count.product(token[None], kernel) + count.product(hidden, recurrent)
        i, f, g, o = np.split(np.tanh(z), 4, axis=1)
        states.append(hidden)
        cell = f * cell + i * g
        hidden = o * np.tanh(cell)
    forward = count.operations
    down = np.ones((1, 4 * units))  # the gradient of a step's four gates: its values do not matter to the count
    for token, state in zip(inputs, states, strict=True):
        count.product(down, kernel.T)
        count.product(token[:, None], down)
        count.product(down, recurrent.T)
        count.product(state.T, down)
    return forward


def test_the_lstms_operations_are_those_of_a_count_by_hand():
    protocol = Protocol(model=BiLstm(embedding=3, units=2), length=5, batch_size=1)
    forward = total = 0
    for size in (3, 4):
        for _direction in range(2):
            count = Counted()
            forward += lstm_forward_backward(count, np.ones((5, size)), np.ones((size, 8)), np.ones((2, 8)))
            total += count.operations
    dense = Counted()
    dense.product(np.ones((1, 4)), np.ones((4, 1)))
    forward += dense.operations
    dense.product(np.ones((1, 1)), np.ones((1, 4)))
    dense.product(np.ones((4, 1)), np.ones((1, 1)))
    total += dense.operations
    assert forward_operations(protocol) == forward
    assert training_operations(protocol) == total


class CountedProducts(np.ndarray):
    """An array whose matrix products, and those of what is computed from it, are counted in `operations`."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [np.asarray(value) for value in inputs]
        options = {name: tuple(map(np.asarray, value)) if name == "out" else value for name, value in options.items()}
        found = getattr(ufunc, method)(*plain, **options)
        if ufunc is np.matmul:
            CountedProducts.operations += 2 * found.size * plain[0].shape[-1]
        return found.view(CountedProducts) if isinstance(found, np.ndarray) else found


def test_a_departure_that_changes_the_sizes_changes_the_operations():
    """Heads that share the embedding's width: 2 of 16 in place of 2 of 32."""
    protocol = Protocol(model=Transformer())
    shared = frozenset({"heads-share-width"})
    half = replace(protocol, model=replace(protocol.model, head_width=16))
    assert forward_operations(protocol, shared) == forward_operations(half) < 0.6 * forward_operations(protocol)
    assert limit.measurements(protocol, 100.0, None, shared)["operations_per_sequence"] == training_operations(half)


@pytest.mark.parametrize("model", ["transformer", "cnn"])
def test_a_models_operations_are_the_products_that_its_reference_makes(model):
    protocol = small_protocol(model)
    weights = {name: value.astype(float).view(CountedProducts) for name, value in weights_without_zeros(protocol).items()}
    CountedProducts.operations = 0
    reference.logits(protocol, weights, np.arange(protocol.length)[None])
    assert forward_operations(protocol) == CountedProducts.operations > 1000


@pytest.mark.parametrize(
    ("model", "forward", "parameters"),
    [
        ("bilstm", 78_643_456, 2_757_761),
        # per token 4 projections of 32 by 64, keys and values of 200 tokens by 64, two layers of 32 by 32; at the end 32 by 20 by 2
        ("transformer", 2 * (200 * (4 * 32 * 64 + 2 * 200 * 64 + 2 * 32 * 32) + 32 * 20 + 20 * 2), 657_758),
        # 65 and 20 windows of 7 by 128, 128 filters each; then 128 by 128 by 1
        ("cnn", 2 * ((65 + 20) * 7 * 128 * 128 + 128 * 128 + 128), 2_806_273),
    ],
)
def test_the_published_sizes(model, forward, parameters):
    protocol = Protocol(model=registry.model(model).sizes())
    assert forward_operations(protocol) == forward
    assert training_operations(protocol) == 3 * forward
    assert limit.update_bytes(protocol) == 24 * parameters


def test_the_reference_experiment():
    assert training_operations(Protocol()) == 235_930_368


def calibration(**values) -> limit.Calibration:
    return limit.Calibration(
        **{
            "host": "h", "cpu": "c", "threads": 2, "gpu": None, "measured": "2026-01-01T00:00:00+00:00", "library": "NumPy",
            "products_per_second": {"float32": 1e11}, "bytes_per_second": 1e10, "bare_step_seconds": {},
        } | values
    )  # fmt: skip


def test_the_limit_is_the_slower_of_products_and_bytes():
    protocol = Protocol()
    assert limit.step_seconds(protocol, calibration()) == pytest.approx(32 * 235_930_368 / 1e11)
    assert limit.step_seconds(protocol, calibration(bytes_per_second=1e8)) == pytest.approx(24 * 2_757_761 / 1e8)


def test_what_was_not_calibrated_has_no_share():
    found = limit.measurements(Protocol(precision="bfloat16"), 300, calibration())
    assert found["share_of_limit"] is None and found["share_of_bare_kernel"] is None
    assert limit.measurements(Protocol(), 300, None)["share_of_limit"] is None


def test_shares_are_of_the_runs_own_step():
    bare = calibration(bare_step_seconds={limit.bare_key(Protocol()): 0.04})
    found = limit.measurements(Protocol(), 320, bare)
    assert found["operations_per_second"] == 320 * 235_930_368
    assert found["share_of_limit"] == pytest.approx(320 * 235_930_368 / 1e11)
    assert found["share_of_bare_kernel"] == pytest.approx(0.4)


@pytest.mark.parametrize("other", [{"batch_size": 64}, {"length": 100}, {"precision": "tf32"}, {"model": BiLstm(units=32)}])
def test_a_bare_kernels_time_is_that_of_its_own_sizes_alone(other):
    bare = calibration(bare_step_seconds={limit.bare_key(Protocol()): 0.04})
    assert limit.measurements(Protocol(**other), 320, bare)["share_of_bare_kernel"] is None


def test_this_machine_is_calibrated_once_and_again_only_while_it_is_restless(tmp_path, monkeypatch):
    found = calibrate.of_this_machine(tmp_path, Protocol(), 1, None)
    assert 1e8 < found.products_per_second["float32"] < 1e13 and 1e8 < found.bytes_per_second < 1e13
    path = tmp_path / f"{calibrate.machine_key(1, None)}.json"
    calibrate.write_json(path, calibration(threads=1))
    assert calibrate.of_this_machine(tmp_path, Protocol(), 1, None) == calibration(threads=1)
    calibrate.write_json(path, calibration(threads=1, warning="other work", bytes_per_second=1e15))
    again = calibrate.of_this_machine(tmp_path, Protocol(), 1, None)
    assert again.library != "NumPy" and again.bytes_per_second == 1e15


TENSORFLOW_GPU = ["StatefulPartitionedCall/model/lstm/CudnnRNNV3:CudnnRNNV3", "Iterator::Root::Prefetch"]
TORCH_GPU = ["aten::_cudnn_rnn", "CudnnRnnBackward0", "void RNN_blockPersist_fp_LSTM<float, float, 64>(int)", "aten::mm"]
TORCH_CONVOLUTION = ["aten::mkldnn_convolution", "ConvolutionBackward0", "aten::relu"]
TORCH_ATTENTION = ["aten::_scaled_dot_product_flash_attention_for_cpu", "aten::linear"]


@pytest.mark.parametrize(
    ("model", "profile", "told", "verdict"),
    [
        ("bilstm", ["aten::mkldnn_rnn_layer_backward", "MkldnnRnnLayerBackward0"], ["aten::mkldnn_rnn_layer_backward"], "oneDNN"),
        ("bilstm", TORCH_GPU, ["RNN_blockPersist_fp_LSTM", "aten::_cudnn_rnn"], "cuDNN"),
        ("bilstm", TENSORFLOW_GPU, ["CudnnRNNV3"], "cuDNN"),
        ("bilstm", ["$lstm.py:5 scan_lstm", "while.12", "dot.3"], ["while"], "not fused"),
        ("bilstm", [], [], None),
        ("cnn", TORCH_CONVOLUTION, ["aten::mkldnn_convolution"], "oneDNN"),
        ("cnn", ["_MklNativeFusedConv2D", "convert_to_tensor"], ["_MklNativeFusedConv2D"], "oneDNN"),
        ("cnn", ["_MklMatMul", "BiasAddGrad", "sm80_xmma_dgrad_implicit_gemm(int)"], ["sm80_xmma_dgrad_implicit_gemm"], "cuDNN"),
        ("cnn", ["_MklMatMul", "BiasAddGrad"], [], "not told"),
        ("cnn", ["conv_general_dilated.6", "convert_reduce_fusion"], ["conv_general_dilated"], "XLA"),
        ("cnn", ["aten::cudnn_convolution", "aten::mm"], ["aten::cudnn_convolution"], "cuDNN"),
        ("transformer", TORCH_ATTENTION, TORCH_ATTENTION[:1], "flash"),
        (
            "transformer", ["aten::_scaled_dot_product_cudnn_attention", "aten::linear"],
            ["aten::_scaled_dot_product_cudnn_attention"], "cuDNN",
        ),
        ("transformer", ["_MklSoftmax", "_MklEinsum", "SparseSoftmaxCrossEntropyWithLogits"], ["_MklEinsum", "_MklSoftmax"], "not fused"),
        ("transformer", ["fmha_cutlassF_f32_aligned_64x64_rf_sm80(int)"], ["fmha_cutlassF_f32_aligned_64x64_rf_sm80"], "memory-efficient"),
    ],
)  # fmt: skip
def test_a_models_kernel_is_read_off_a_profile(model, profile, told, verdict):
    assert kernels.told(profile, registry.model(model).kernels) == told
    assert kernels.verdict(profile, registry.model(model).kernels) == verdict


def test_a_calibration_that_ends_badly_says_so(tmp_path, monkeypatch):
    """As under a GPU's exclusive compute mode, which lets no second process in."""
    monkeypatch.setattr(calibrate, "find_spec", lambda name: True)
    monkeypatch.setattr(calibrate.subprocess, "Popen", lambda command, **_: SimpleNamespace(wait=lambda seconds: 1))
    with pytest.raises(RuntimeError, match=r"exit code 1.*exclusive compute mode"):
        calibrate.of_this_machine(tmp_path, Protocol(), 1, Gpu("GPU-1", 0, None, None, None))
    with pytest.raises(RuntimeError, match=r"exit code 1, its reason stands in the log$"):
        calibrate.of_this_machine(tmp_path, Protocol(), 1, None)


@pytest.mark.parametrize("dies", [True, False])
def test_a_calibration_that_hangs_is_killed_and_one_that_cannot_be_is_not_waited_for(tmp_path, monkeypatch, dies):
    """As in a call into a driver that hangs: the kernel ends no process there."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    kill, hanging = calibrate.subprocess.Popen.kill, []

    def killed(process):
        hanging.append(process)
        if dies:
            kill(process)

    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(calibrate, "LONGEST_SECONDS", 0.5)
    monkeypatch.setattr(hang, "KILL_SECONDS", 10 if dies else 0.2)
    monkeypatch.setattr(calibrate.subprocess.Popen, "kill", killed)
    expected = calibrate.subprocess.TimeoutExpired if dies else NodeError
    began = time.monotonic()
    with pytest.raises(expected, match="timed out" if dies else "cannot be killed"):
        calibrate.of_this_machine(tmp_path, Protocol(), 1, None)
    assert time.monotonic() - began < 20
    assert (hanging[0].poll() is not None) == dies
    kill(hanging[0])
    hanging[0].wait()


@pytest.mark.parametrize(
    "change",
    [{"products_per_second": None}, {"products_per_second": {"float32": "x"}}, {"bytes_per_second": 0}, {"bytes_per_second": float("nan")},
     {"bare_step_seconds": [1]}, {"another": 1}],
)  # fmt: skip
def test_a_damaged_or_foreign_calibration_is_none(tmp_path, change):
    whole = {"host": "h", "cpu": "c", "threads": 2, "gpu": None, "measured": "m", "library": "l",
             "products_per_second": {"float32": 1e9}, "bytes_per_second": 1e9, "bare_step_seconds": {}}  # fmt: skip
    file = tmp_path / "h.json"
    file.write_text(json.dumps(whole), encoding="utf-8")
    assert calibrate.read(file).bytes_per_second == 1e9
    file.write_text(json.dumps(whole | change), encoding="utf-8")
    assert calibrate.read(file) is None
    file.write_text("[" * 100_000, encoding="utf-8")
    assert calibrate.read(file) is None
