"""Lines of the backends that run only with a GPU, without one: too old a card, a profile without a kernel, JAX's CUDA, bfloat16."""

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
