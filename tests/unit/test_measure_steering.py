"""Variables that have another program run than the one that the study asks for are named."""

import pytest

from levelfield.measure.steering import RULES, contradictions
from levelfield.study.protocol import Protocol

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
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "platform", FLOAT32, True),
        ("XLA_PYTHON_CLIENT_ALLOCATOR", "default", FLOAT32, False),
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
