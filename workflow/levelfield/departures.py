"""Departures: each named difference from the protocol, what it means and where it comes from.

A case lists the departures that its program makes. Those of kind `weights` are applied to the start by `start.py`,
those of kind `reporting` to the finished records by `collect.py`; the others are read by the backend itself.
"""

from dataclasses import dataclass
from typing import Literal

ARTICLE = "A. Oudad, Comparing Keras and PyTorch on sentiment classification (2021)"
TORCH_FAMILY = ("torch", "torch-compile", "torch-huge-pages")


@dataclass(frozen=True)
class Departure:
    kind: Literal["model", "weights", "optimiser", "data", "reporting"]
    meaning: str
    reference: str
    backends: tuple[str, ...] = ()
    """The backends that can make it; empty: all."""


DEPARTURES = {
    "last-step-output": Departure(
        "model", "The dense layer reads the last time step of both directions: there the backward LSTM has seen one token.",
        f"{ARTICLE}, PyTorch side",
    ),
    "extra-tanh": Departure("model", "A tanh before the dense layer.", f"{ARTICLE}, PyTorch side"),
    "second-bias": Departure(
        "model", "Each LSTM direction trains two bias vectors, as cuDNN's parametrisation has them: Adam moves their sum twice as far.",
        "PyTorch documentation, nn.LSTM (b_ih and b_hh)", TORCH_FAMILY,
    ),
    "naive-init": Departure(
        "weights", "PyTorch's own distributions: embedding N(0, 1), LSTM and dense layer U(±1/√fan).",
        f"{ARTICLE}, PyTorch side, first attempt",
    ),
    "adapted-init": Departure(
        "weights", "Embedding U(−0.5, 0.5), input kernels Xavier uniform, recurrent kernels orthogonal, all biases 0.",
        f"{ARTICLE}, PyTorch side, after torchMoji",
    ),
    "clip-norm": Departure("optimiser", "The gradient's global norm is clipped at 5.", f"{ARTICLE}, PyTorch side"),
    "framework-epsilon": Departure(
        "optimiser", "Adam's ε as the framework has it by default: m̂ / (√v̂ + 1e-8).",
        "PyTorch and Optax documentation, Adam", (*TORCH_FAMILY, "jax"),
    ),
    "sparse-embedding-adam": Departure(
        "optimiser", "Duplicate slices of the embedding's gradient are squared one by one in Adam's second moment.",
        "Keras on TensorFlow, Adam with IndexedSlices", ("keras-tensorflow",),
    ),
    "drop-last-batch": Departure(
        "data", "The last, smaller batch is left out, in training and in validation.", f"{ARTICLE}, PyTorch side",
    ),
    "history-not-cleared": Departure(
        "reporting", "An epoch's training figures are means over all epochs so far.", f"{ARTICLE}, PyTorch side",
    ),
    "running-mean-curve": Departure(
        "reporting", "A step's figures are means over the epoch so far, not the batch's own.", f"{ARTICLE}, Keras side",
    ),
}
