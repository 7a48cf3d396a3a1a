"""The contract of a backend: what a framework must do to be trained, timed and compared here.

The canonical layout of weights is Keras's (gate order i, f, c, o), float32, under the names and shapes of
`levelfield.models.base.shapes`. All arrays that cross this line are numpy's; what a backend holds inside is its own.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from platform import libc_ver

import numpy as np

from levelfield.host import huge_pages, started_with
from levelfield.study.protocol import Protocol

Weights = dict[str, np.ndarray]

Progress = Callable[[int, Callable[[], tuple[float, float]]], None]
"""Called after each step, or each call of the framework that makes several, with the number of steps done and a function that
fetches the epoch's mean loss and accuracy so far. It costs nothing unless it decides to show them: fetching waits for the device. A
framework may call it from threads of its own, and so out of order, except where each step is waited for."""


def silent(step: int, fetch: Callable[[], tuple[float, float]]) -> None:
    """A progress that shows nothing."""


def no_steps() -> tuple[np.ndarray, np.ndarray]:
    """What `train_epoch` returns where there is nothing to train on."""
    return np.zeros(0, np.float32), np.zeros(0, np.int32)


def no_logits(protocol: Protocol) -> np.ndarray:
    """What `predict` returns of no sequence."""
    return np.zeros((0, protocol.model.outputs), np.float32)


@dataclass
class Evaluation:
    """Validation of a model on a set of sequences."""

    loss: float
    """Mean cross-entropy, binary for one output."""
    accuracy: float
    """Share of sequences on the right side: of probability 0.5 for one output, else the largest logit's."""
    probabilities: np.ndarray
    """float32, shape (sequences, outputs): the logistic function of one output, the softmax of several."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there."""


CUDA_PACKAGES = {
    "cuda": ("nvidia-cuda-runtime-cu{major}", "nvidia-cuda-runtime"),
    "cudnn": ("nvidia-cudnn-cu{major}",),
}
"""What holds CUDA's runtime and cuDNN for each framework's wheels; CUDA's has no major number in its name from 13 on."""
CUDA_MAJORS = ("12", "13")
COMPILED_FOR = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<exact>[af]?)")


def cuda_versions(major: str | None = None) -> dict[str, str]:
    """Versions of the installed packages that hold CUDA and cuDNN, told alike for every framework; those that are there.

    major: the CUDA that the framework is built for, as `13`; where that is not known, what is installed for one alone.
    """
    found: dict[str, str] = {}
    for name, packages in CUDA_PACKAGES.items():
        there: dict[str, str] = {}
        for number in (major,) if major else CUDA_MAJORS:
            for package in packages:
                told = installed(package.format(major=number))
                if told and (name == "cudnn" or told.startswith(f"{number}.")):
                    there.setdefault(number, told)
        if len(there) == 1:
            found[name] = next(iter(there.values()))
    return found


def installed(package: str) -> str | None:
    """The version of an installed package; None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def refuse_too_old(capability: tuple[int, int], built_for: list[str], framework: str) -> None:
    """Raises DeviceError for a GPU whose code a framework's package does not hold, since every step would end in "no kernel image".

    capability: of the GPU. built_for: as frameworks tell it: `sm_80`, code for 8.0 and all 8.x above it, of which `sm_90a` and
    `sm_100f` are for that chip or family alone; `compute_90`, from which the driver makes code for every later GPU. (CUDA
    programming guide, "Binary compatibility" and "PTX compatibility"). Entries of another form (`gfx90a`, of ROCm) are passed over.
    A list that tells nothing refuses nothing.
    """
    known = [found for found in map(COMPILED_FOR.fullmatch, built_for) if found]
    for entry in known:
        built = int(entry["major"]), int(entry["minor"])
        newer = not entry["exact"] and built <= capability
        if built == capability or (newer and (entry["kind"] == "compute" or built[0] == capability[0])):
            return
    if known:
        raise DeviceError(
            f"this GPU's compute capability is {capability[0]}.{capability[1]}, and {framework} is built for "
            f"{', '.join(entry[0] for entry in known)}: set `device: cpu`, or install a build of {framework} for this GPU"
        )


def refuse_without_huge_pages(name: str, device: str) -> None:
    """Raises DeviceError where the row `name`, whose memory lies in pages of 2 MiB, is asked to run on a GPU or the kernel gives none."""
    if device == "cuda":
        raise DeviceError(f"{name} is about a CPU's memory: set `device: cpu` or `auto`")
    if huge_pages() not in ("always", "madvise"):
        raise DeviceError(
            f"{name}: this kernel gives no huge pages: leave the case out, or as root "
            "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`"
        )


def refuse_without_glibc(name: str, device: str, least: tuple[int, int] = (2, 0)) -> None:
    """Raises DeviceError where the row `name`, which sets the GNU C library's allocator, is asked to run on a GPU, without that library,
    or with one older than the switch."""
    if device == "cuda":
        raise DeviceError(f"{name} is about a CPU's memory: set `device: cpu` or `auto`")
    library, found = libc_ver()
    if library != "glibc" or tuple(map(int, found.split(".")[:2])) < least:
        told = f"is glibc {found}, older than {'.'.join(map(str, least))}" if library == "glibc" else "is not glibc"
        raise DeviceError(f"{name}: this system's C library {told}, and has no such switch: leave the case out")


def malloc_told() -> str:
    """What the C library's allocator was told at this process's start by its variables (mallopt(3), "Environment variables")."""
    return " ".join(f"{name}={started_with(name)}" for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"))


class Backend(ABC):
    """One framework's implementation of the protocol."""

    device: str
    """`cpu` or `cuda`: what is used."""
    seed: int = 0
    """Of what the framework draws by itself, which only the departure `own-dropout` asks for: `load` starts its stream anew."""
    preallocates: bool = False
    """Whether the framework takes a large part of the GPU's memory at its start, so that what the driver sees says nothing of the run."""
    steps_a_call: int | None = 1
    """Training steps that one call of the framework makes; None: all whole batches of an epoch. `progress` is told of calls, and where
    they make several steps there is no latency of a single one."""

    def draw_from(self, seed: int) -> None:
        """To be called before `load`."""
        self.seed = seed

    @abstractmethod
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        """Builds model and optimiser. `device` is `auto`, `cpu` or `cuda`; raises DeviceError for `cuda` without a GPU."""

    @abstractmethod
    def load(self, weights: Weights) -> None:
        """Sets the model's weights and puts the optimiser back to before its first step."""

    @abstractmethod
    def weights(self) -> Weights:
        """The model's weights in the canonical layout."""

    @abstractmethod
    def parameters(self) -> int:
        """Number of trainable parameters."""

    @abstractmethod
    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Trains one step per batch of `order`, in that order, the smaller last batch included.

        x: int32 (sequences, length); y: labels (sequences,), float32 for one output, int32 for several; order: rows of x,
        int64 (sequences trained,). Where the sequences lie meanwhile `protocol.data_on` says.
        wait: wait for the device after each call, before `progress` is called: for the probe of single steps, never else.
        Returns each step's mean loss (float32) and number of right answers (int32), both measured before the step's
        own update; of an empty order empty arrays. Nothing is fetched from the
        device before the end, and the device is idle on return.
        """

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Logits, float32 (sequences, outputs), of no sequence too, computed in batches of the protocol's size; the device is idle on
        return."""

    @abstractmethod
    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        """Loss and gradient of the mean loss over one batch, before any clipping, in the canonical layout."""

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until the device has done all that it was given."""

    def warm_up(self, x: np.ndarray, y: np.ndarray, weights: Weights, validated: int = 0) -> None:
        """Trains and predicts a few batches of each size that will come, so that all is compiled; then loads `weights`.

        x, y: the data to be trained on. validated: number of sequences that will be predicted, whose last batch may have a
        size of its own. Afterwards the state is exactly that after `load(weights)`.
        """
        size = self.batch_size
        rows = np.arange(min(len(x), 2 * size + len(x) % size))
        self.load(weights)
        self.train_epoch(x, y, rows)
        self.predict(x[rows])
        whole = size * (self.steps_a_call or 1)  # predicted in one call, which may be a program of its own
        for count in dict.fromkeys((validated % whole or whole, min(whole, validated) or size)):
            self.predict(x[np.arange(count) % len(x)])
        self.load(weights)
        self.synchronize()
        self.reset_peak_memory()

    @property
    @abstractmethod
    def batch_size(self) -> int: ...

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the framework and of what it runs on."""

    def flags(self) -> dict[str, str]:
        """Precision and allocator settings in force, as the framework reports them."""
        return {}

    def peak_memory(self) -> tuple[int | None, int | None]:
        """Peak bytes allocated and reserved on the GPU by the framework's allocator; None where there is no such count, or it is not told."""
        return None, None

    def reset_peak_memory(self) -> None:  # noqa: B027, most have nothing to do
        """Forgets peaks so far, so that those told are of what comes; nothing where the framework cannot (JAX)."""

    @property
    def lies_on(self) -> str:
        """`cpu` or `cuda`: where the weights that were loaded lie, as the framework tells it; `device` where it does not."""
        return self.device

    @property
    def process_ids(self) -> list[int]:
        """The other processes that train beside this one, where the framework has one for each device."""
        return []

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        """Names of the operations and kernels of one training step on (x, y), from a profile; empty where there is none, and
        on a GPU where it names no kernel of the device (a driver may keep its counters from users): it then tells nothing."""
        return []


def evaluate(backend: Backend, x: np.ndarray, y: np.ndarray) -> Evaluation:
    """Validates: the backend predicts, the figures are computed here, the same way for all."""
    logits = backend.predict(x).astype(np.float64)
    if logits.shape[1] == 1:
        z = logits[:, 0]
        loss, right, chances = np.logaddexp(0, z) - z * y, (z > 0) == (y > 0.5), 1 / (1 + np.exp(-logits))
    else:
        total = np.logaddexp.reduce(logits, axis=1)
        loss, right = total - logits[np.arange(len(y)), y.astype(int)], logits.argmax(axis=1) == y
        chances = np.exp(logits - total[:, None])
    return Evaluation(float(np.mean(loss)), float(np.mean(right)), chances.astype(np.float32))
