"""Lines of the backends that run only with a GPU, without one: too old a card, a profile without a kernel, JAX's CUDA, bfloat16."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from levelfield.backends import base
from levelfield.backends.base import DeviceError, refuse_too_old

PYTORCH = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
TENSORFLOW = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((7, 5), PYTORCH, True),
        ((8, 9), PYTORCH, True),
        ((6, 1), PYTORCH, False),
        ((7, 0), PYTORCH, False),
        ((12, 1), PYTORCH, True),
        ((13, 0), PYTORCH, True),
        ((3, 5), TENSORFLOW, False),
        ((10, 0), TENSORFLOW, True),
        ((6, 1), TENSORFLOW, True),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((12, 1), ["sm_100f"], False),
        ((5, 0), [], True),
        ((9, 0), ["gfx90a", "gfx1100", "", "sm_", "sm_90a.x"], True),
        ((6, 1), ["gfx90a", "sm_80", "compute_80"], False),
        ((8, 0), ["gfx90a", "sm_80"], True),
    ],
)
def test_a_gpu_that_the_package_holds_no_code_for_is_refused(capability, built_for, runs):
    if runs:
        refuse_too_old(capability, built_for, "PyTorch")
        return
    with pytest.raises(DeviceError, match=f"compute capability is {capability[0]}.{capability[1]}, and PyTorch is built for"):
        refuse_too_old(capability, built_for, "PyTorch")


@pytest.fixture
def torch(monkeypatch):
    module = pytest.importorskip("torch")
    monkeypatch.setattr(module.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.cuda, "get_arch_list", lambda: PYTORCH)
    monkeypatch.setattr(module.cuda, "get_device_capability", lambda: (6, 1))
    return module


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_pytorch_does_not_begin_on_a_gpu_that_is_too_old(torch, device):
    from levelfield.backends.torch import find_device

    with pytest.raises(DeviceError, match="set `device: cpu`"):
        find_device(device, "PyTorch")
    assert find_device("cpu", "PyTorch") == "cpu"


def test_a_profile_of_pytorch_that_names_no_kernel_of_the_gpu_tells_nothing():
    torch = pytest.importorskip("torch")
    from levelfield.backends.torch import profiled

    def work():
        return torch.ones(2) @ torch.ones(2)

    assert "aten::dot" in profiled(work, "cpu")
    assert profiled(work, "cuda") == []


def test_a_profile_of_jax_that_names_no_kernel_of_the_gpu_tells_nothing(monkeypatch):
    jax = pytest.importorskip("jax")
    from levelfield.backends.jax import profiled

    def work():
        jax.jit(lambda x: x @ x)(jax.numpy.ones((4, 4))).block_until_ready()

    assert profiled(work, "cpu")
    assert profiled(work, "cuda") == []
    event = SimpleNamespace(name="loop_fusion")
    planes = [SimpleNamespace(name="/device:GPU:0", lines=[SimpleNamespace(events=[event])])]
    monkeypatch.setattr(jax.profiler.ProfileData, "from_file", lambda path: SimpleNamespace(planes=planes), raising=False)
    assert profiled(work, "cuda") == ["loop_fusion"]


CUDA_13 = {"nvidia-cuda-runtime": "13.0.96", "nvidia-cudnn-cu13": "9.20.0.48"}
CUDA_12 = {"nvidia-cuda-runtime-cu12": "12.8.90", "nvidia-cudnn-cu12": "9.10.2.21"}
TELLS_13, TELLS_12 = {"cuda": "13.0.96", "cudnn": "9.20.0.48"}, {"cuda": "12.8.90", "cudnn": "9.10.2.21"}


@pytest.fixture
def packages(monkeypatch) -> dict[str, str]:
    """What is pretended to be installed: to be filled."""
    there: dict[str, str] = {}

    def version(package):
        if package not in there:
            raise PackageNotFoundError(package)
        return there[package]

    monkeypatch.setattr(base, "version", version)
    return there


@pytest.mark.parametrize(
    ("there", "major", "told"),
    [
        (CUDA_13, "13", TELLS_13),
        (CUDA_12, "12", TELLS_12),
        (CUDA_12 | CUDA_13, "13", TELLS_13),
        (CUDA_12 | CUDA_13, "12", TELLS_12),
        (CUDA_12 | {"nvidia-cuda-runtime-cu13": "0.0.0a0"}, "13", {}),
        (CUDA_13, None, TELLS_13),
        (CUDA_12, None, TELLS_12),
        (CUDA_12 | CUDA_13, None, {}),
        ({}, "13", {}),
        ({}, None, {}),
    ],
)
def test_cuda_is_told_by_the_packages_that_hold_it(packages, there, major, told):
    packages |= there
    assert base.cuda_versions(major) == told


@pytest.mark.parametrize(
    ("plugin", "told"), [("jax-cuda12-plugin", TELLS_12), ("jax-cuda13-plugin", TELLS_13), ("another", {})]
)
def test_jax_tells_of_the_cuda_of_its_plugin(packages, plugin, told):
    pytest.importorskip("jax")
    from levelfield.backends.jax import versions_of_cuda

    packages |= CUDA_12 | CUDA_13 | {plugin: "0.10.2"}
    assert versions_of_cuda("cuda") == told and versions_of_cuda("cpu") == {}


@pytest.mark.parametrize(
    ("there", "number", "told"),
    [
        (CUDA_12 | CUDA_13, 92000, TELLS_13),
        (CUDA_12, 92000, {"cuda": "13.0", "cudnn": "9.20.0"}),
        ({}, 8902, {"cuda": "13.0", "cudnn": "8.9.2"}),
        ({}, None, {"cuda": "13.0"}),
    ],
)
def test_pytorch_tells_of_cuda_as_the_others_do(packages, monkeypatch, there, number, told):
    torch = pytest.importorskip("torch")
    from levelfield.backends.torch import versions_of_cuda

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: number)
    packages |= there
    assert versions_of_cuda("cuda") == told and versions_of_cuda("cpu") == {}
    monkeypatch.setattr(torch.version, "cuda", None)
    assert versions_of_cuda("cuda") == {}, "a build for CPUs, or ROCm"


def test_a_gpu_of_which_jax_tells_no_memory_is_not_told(monkeypatch):
    jax = pytest.importorskip("jax")
    from levelfield.backends.jax import peak_memory
    from levelfield.backends.jax_devices import peak_memory as of_all

    device = SimpleNamespace(memory_stats=lambda: None)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert peak_memory("cuda") == of_all("cuda") == (None, None)
    device.memory_stats = lambda: {"peak_bytes_in_use": 3}
    assert peak_memory("cuda") == of_all("cuda") == (3, None)


@pytest.mark.parametrize(
    ("jaxlib", "device", "known"),
    [
        ("0.10.2", "cuda", True),
        ("0.10.2", "cpu", False),
        ("0.11.0.dev20260101", "cuda", True),
        ("0.11.1", "cuda", False),
        ("0.12.0", "cuda", False),
    ],
)
def test_a_jaxlib_that_is_known_to_be_slow_on_a_gpu_says_so(monkeypatch, jaxlib, device, known):
    pytest.importorskip("jax")
    from levelfield.backends import jax as backend

    monkeypatch.setattr(backend, "version", lambda package: jaxlib)
    told = backend.known_faults(device)
    assert bool(told) == known and all("jax#38806" in value for value in told.values())


def test_jax_says_whether_it_takes_memory_in_advance(monkeypatch):
    pytest.importorskip("jax")
    from levelfield.backends.jax import preallocates

    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    assert preallocates("cuda") and not preallocates("cpu")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert not preallocates("cuda")


TENSORFLOW_TELLS = """
import json
import tensorflow as tf
from levelfield.backends import base, keras
there = {"nvidia-cuda-runtime-cu12": "12.5.82", "nvidia-cudnn-cu12": "9.3.0.75", "nvidia-cuda-runtime": "13.0.96"}
base.installed = there.get
tf.sysconfig.get_build_info = lambda: {"cuda_version": "12.5.1", "cudnn_version": "9"}
found = {"versions": keras.versions_of_cuda("cuda"), "on a CPU": keras.versions_of_cuda("cpu"), "preallocates": keras.preallocates("cuda")}
there.clear()
found["without packages"] = keras.versions_of_cuda("cuda")
tf.config.experimental.get_memory_info = lambda device: {"current": 1, "peak": 5}
found["peak"] = keras.peak_of(range(2))
def refuse(device):
    raise ValueError("Allocator stats not available for device " + device)
tf.config.experimental.get_memory_info = tf.config.experimental.reset_memory_stats = refuse
found["no counts"] = keras.peak_of(range(1))
keras.reset_peaks(range(1))
print(json.dumps(found))
"""


def test_what_tensorflow_tells_of_a_gpu_and_what_it_does_not():
    pytest.importorskip("tensorflow")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", TENSORFLOW_TELLS], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "versions": {"cuda": "12.5.82", "cudnn": "9.3.0.75"},
        "on a CPU": {},
        "preallocates": True,
        "without packages": {},
        "peak": 10,
        "no counts": None,
    }


def test_jax_hands_cudnn_the_weights_in_its_order_and_gets_the_same_states():
    """JAX's own reference of that call, which unpacks the flat vector as cuDNN does, against the scan."""
    jax = pytest.importorskip("jax")
    import numpy as np
    from jax.experimental import rnn

    from levelfield.level.start import make_start
    from levelfield.models.bilstm import BiLstm
    from levelfield.models.bilstm.jax import cudnn_features, scan_features
    from levelfield.study.protocol import Protocol

    def reference(x, h, c, flat, lengths, **sizes):
        shape = {name: sizes[name] for name in ("input_size", "hidden_size", "num_layers", "bidirectional")}
        return rnn.lstm_ref(x, h, c, *rnn.unpack_lstm_weights(flat, **shape), lengths, **sizes)

    protocol = Protocol(model=BiLstm(embedding=6, units=5), vocabulary=8, length=12, epochs=1)
    random = np.random.default_rng(0)
    weights = {name: jax.numpy.array(value) for name, value in make_start(protocol, 0, 4).weights.items()}
    weights = {n: random.normal(0, 0.5, v.shape).astype("f4") if n.endswith("bias") else v for n, v in weights.items()}
    embedded = jax.numpy.array(random.normal(size=(12, 3, 6)), "float32")
    found, expected = cudnn_features(weights, embedded, reference), scan_features(weights, embedded)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("precision", "fused"), [("float32", True), ("tf32", True), ("bfloat16", False)])
def test_jax_does_not_give_bfloat16_to_cudnn(monkeypatch, precision, fused):
    jax = pytest.importorskip("jax")
    from levelfield.level.start import make_start
    from levelfield.models.bilstm import BiLstm
    from levelfield.models.bilstm import jax as builder
    from levelfield.study.protocol import Protocol

    called = []

    def lstm(x, *arguments, **sizes):
        called.append(x.dtype)
        return jax.numpy.zeros((*x.shape[:2], 2 * sizes["hidden_size"]), x.dtype), None, None

    monkeypatch.setattr(builder.rnn, "lstm", lstm)
    protocol = Protocol(model=BiLstm(embedding=6, units=5), vocabulary=8, length=12, precision=precision, epochs=1)
    weights = {name: jax.numpy.array(value) for name, value in make_start(protocol, 0, 4).weights.items()}
    logits = builder.build(protocol, frozenset(), "cuda")(weights, jax.numpy.ones((2, 12), int), None)
    assert logits.shape == (2, 1) and logits.dtype == jax.numpy.float32
    assert bool(called) == fused


@pytest.mark.parametrize(
    ("device", "precision", "head_width", "implementation"),
    [
        ("cuda", "bfloat16", 32, "cudnn"),
        ("cuda", "bfloat16", 128, "cudnn"),
        ("cuda", "bfloat16", 136, None),
        ("cuda", "bfloat16", 256, None),
        ("cuda", "bfloat16", 12, None),
        ("cuda", "float32", 32, None),
        ("cuda", "tf32", 32, None),
        ("cpu", "bfloat16", 32, None),
    ],
)
def test_jax_asks_for_cudnns_attention_where_every_gpu_has_it(device, precision, head_width, implementation):
    pytest.importorskip("jax")
    from levelfield.models.transformer.jax import fused

    assert fused(device, precision, head_width) == implementation


def test_peaks_are_reset_after_the_warm_up(monkeypatch):
    torch = pytest.importorskip("torch")
    import numpy as np

    from levelfield.backends.torch import Torch
    from levelfield.level.start import make_start
    from levelfield.models.bilstm import BiLstm
    from levelfield.study.protocol import Protocol

    asked = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: asked.append("reset"))
    protocol = Protocol(model=BiLstm(embedding=6, units=5), vocabulary=8, length=12, batch_size=4, epochs=1)
    backend = Torch(protocol, frozenset(), "cpu", 1)
    monkeypatch.setattr(Torch, "synchronize", lambda self: asked.append("synchronize"))
    x, y = np.ones((8, 12), np.int32), np.ones(8, np.float32)
    trained = backend.train_epoch
    monkeypatch.setattr(Torch, "train_epoch", lambda self, *data: asked.append("train") or trained(*data))
    monkeypatch.setattr(Torch, "reset_peak_memory", lambda self: asked.append("reset"))
    backend.warm_up(x, y, make_start(protocol, 0, 8).weights)
    assert asked == ["train", "synchronize", "reset"]


INT32 = """
import json
import keras, tensorflow as tf
from levelfield.backends.keras_record import StepRecord
found = {}
for outputs, labels in ((1, (4,)), (3, (4, 1))):
    record = StepRecord()
    update = tf.function(lambda y, p: record.update_state(y, p))
    graph = update.get_concrete_function(tf.TensorSpec(labels), tf.TensorSpec((4, outputs))).graph
    found[outputs] = sorted({op.type for op in graph.get_operations() if any(out.dtype == tf.int32 for out in op.outputs)})
    found[f"variables {outputs}"] = sorted({str(variable.dtype) for variable in record.variables})
print(json.dumps(found))
"""


def test_on_tensorflow_nothing_of_a_step_is_int32_but_shapes():
    """TensorFlow keeps int32 in the host's memory (tensorflow#33835): a GPU would be waited for at every step."""
    pytest.importorskip("tensorflow")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", INT32], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for outputs in ("1", "3"):
        assert set(found[outputs]) <= {"Const"}, found
        assert found[f"variables {outputs}"] == ["float32", "int64"]
