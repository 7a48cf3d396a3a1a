"""The protocol's operations, against a count by hand: an LSTM written out, every product counted as it is made."""

import numpy as np
import pytest

from levelfield.models import operations
from levelfield.measure import calibrate, kernels, limit
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


def test_operations_are_those_of_a_count_by_hand():
    protocol = Protocol(length=5, embedding=3, units=2, batch_size=1)
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
    assert operations.forward_operations(protocol) == forward
    assert operations.training_operations(protocol) == total


def test_the_reference_experiment():
    assert operations.training_operations(Protocol()) == 235_930_368
    assert limit.update_bytes(Protocol()) == 24 * 2_757_761


def calibration(**values) -> limit.Calibration:
    return limit.Calibration(
        **{
            "host": "h", "cpu": "c", "threads": 2, "gpu": None, "measured": "2026-01-01T00:00:00+00:00", "library": "NumPy",
            "products_per_second": {"float32": 1e11}, "bytes_per_second": 1e10, "cudnn_step_seconds": {},
        } | values
    )  # fmt: skip


def test_the_limit_is_the_slower_of_products_and_bytes():
    protocol = Protocol()
    assert limit.step_seconds(protocol, calibration()) == pytest.approx(32 * 235_930_368 / 1e11)
    assert limit.step_seconds(protocol, calibration(bytes_per_second=1e8)) == pytest.approx(24 * 2_757_761 / 1e8)


def test_what_was_not_calibrated_has_no_share():
    found = limit.measurements(Protocol(precision="bfloat16"), 300, calibration())
    assert found["share_of_limit"] is None and found["share_of_cudnn"] is None
    assert limit.measurements(Protocol(), 300, None)["share_of_limit"] is None


def test_shares_are_of_the_runs_own_step():
    cudnn = calibration(cudnn_step_seconds={limit.cudnn_key(Protocol()): 0.04})
    found = limit.measurements(Protocol(), 320, cudnn)
    assert found["operations_per_second"] == 320 * 235_930_368
    assert found["share_of_limit"] == pytest.approx(320 * 235_930_368 / 1e11)
    assert found["share_of_cudnn"] == pytest.approx(0.4)


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


@pytest.mark.parametrize(
    ("profile", "told", "verdict"),
    [
        (["aten::mkldnn_rnn_layer_backward", "MkldnnRnnLayerBackward0"], ["aten::mkldnn_rnn_layer_backward"], "oneDNN"),
        (TORCH_GPU, ["RNN_blockPersist_fp_LSTM", "aten::_cudnn_rnn"], "cuDNN"),
        (TENSORFLOW_GPU, ["CudnnRNNV3"], "cuDNN"),
        (["$lstm.py:5 f", "while.12", "dot.3"], ["while"], "not fused"),
        ([], [], None),
    ],
)
def test_the_lstm_kernel_is_read_off_a_profile(profile, told, verdict):
    assert kernels.of_lstm(profile) == told
    assert kernels.verdict(profile) == verdict
