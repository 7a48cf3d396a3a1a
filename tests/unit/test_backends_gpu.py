"""Lines of the backends that run only with a GPU, without one: too old a card, a profile without a kernel, JAX's CUDA, bfloat16."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

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


def test_jax_tells_the_versions_of_its_cuda_packages(monkeypatch):
    pytest.importorskip("jax")
    from importlib.metadata import PackageNotFoundError

    from levelfield.backends import jax as backend

    there = {"nvidia-cuda-runtime": "13.0.96", "nvidia-cudnn-cu13": "9.20.0.48"}

    def version(package):
        if package not in there:
            raise PackageNotFoundError(package)
        return there[package]

    monkeypatch.setattr(backend, "version", version)
    assert backend.cuda_versions() == {"cuda": "13.0.96", "cudnn": "9.20.0.48"}
    there.clear()
    assert backend.cuda_versions() == {}


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
