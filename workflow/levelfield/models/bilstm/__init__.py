"""Two bidirectional LSTM layers and one dense layer on their final states: the reference experiment's model.

Published as keras.io's `bidirectional_lstm_imdb`: 2,757,761 parameters at its sizes.
"""

from dataclasses import dataclass
from typing import Literal

from levelfield.models.base import MATCHED, Kernels, Model, Weight
from levelfield.study.departures import ARTICLE, Departure
from levelfield.study.protocol import Protocol, Sizes, setting

DIRECTIONS = ("forward", "backward")
LAYERS = ("lstm_1", "lstm_2")
GATES = 4


@dataclass(frozen=True)
class BiLstm(Sizes):
    """An embedding, two bidirectional LSTM layers, a dense layer."""

    name: Literal["bilstm"] = "bilstm"
    embedding: int = setting(128, "Size of the embedding vectors.", ge=1)
    units: int = setting(64, "Hidden units of each direction of each LSTM layer.", ge=1)
    outputs: int = setting(
        1, "Logits: 1 for two classes (binary cross-entropy), else one a class (softmax cross-entropy).", ge=1
    )


def weights(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, Weight]:
    """Keras's defaults: embedding U(±0.05), kernels Glorot uniform, recurrent kernels orthogonal, forget biases 1, others 0.

    `naive-init`: PyTorch's, embedding N(0, 1), all else U(±1/√fan). `adapted-init`: embedding U(±0.5), biases 0.
    """
    sizes = BiLstm.of(protocol)
    units, narrow, naive = sizes.units, 1 / sizes.units**0.5, "naive-init" in departures
    bias = "zeros" if "adapted-init" in departures else "forget_one"

    def of(shape: tuple[int, ...], initial: str, own: str = "uniform", scale: float = narrow) -> Weight:
        return Weight(shape, own, scale) if naive else Weight(shape, initial)

    table = (protocol.vocabulary, sizes.embedding)
    limit = 0.5 if "adapted-init" in departures else 0.05
    found = {"embedding": Weight(table, "normal", 1.0) if naive else Weight(table, "uniform", limit)}
    for layer, inputs in zip(LAYERS, (sizes.embedding, 2 * units), strict=True):
        for direction in DIRECTIONS:
            found[f"{layer}/{direction}/kernel"] = of((inputs, GATES * units), "glorot_uniform")
            found[f"{layer}/{direction}/recurrent_kernel"] = of((units, GATES * units), "orthogonal")
            found[f"{layer}/{direction}/bias"] = of((GATES * units,), bias, "two_uniform")
    wide = 1 / (2 * units) ** 0.5
    found["dense/kernel"] = of((2 * units, sizes.outputs), "glorot_uniform", scale=wide)
    found["dense/bias"] = of((sizes.outputs,), "zeros", scale=wide)
    return found


def operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Floating-point operations of the matrix products for one sequence, forward.

    A product of an (n, k) and a (k, m) matrix is n·m·k multiplications and as many additions. For each token, direction
    and layer the LSTM multiplies its input (embedding, or 2·units in the second layer) and its state (units) with 4·units
    columns (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000). Both directions of the second layer run
    over the whole sequence: the last state of each depends on all tokens. Gates, activations and the embedding's look-up are
    left out: less than 1 % of it.
    """
    sizes = BiLstm.of(protocol)
    inputs = (sizes.embedding, 2 * sizes.units)
    tokens = sum(2 * len(DIRECTIONS) * GATES * sizes.units * (size + sizes.units) for size in inputs)
    return protocol.length * tokens + 2 * 2 * sizes.units * sizes.outputs


def extra(protocol: Protocol, departures: frozenset[str]) -> dict[str, int]:
    """PyTorch's second bias vector, where it is trained, too."""
    if "second-bias" not in departures:
        return {}
    units = BiLstm.of(protocol).units
    second = len(LAYERS) * len(DIRECTIONS) * GATES * units
    return {
        f"2 layers × 2 directions × 4 gates × {units} units = {second:,}: PyTorch's second bias vector, trained too": second
    }


def in_words(protocol: Protocol) -> str:
    sizes = BiLstm.of(protocol)
    return f"words as {sizes.embedding} numbers each, two bidirectional LSTM layers of {sizes.units} units, one dense layer"


KERNELS = Kernels(
    what="LSTM",
    # cuDNN's and oneDNN's LSTM, operations that call them, products of oneDNN (TensorFlow: `_Mkl…`), and the loop over time
    # steps that a framework without a fused LSTM compiles
    of=r"rnn|lstm|mkl|onednn|^while",
    known={
        # operations of PyTorch (`aten::_cudnn_rnn`), TensorFlow (`CudnnRNNV3`), JAX (`cudnn_rnn…`), and cuDNN's own kernels
        # (`RNN_blockPersist_fp_LSTM`, `LSTM_elementWise_fp`, `elemWiseRNNcell`)
        "cuDNN": r"cudnn_?rnn|cudnn.*lstm|rnn_block|lstm_elementwise|persist.*(rnn|lstm)|elemwisernn",
        "oneDNN": r"(mkldnn|onednn).*(rnn|lstm)",
    },
    otherwise="not fused",
)

DEPARTURES = {
    "last-step-output": Departure(
        "model",
        "The dense layer reads the last time step of both directions: there the backward LSTM has seen one token.",
        f"{ARTICLE}, PyTorch side",
    ),
    "extra-tanh": Departure("model", "A tanh before the dense layer.", f"{ARTICLE}, PyTorch side"),
    "second-bias": Departure(
        "model",
        "Each LSTM direction trains two bias vectors, as cuDNN's parametrisation has them: Adam moves their sum twice as far.",
        "PyTorch documentation, nn.LSTM (b_ih and b_hh)",
    ),
    "naive-init": Departure(
        "weights",
        "PyTorch's own distributions: embedding N(0, 1), LSTM and dense layer U(±1/√fan).",
        f"{ARTICLE}, PyTorch side, first attempt",
    ),
    "adapted-init": Departure(
        "weights",
        "Embedding U(−0.5, 0.5), input kernels Xavier uniform, recurrent kernels orthogonal, all biases 0.",
        f"{ARTICLE}, PyTorch side, after torchMoji",
    ),
}

MODEL = Model(
    name="bilstm",
    package=__name__,
    sizes=BiLstm,
    small=BiLstm(embedding=6, units=5),
    weights=weights,
    operations=operations,
    in_words=in_words,
    kernels=KERNELS,
    departures=DEPARTURES,
    extra=extra,
    bare=f"{__name__}.bare",
    excludes=(frozenset({"naive-init", "adapted-init"}),),
)
