"""Environment variables that would have another program run than the one that the study asks for; and what of a value is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from levelfield import registry
from levelfield.errors import UserError, without_secrets
from levelfield.measure.gpu import visible
from levelfield.study.protocol import Case, Protocol


@dataclass(frozen=True)
class Rule:
    """A variable, what of its value and of the protocol contradict each other, and why."""

    variable: str
    contradicts: Callable[[str, Protocol], bool]
    why: str
    on_gpu: bool = False
    """Whether it steers nothing but a GPU."""
    of: str | None = None
    """The one framework that reads it (the image of its backends); None where several do."""


def _on(value: str) -> bool:
    return value.strip().lower() in ("1", "true", "yes", "on", "y")


def _off(value: str) -> bool:
    return value.strip().lower() in ("0", "false", "no", "off", "n")


def _flag(name: str, wanted: Callable[[str], bool] = _on) -> Callable[[str], bool]:
    """Whether XLA_FLAGS and their kin hold `--name` with such a value; a flag without one is on, and the last one counts."""

    def holds(flags: str) -> bool:
        values = [value or "true" for flag, _, value in (word.partition("=") for word in flags.split()) if flag == f"--{name}"]
        return bool(values) and wanted(values[-1])

    return holds


def _always(test: Callable[[str], bool]) -> Callable[[str, Protocol], bool]:
    return lambda value, protocol: test(value)


RULES = (
    # cuBLAS and cuDNN documentation: 0 takes TF32 away whatever the program sets; any other value has been seen to force it.
    Rule("NVIDIA_TF32_OVERRIDE", lambda v, p: _off(v) and p.precision == "tf32", "takes TF32 away, which the study asks for"),
    Rule("NVIDIA_TF32_OVERRIDE", lambda v, p: not _off(v) and p.precision != "tf32", "forces TF32, which the study does not ask for"),
    # PyTorch, "CUDA semantics", TensorFloat-32
    Rule(
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", lambda v, p: _on(v) and p.precision != "tf32",
        "forces TF32, which the study does not ask for",
    ),
    Rule("TORCHDYNAMO_DISABLE", _always(_on), "leaves torch.compile out"),
    Rule("TORCH_COMPILE_DISABLE", _always(_on), "leaves torch.compile out"),
    Rule("PYTORCH_JIT", _always(_off), "leaves PyTorch's compiler out"),
    Rule("PYTORCH_NO_CUDA_MEMORY_CACHING", _always(_on), "has every tensor's memory taken from the driver anew"),
    # CUDA programming guide, "CUDA environment variables"
    Rule("CUDA_LAUNCH_BLOCKING", _always(_on), "has the program wait for every kernel"),
    # JAX documentation, "Configuration options"
    Rule("JAX_ENABLE_X64", _always(_on), "computes in 64 bits"),
    Rule("JAX_DISABLE_JIT", _always(_on), "leaves XLA out"),
    Rule("JAX_DEBUG_NANS", _always(_on), "has every step waited for and looked through"),
    Rule("JAX_NUMPY_DTYPE_PROMOTION", _always(lambda v: v == "strict"), "has JAX refuse mixed types"),
    *(
        Rule(name, _always(bool), "has the work done on the device that it names, and not on the study's", of=image)
        # Keras 3.15, keras/src/backend/torch/core.py
        for name, image in (("JAX_DEFAULT_DEVICE", "jax"), ("KERAS_TORCH_DEVICE", "torch"))
    ),
    # CUDA, "Multi-Process Service": a share of the GPU's multiprocessors
    Rule("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", _always(lambda v: v != "100"), "gives the program a part of the GPU alone", on_gpu=True),
    # JAX documentation, "GPU memory allocation"
    Rule("XLA_PYTHON_CLIENT_ALLOCATOR", _always(lambda v: v == "platform"), "has every array's memory taken from the driver anew", of="jax"),
    Rule(
        "XLA_PYTHON_CLIENT_ALLOCATOR", _always(lambda v: v not in ("default", "bfc", "platform")),
        "gives JAX another allocator than its own", on_gpu=True, of="jax",
    ),
    Rule("XLA_PYTHON_CLIENT_PREALLOCATE", _always(_off), "has JAX's memory taken from the driver while time is taken", on_gpu=True, of="jax"),
    *(
        Rule(name, _always(bool), "changes how much of the GPU's memory JAX takes at its start", on_gpu=True, of="jax")
        for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
    ),
    # TensorFlow, "Use a GPU", limiting GPU memory growth
    Rule(
        "TF_FORCE_GPU_ALLOW_GROWTH", _always(_on), "has TensorFlow's memory taken from the driver while time is taken", on_gpu=True, of="tensorflow",
    ),
    Rule("TF_GPU_ALLOCATOR", _always(bool), "gives TensorFlow another allocator than its own", on_gpu=True, of="tensorflow"),
    # PyTorch, "CUDA semantics", optimizing memory usage: the second name since 2.9
    *(
        Rule(name, _always(bool), "changes how PyTorch takes and keeps the GPU's memory", on_gpu=True, of="torch")
        for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
    ),
    # xla/xla.proto
    Rule(
        "XLA_FLAGS", _always(_flag("xla_gpu_autotune_level", lambda v: v == "0")), "has XLA try no kernels before it takes one",
        on_gpu=True,
    ),
    Rule("XLA_FLAGS", _always(_flag("xla_disable_hlo_passes", lambda v: v != "true")), "leaves passes of XLA's compiler out"),
    Rule(
        "XLA_FLAGS", lambda v, p: p.deterministic and _flag("xla_gpu_deterministic_ops", _off)(v),
        "takes deterministic kernels away, which the study asks for",
    ),
    Rule(
        "XLA_FLAGS", lambda v, p: not p.deterministic and _flag("xla_gpu_deterministic_ops")(v),
        "asks for deterministic kernels, which the study does not ask for",
    ),
    Rule("XLA_FLAGS", _always(_flag("xla_cpu_enable_fast_math")), "lets XLA reorder sums and ignore NaN"),
    Rule("XLA_FLAGS", _always(_flag("xla_backend_optimization_level", lambda v: v != "3")), "changes how much XLA optimises"),
    Rule(
        "XLA_FLAGS", _always(_flag("xla_force_host_platform_device_count", lambda v: v != "1")),
        "divides the processor into several devices",
    ),
    # TensorFlow: tensorflow/core/util/determinism.cc, XLA's documentation of auto-clustering, graph optimisation
    *(
        Rule(name, lambda v, p: not p.deterministic and _on(v), "asks for deterministic kernels, which the study does not ask for")
        for name in ("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC")
    ),
    Rule(
        "TF_XLA_FLAGS", _always(_flag("tf_xla_auto_jit", lambda v: v not in ("0", "-1"))),
        "has TensorFlow compile clusters by itself",
    ),
    Rule("TF_ENABLE_AUTO_MIXED_PRECISION", lambda v, p: _on(v) and p.precision != "bfloat16", "computes in 16 bits"),
    Rule("TF_USE_LEGACY_KERAS", _always(_on), "puts Keras 2 in the place of Keras 3"),
)  # fmt: skip


ENGINES = {rule.of for rule in RULES if rule.of}


def contradictions(
    environment: Mapping[str, str],
    protocol: Protocol,
    declared: Mapping[str, str] | None = None,
    on_gpu: bool = True,
    image: str | None = None,
) -> list[str]:
    """What of the environment contradicts the protocol, a sentence each; empty where nothing does.

    To be asked before the framework is imported: what it sets itself (CUBLAS_WORKSPACE_CONFIG) is none of it. declared: variables
    that the backend's row asks for, and that are set so before its framework is imported, whatever they were. on_gpu: whether it may
    compute on a GPU. image: the backend's, by which a framework reads its own variables; of another one than ours it may read any.
    """
    return [
        f"{rule.variable}={without_secrets(environment[rule.variable])} {rule.why}: `unset {rule.variable}`"
        for rule in RULES
        if environment.get(rule.variable)
        and (on_gpu or not rule.on_gpu)
        and rule.variable not in (declared or {})
        and (rule.of is None or image not in ENGINES or image == rule.of)
        and rule.contradicts(environment[rule.variable], protocol)
    ]


def refuse_contradictions(environment: Mapping[str, str], case: Case) -> None:
    """Raises UserError naming what of the environment would have another program run than the case's."""
    on_gpu = case.device == "cuda" or (case.device != "cpu" and bool(visible()))
    backend = registry.backend(case.backend)
    if found := contradictions(environment, case.protocol, backend.environment, on_gpu, backend.image):
        raise UserError("; ".join(found))
