"""The contract of a model: what its folder declares, without numpy or a framework, since a host that plans has neither.

A model's folder holds `__init__.py` (a `MODEL` of this kind), `reference.py` (the float64 logits in autograd's numpy, and a
gradient by hand where that is faster), `mistakes.py` (what a program computes that makes a common one), `onnx.py`, and a
builder for each framework that can train it: `keras.py`, `torch.py`, `jax.py`, `flax.py`. A builder declares at its top which
of the model's departures it makes: `DEPARTURES = ("…",)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from levelfield import registry
from levelfield.study.departures import Departure
from levelfield.study.protocol import Protocol, Sizes

TRAINING = 3
"""A product's backward pass is two products of the same size, one for each factor's gradient (Griewank and Walther,
Evaluating Derivatives, 2008, ch. 3; the usual "three times forward")."""

MATCHED: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Weight:
    """A weight in the canonical layout, which is Keras's: its shape, and the distribution that it is drawn from."""

    shape: tuple[int, ...]
    initial: str
    """A function of `models/initial.py`."""
    scale: float | None = None
    """What that function takes: a limit or a standard deviation."""
    inputs: int | None = None
    """Inputs of one output of a kernel, where they are not its first dimension: its fan-in."""

    @property
    def fan_in(self) -> int:
        """Inputs of a kernel; of an embedding, its width."""
        return self.inputs or self.shape[0]


@dataclass(frozen=True)
class Kernels:
    """How the kernel that matters most to a model is told from the names in a profile (regular expressions, case ignored)."""

    what: str
    """`LSTM`, `attention`, `convolution`: the heading of tables."""
    of: str
    """Names that tell how it was computed."""
    known: Mapping[str, str]
    """Verdict to the expression that shows it; the first that matches holds."""
    otherwise: str
    """The verdict where the profile names none of them."""


@dataclass(frozen=True)
class Model:
    """What is trained. The functions take a protocol, whose `model` has the sizes, and departures."""

    name: str
    package: str
    """Where its files are: `levelfield.models.bilstm`."""
    sizes: type[Sizes]
    """A frozen dataclass with the published sizes as defaults."""
    small: Sizes
    """Sizes for the contract's tests, on 12 tokens of 40 words, in seconds; all different where they can be."""
    weights: Callable[[Protocol, frozenset[str]], dict[str, Weight]]
    """Every weight in Keras's order of variables."""
    operations: Callable[[Protocol, frozenset[str]], int]
    """Floating-point operations of the matrix products for one sequence, forward; what is no product is left out (5 % at most)."""
    in_words: Callable[[Protocol], str]
    """The model in one sentence for the page, without a full stop."""
    kernels: Kernels
    departures: Mapping[str, Departure] = field(default_factory=dict)
    extra: Callable[[Protocol, frozenset[str]], dict[str, int]] = lambda protocol, departures: {}
    """Trainable parameters beyond the canonical weights that departures add, by the reason in words."""
    bare: str | None = None
    """Module whose `step_seconds(protocol)` times the model's bare fused kernel on a GPU; None where it has none."""
    excludes: tuple[frozenset[str], ...] = ()
    """Departures that exclude each other."""


def model_of(protocol: Protocol) -> Model:
    return registry.model(protocol.model.name)


def weights_of(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, Weight]:
    """Every weight of the protocol's model in the canonical layout."""
    return model_of(protocol).weights(protocol, departures)


def shapes(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight in the canonical layout, in Keras's order of variables."""
    return {name: weight.shape for name, weight in weights_of(protocol, departures).items()}


def parameters(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Trainable parameters of the protocol's model: 2,757,761 at the reference experiment's sizes."""
    canonical = sum(prod(shape) for shape in shapes(protocol, departures).values())
    return canonical + sum(model_of(protocol).extra(protocol, departures).values())


def forward_operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Floating-point operations of the model's matrix products for one sequence, forward."""
    return model_of(protocol).operations(protocol, departures)


def training_operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """The same for one sequence of a training step, forward and backward: 235,930,368 in the reference experiment."""
    return TRAINING * forward_operations(protocol, departures)
