"""Keras, on TensorFlow, JAX or PyTorch: `compile`, `fit`, `predict`.

Which of the three is chosen by `KERAS_BACKEND`, set before the import.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
from keras import ops

from levelfield import registry
from levelfield.backends.base import (
    Backend,
    DeviceError,
    Progress,
    Weights,
    cuda_versions,
    malloc_told,
    no_logits,
    no_steps,
    refuse_too_old,
    refuse_without_glibc,
    refuse_without_huge_pages,
    silent,
)
from levelfield.backends.departures import CLIP_NORM
from levelfield.backends.keras_adam import ExactAdam
from levelfield.backends.keras_record import CAPACITY, KeptLogits, ReportStep, StepRecord, means, steps_of
from levelfield.host import huge_pages, started_with
from levelfield.models.base import shapes
from levelfield.study.protocol import Protocol

BACKENDS = {
    "keras-tensorflow": {
        "class": "Keras",
        "image": "tensorflow",
        "environment": {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        "devices": "levelfield.backends.keras_devices:KerasDevices",
        "departures": ["clip-norm", "sparse-embedding-adam"],
    },
    "keras-tensorflow-jit": {"like": "keras-tensorflow", "options": {"jit_compile": True}},
    "keras-tensorflow-16-steps": {"like": "keras-tensorflow", "options": {"steps_a_call": 16}},
    "keras-tensorflow-huge-pages": {
        "like": "keras-tensorflow",
        "class": "KerasHugePages",
        "environment": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    },
    "keras-tensorflow-kept-memory": {
        "like": "keras-tensorflow",
        "class": "KerasKeptMemory",
        "environment": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1099511627776"},
    },
    "keras-jax": {
        "class": "Keras",
        "image": "jax",
        "environment": {"KERAS_BACKEND": "jax"},
        "devices": "levelfield.backends.keras_devices:KerasDevices",
        "departures": ["clip-norm"],
    },
    "keras-jax-16-steps": {"like": "keras-jax", "options": {"steps_a_call": 16}},
    "keras-torch": {
        "class": "Keras",
        "image": "torch",
        "environment": {"KERAS_BACKEND": "torch"},
        "departures": ["clip-norm"],
        "data_on": ["host", "device"],
    },
}

ON = keras.backend.backend()
if ON == "tensorflow":
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    def profiled(work: Callable[[], object], device: str) -> list[str]:
        """Names of the operations and GPU kernels that `work` ran; empty where it ran on a GPU and no kernel of it is named."""
        with TemporaryDirectory() as folder:
            with tf.profiler.experimental.Profile(folder):
                work()
            profiles = [xplane_pb2.XSpace.FromString(file.read_bytes()) for file in Path(folder).rglob("*.xplane.pb")]
        planes = [plane for profile in profiles for plane in profile.planes]
        told = device == "cpu" or any(plane.name.startswith("/device:GPU") and plane.event_metadata for plane in planes)
        return sorted({event.name for plane in planes for event in plane.event_metadata.values()}) if told else []

    def versions_of_cuda(device: str) -> dict[str, str]:
        """Versions of CUDA and cuDNN, of the installed packages: what TensorFlow itself tells is what it was built with."""
        built_for = str(tf.sysconfig.get_build_info().get("cuda_version", ""))
        return cuda_versions(built_for.partition(".")[0]) if device == "cuda" and built_for else {}

    def preallocates(device: str) -> bool:
        """Whether TensorFlow takes nearly all of the GPU's memory at its start (its guide "Use a GPU")."""
        return device == "cuda" and os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower() not in ("true", "1")

    def peak_of(numbers: range) -> int | None:
        """Most bytes that these GPUs' allocators gave out, added up; None where TensorFlow does not tell of one."""
        try:
            return sum(int(tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"]) for number in numbers)
        except (KeyError, ValueError, tf.errors.OpError):  # another allocator (cuda_malloc_async) may count none
            return None

    def reset_peaks(numbers: range) -> None:
        """Forgets these GPUs' peaks; nothing where TensorFlow cannot."""
        with suppress(ValueError, tf.errors.OpError):
            for number in numbers:
                tf.config.experimental.reset_memory_stats(f"GPU:{number}")

elif ON == "jax":
    import jax

    from levelfield.backends.jax import be_deterministic, known_faults, peak_memory, preallocates, profiled, versions_of_cuda
elif ON == "torch":
    import torch

    from levelfield.backends.torch import be_deterministic, find_device, profiled, versions_of_cuda


def device_in_use(device: str) -> str:
    """`cuda` or `cpu`. Raises DeviceError for `cuda` where the framework underneath finds no GPU, or one too old for its build."""
    if ON == "torch":
        return find_device(device, "Keras on torch")
    if ON == "tensorflow":
        found = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
        for gpu in found:
            if capability := tf.config.experimental.get_device_details(gpu).get("compute_capability"):
                refuse_too_old(capability, tf.sysconfig.get_build_info().get("cuda_compute_capabilities", []), "TensorFlow")
    else:
        found = [each for each in jax.devices() if each.platform == "gpu" and device != "cpu"]
    if device == "cuda" and not found:
        raise DeviceError(f"device is cuda, but Keras on {ON} finds no GPU: set `device: cpu` or `auto`")
    return "cuda" if found else "cpu"


def set_framework(protocol: Protocol, device: str, threads: int) -> str:
    """Device, threads, precision and determinism, in the words of each framework; returns the device in use."""
    if ON == "tensorflow":
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.experimental.enable_tensor_float_32_execution(protocol.precision == "tf32")
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        if protocol.deterministic:
            keras.utils.set_random_seed(0)  # TensorFlow's determinism asks for one; nothing here draws from it
            tf.config.experimental.enable_op_determinism()
    elif ON == "jax":
        be_deterministic(protocol.deterministic)
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if protocol.precision == "tf32" else "float32")
    else:
        torch.set_num_threads(threads)
        be_deterministic(protocol.deterministic)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = protocol.precision == "tf32"
    keras.config.set_dtype_policy("mixed_bfloat16" if protocol.precision == "bfloat16" else "float32")
    used = device_in_use(device)
    if ON != "tensorflow" and "tensorflow" in sys.modules:
        sys.modules["tensorflow"].config.set_visible_devices([], "GPU")  # Keras may load it beside; the GPU is not its
    return used


def feed(size: int, device: str | None, *arrays: np.ndarray) -> dict[str, Any]:
    """What `fit` and `predict` are given: the arrays, put on the device before if one is named (on PyTorch alone: on TensorFlow and JAX
    Keras takes what it is given back to the host); on TensorFlow a dataset of them, without autotuning.

    TensorFlow's thread that tunes a dataset can miss its own end: it is woken before the cancellation that it asks for is
    set (`CancellationManager::StartCancel`), and sleeps on to the end of its period, which doubles from 10 ms to a minute
    (`Model::OptimizeLoop`). Keras's own dataset, with it, then holds `fit` and `predict` until 2.55, 5.11, 10.2 … s.

    Where the batches leave no rest, the graph knows their size, which made a step of `fit` 8 % faster on a CPU; Keras's own
    dataset does the same.
    """
    if ON != "tensorflow":
        put = [torch.from_numpy(np.ascontiguousarray(whole)).to(device) for whole in arrays] if device else arrays
        return {**dict(zip("xy", put, strict=False)), "batch_size": size}
    options = tf.data.Options()
    options.autotune.enabled = False
    whole = len(arrays[0]) % size == 0
    return {"x": tf.data.Dataset.from_tensor_slices(arrays).batch(size, whole).prefetch(2).with_options(options)}


class Keras(Backend):
    """jit_compile: through XLA; None: as Keras chooses. steps_a_call: `steps_per_execution` of `compile`."""

    def __init__(
        self,
        protocol: Protocol,
        departures: frozenset[str],
        device: str,
        threads: int,
        jit_compile: bool | None = None,
        steps_a_call: int = 1,
    ):
        self.device = self._begin(protocol, device, threads)
        self.preallocates = ON != "torch" and preallocates(self.device)
        self.protocol = protocol
        self.departures = departures
        self.steps_a_call = steps_a_call
        self.model = registry.builder(protocol.model.name, "keras").build(protocol, departures)
        adam = keras.optimizers.Adam if "sparse-embedding-adam" in departures else ExactAdam
        self.optimizer = adam(
            learning_rate=protocol.learning_rate,
            beta_1=protocol.beta_1,
            beta_2=protocol.beta_2,
            epsilon=protocol.epsilon,
            global_clipnorm=CLIP_NORM if "clip-norm" in departures else None,
        )
        self.optimizer.build(self.model.trainable_variables)
        self.jit_compile: bool | str = "auto" if jit_compile is None else jit_compile
        self._compile(CAPACITY)
        if jit_compile and not self.model.jit_compile:
            raise DeviceError(
                f"Keras does not compile the model {protocol.model.name} with XLA here (a layer that XLA cannot compile, such as "
                "cuDNN's LSTM on a GPU; deterministic kernels): leave the case out"
            )
        self.names = list(shapes(protocol, departures))

    def _compile(self, capacity: int) -> None:
        """Anew, with room for the records of an epoch of so many steps; weights and optimiser stay as they are."""
        self.capacity = capacity
        binary = self.model.output_shape[-1] == 1
        loss = (keras.losses.BinaryCrossentropy if binary else keras.losses.SparseCategoricalCrossentropy)(from_logits=True)
        self.model.compile(
            optimizer=self.optimizer,
            loss=KeptLogits(loss) if ON == "torch" else loss,
            **self._recording(),
            jit_compile=self.jit_compile,
            steps_per_execution=self.steps_a_call,
        )
        if ON == "torch":  # else the first `fit` looks at a batch, whose loader draws from the same stream as Dropout
            one = np.zeros((1, self.protocol.length), np.int32), np.zeros((1, 1), np.float32)
            self.model._symbolic_build(data_batch=one)

    def _make_room(self, sequences: int) -> None:
        """For the records of an epoch of so many sequences: in the warm-up, since `fit` is then traced anew."""
        if (steps := steps_of(sequences, self.batch_size)) > self.capacity:
            self._compile(steps)

    def _begin(self, protocol: Protocol, device: str, threads: int) -> str:
        """What must be set before anything is made; returns the device in use."""
        return set_framework(protocol, device, threads)

    def _recording(self) -> dict[str, Any]:
        """What `compile` is told of how steps are recorded, but for a loss that keeps logits."""
        return {} if ON == "torch" else {"metrics": [StepRecord(self.capacity)]}

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    @property
    def lies_on(self) -> str:
        first = self.model.trainable_variables[0].value
        if ON == "torch":
            kind: str = first.device.type
            return kind
        on_gpu = "GPU" in first.device if ON == "tensorflow" else {each.platform for each in first.devices()} == {"gpu"}
        return "cuda" if on_gpu else "cpu"

    @property
    def _put_on(self) -> str | None:
        return self.device if self.protocol.data_on == "device" else None

    @property
    def record(self) -> StepRecord:
        """There from the first `fit` on; not on PyTorch, which has `kept`."""
        return next(metric for metric in self.model._compile_metrics.metrics if isinstance(metric, StepRecord))

    @property
    def kept(self) -> KeptLogits:
        found: KeptLogits = self.model.loss
        return found

    def load(self, weights: Weights) -> None:
        for name, variable in zip(self.names, self.model.trainable_variables, strict=True):
            variable.assign(weights[name])
        for variable in self.model.optimizer.variables:
            if variable is not self.model.optimizer._learning_rate:
                variable.assign(ops.zeros(variable.shape, variable.dtype))
        for place, layer in enumerate(self.model.layers):
            if isinstance(layer, keras.layers.Dropout):
                # Keras counts the draws in the second number: so far apart, no two layers ever have one key
                layer.seed_generator.state.assign([self.seed, place << 24])
        if ON == "torch":
            torch.manual_seed(self.seed)  # from which Dropout without a seed of its own draws there

    def weights(self) -> Weights:
        variables = self.model.trainable_variables
        return {n: ops.convert_to_numpy(v).copy() for n, v in zip(self.names, variables, strict=True)}

    def parameters(self) -> int:
        return sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.protocol.batch_size
        if not len(order):
            return no_steps()
        self._make_room(len(order))
        steps, labels, told = steps_of(len(order), size), y[order], means
        if ON == "torch":
            self.kept.begin(labels, size)
            told = self.kept.so_far
        self.model.fit(
            **feed(size, self._put_on, x[order], labels),
            epochs=1,
            shuffle=False,
            verbose=0,
            callbacks=[ReportStep(progress, wait, steps, told)],
        )
        return (self.kept if ON == "torch" else self.record).fetched(steps)

    def warm_up(self, x: np.ndarray, y: np.ndarray, weights: Weights, validated: int = 0) -> None:
        self._make_room(len(x))
        super().warm_up(x, y, weights, validated)

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        logits: np.ndarray = self.model.predict(**feed(self.protocol.batch_size, self._put_on, x), verbose=0).astype(np.float32)
        return logits

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        model, labels = self.model, y.reshape(-1, 1)
        if ON == "tensorflow":
            with tf.GradientTape() as tape:
                loss = model.loss(labels, model(x, training=True))
            found = [tf.convert_to_tensor(g) for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]
        elif ON == "jax":

            def loss_of(trainable: list[jax.Array], fixed: list[jax.Array]) -> jax.Array:
                logits, _ = model.stateless_call(trainable, fixed, x, training=True)
                loss: jax.Array = model.loss(labels, logits)
                return loss

            values = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
            loss, found = jax.value_and_grad(loss_of)(*values)
        else:
            model.zero_grad()
            loss = model.loss(labels, model(x, training=True))
            loss.backward()
            found = [v.value.grad for v in model.trainable_variables]
        gradients = {n: ops.convert_to_numpy(g).copy() for n, g in zip(self.names, found, strict=True)}
        if ON == "torch":
            model.zero_grad()
        return float(ops.convert_to_numpy(loss)), gradients

    def synchronize(self) -> None:
        if self.device == "cpu":
            return
        if ON == "tensorflow":
            tf.test.experimental.sync_devices()
        elif ON == "jax":
            jax.block_until_ready([v.value for v in self.model.trainable_variables])
        else:
            torch.cuda.synchronize()

    def versions(self) -> dict[str, str]:
        found = {"keras": keras.__version__}
        if ON == "tensorflow":
            found |= {"tensorflow": tf.__version__}
        elif ON == "jax":
            found |= {"jax": jax.__version__, "jaxlib": version("jaxlib")}
        else:
            found |= {"torch": torch.__version__}
        return found | versions_of_cuda(self.device)

    def flags(self) -> dict[str, str]:
        found = {
            "dtype_policy": keras.config.dtype_policy().name,
            "jit_compile": str(self.model.jit_compile),
            "steps_per_execution": str(self.steps_a_call),
        }
        if ON == "tensorflow":
            found["tf32"] = str(tf.config.experimental.tensor_float_32_execution_enabled())
            found["threads"] = str(tf.config.threading.get_intra_op_parallelism_threads())
        elif ON == "jax":
            found["matmul_precision"] = str(jax.config.values["jax_default_matmul_precision"])
            found |= known_faults(self.device)
        else:
            found["tf32_matmul"] = str(torch.backends.cuda.matmul.allow_tf32)
            found["tf32_cudnn"] = str(torch.backends.cudnn.allow_tf32)
            found["threads"] = str(torch.get_num_threads())
        return found

    def peak_memory(self) -> tuple[int | None, int | None]:
        if self.device == "cpu":
            return None, None
        if ON == "tensorflow":
            return peak_of(range(1)), None
        if ON == "jax":
            return peak_memory(self.device)
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()

    def reset_peak_memory(self) -> None:
        if self.device == "cuda" and ON == "tensorflow":
            reset_peaks(range(1))
        elif self.device == "cuda" and ON == "torch":
            torch.cuda.reset_peak_memory_stats()

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))), self.device)


class KerasHugePages(Keras):
    """The same program on a CPU, its memory in pages of 2 MiB: the C library's own switch (glibc 2.35), which it reads at its start."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        refuse_without_huge_pages(f"keras-{ON}-huge-pages", device)
        refuse_without_glibc(f"keras-{ON}-huge-pages", device, (2, 35))
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"huge_pages": str(huge_pages()), "malloc": started_with("GLIBC_TUNABLES") or "default"}


class KerasKeptMemory(Keras):
    """The same program on a CPU, its memory never handed back to the kernel: as `torch-kept-memory` has it."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        refuse_without_glibc(f"keras-{ON}-kept-memory", device)
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"malloc": malloc_told()}
