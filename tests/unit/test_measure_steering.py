"""Variables that have another program run than the one that the study asks for are named."""

from argparse import Namespace

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.commands.rules import exchange
from levelfield.errors import UserError
from levelfield.measure.steering import RULES, contradictions, refuse_contradictions
from levelfield.study.protocol import Case, Protocol

FLOAT32, TF32, BFLOAT16 = (Protocol(precision=precision) for precision in ("float32", "tf32", "bfloat16"))
DETERMINISTIC = Protocol(deterministic=True)


@pytest.mark.parametrize(
    ("variable", "value", "protocol", "contradicts"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0", TF32, True),
        ("NVIDIA_TF32_OVERRIDE", "0", FLOAT32, False),
        ("NVIDIA_TF32_OVERRIDE", "1", FLOAT32, True),
        ("NVIDIA_TF32_OVERRIDE", "1", TF32, False),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1", FLOAT32, True),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0", FLOAT32, False),
        ("TORCHDYNAMO_DISABLE", "1", FLOAT32, True),
        ("TORCH_COMPILE_DISABLE", "1", FLOAT32, True),
        ("PYTORCH_JIT", "0", FLOAT32, True),
        ("PYTORCH_JIT", "1", FLOAT32, False),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1", FLOAT32, True),
        ("CUDA_LAUNCH_BLOCKING", "1", FLOAT32, True),
        ("CUDA_LAUNCH_BLOCKING", "0", FLOAT32, False),
        ("JAX_ENABLE_X64", "True", FLOAT32, True),
        ("JAX_DISABLE_JIT", "1", FLOAT32, True),
        ("JAX_DEBUG_NANS", "true", FLOAT32, True),
        ("JAX_NUMPY_DTYPE_PROMOTION", "strict", FLOAT32, True),
        ("JAX_DEFAULT_DEVICE", "cpu", FLOAT32, True),
        ("KERAS_TORCH_DEVICE", "cpu", FLOAT32, True),
        ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "50", FLOAT32, True),
        ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "100", FLOAT32, False),
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "platform", FLOAT32, True),
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "default", FLOAT32, False),
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "bfc", FLOAT32, False),
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "cuda_async", FLOAT32, True),
        ("XLA_PYTHON_CLIENT_PREALLOCATE", "false", FLOAT32, True),
        ("XLA_PYTHON_CLIENT_PREALLOCATE", "true", FLOAT32, False),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", ".90", FLOAT32, True),
        ("XLA_CLIENT_MEM_FRACTION", ".90", FLOAT32, True),
        ("TF_FORCE_GPU_ALLOW_GROWTH", "true", FLOAT32, True),
        ("TF_FORCE_GPU_ALLOW_GROWTH", "false", FLOAT32, False),
        ("TF_GPU_ALLOCATOR", "cuda_malloc_async", FLOAT32, True),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", FLOAT32, True),
        ("PYTORCH_ALLOC_CONF", "backend:cudaMallocAsync", FLOAT32, True),
        ("XLA_FLAGS", "--xla_gpu_autotune_level=0", FLOAT32, True),
        ("XLA_FLAGS", "--xla_gpu_autotune_level=4", FLOAT32, False),
        ("XLA_FLAGS", "--xla_disable_hlo_passes=fusion,gpu-autotuner", FLOAT32, True),
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops=false", DETERMINISTIC, True),
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops=false", FLOAT32, False),
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops", FLOAT32, True),
        ("XLA_FLAGS", "--xla_gpu_deterministic_ops=true", DETERMINISTIC, False),
        ("XLA_FLAGS", "--xla_dump_to=/d --xla_cpu_enable_fast_math=true", FLOAT32, True),
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_cpu_enable_fast_math=false", FLOAT32, False),
        ("XLA_FLAGS", "--xla_backend_optimization_level=0", FLOAT32, True),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=8", FLOAT32, True),
        ("XLA_FLAGS", "", FLOAT32, False),
        ("TF_DETERMINISTIC_OPS", "1", FLOAT32, True),
        ("TF_DETERMINISTIC_OPS", "1", DETERMINISTIC, False),
        ("TF_CUDNN_DETERMINISTIC", "1", FLOAT32, True),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", FLOAT32, True),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=0", FLOAT32, False),
        ("TF_ENABLE_AUTO_MIXED_PRECISION", "1", FLOAT32, True),
        ("TF_ENABLE_AUTO_MIXED_PRECISION", "1", BFLOAT16, False),
        ("TF_USE_LEGACY_KERAS", "1", FLOAT32, True),
        ("TF_CPP_MIN_LOG_LEVEL", "2", FLOAT32, False),
    ],
)
def test_what_contradicts_the_study_is_named_with_the_way_out(variable, value, protocol, contradicts):
    found = contradictions({variable: value, "PATH": "/bin"}, protocol)
    assert len(found) == int(contradicts)
    assert all(sentence.startswith(f"{variable}={value} ") and f"`unset {variable}`" in sentence for sentence in found)


ALLOCATORS = {
    "XLA_PYTHON_CLIENT_ALLOCATOR": "cuda_async", "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".9",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_GPU_ALLOCATOR": "cuda_malloc_async", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
}  # fmt: skip


def test_what_steers_a_gpu_alone_contradicts_nothing_on_a_cpu():
    assert contradictions(ALLOCATORS, FLOAT32, on_gpu=False) == []
    assert len(contradictions(ALLOCATORS, FLOAT32)) == len(ALLOCATORS)


def test_what_a_backends_row_declares_contradicts_nothing():
    for name, value in ALLOCATORS.items():
        assert contradictions({name: value}, FLOAT32, {name: value}) == []
        assert contradictions({name: value}, FLOAT32, {name: "another"}) == [], "that one is set before the import"
        assert len(contradictions({name: value}, FLOAT32)) == 1


def test_a_framework_is_held_to_the_variables_that_it_reads():
    """A site's modules often set TensorFlow's growth, and Keras does so itself on JAX and PyTorch."""
    growth = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    assert [bool(contradictions(growth, FLOAT32, image=image)) for image in ("tensorflow", "torch", "jax", "another")] == [
        True, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "cards", "refused"),
    [("cuda", 0, True), ("cuda", 1, True), ("auto", 0, False), ("auto", 1, True), ("cpu", 1, False)],
)
def test_a_case_is_refused_where_it_may_compute_on_a_gpu(machine, device, cards, refused):
    machine(*(a_gpu(number) for number in range(cards)))
    case = Case("jax", "jax", (), FLOAT32, device)
    if not refused:
        refuse_contradictions(ALLOCATORS, case)
        return
    with pytest.raises(UserError, match="`unset XLA_PYTHON_CLIENT_PREALLOCATE`"):
        refuse_contradictions(ALLOCATORS, case)


def test_who_evaluates_others_weights_is_refused_as_who_trains(tmp_path, monkeypatch):
    Case("jax", "jax", (), FLOAT32, "cpu").write(tmp_path / "case.json")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    with pytest.raises(UserError, match="JAX_ENABLE_X64=1 computes in 64 bits"):
        exchange.run(Namespace(image=None, case=tmp_path / "case.json"))


def test_every_rule_is_tried_above():
    cases = next(mark.args[1] for mark in test_what_contradicts_the_study_is_named_with_the_way_out.pytestmark)
    met = {
        rule
        for rule in RULES
        for variable, value, protocol, yes in cases
        if yes and variable == rule.variable and rule.contradicts(value, protocol)
    }
    assert met == set(RULES)


def test_what_backends_set_themselves_contradicts_nothing():
    from levelfield import registry

    for name in registry.backends():
        assert contradictions(registry.backend(name).environment, FLOAT32) == []
