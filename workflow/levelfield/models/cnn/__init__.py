"""Two convolutions over time, their maximum, one hidden dense layer: the model of a text classifier on raw words.

Published as keras.io's `text_classification_from_scratch`: 2,806,273 parameters at its sizes.
"""

from dataclasses import dataclass
from typing import Literal

from levelfield.errors import UserError
from levelfield.models.base import MATCHED, Kernels, Model, Weight
from levelfield.study.departures import Departure
from levelfield.study.protocol import Protocol, Sizes, setting

EXAMPLE = "keras.io, Text classification from scratch"
CONVOLUTIONS = ("conv_1", "conv_2")
DROPOUT = 0.5
"""Of the departure `own-dropout`: the published rate, after the embedding and after the hidden layer."""


@dataclass(frozen=True)
class Cnn(Sizes):
    """An embedding, two convolutions, the maximum over time, two dense layers."""

    name: Literal["cnn"] = "cnn"
    embedding: int = setting(128, "Size of the embedding vectors.", ge=1)
    filters: int = setting(128, "Filters of each convolution.", ge=1)
    width: int = setting(7, "Positions that a filter of each convolution reads.", ge=1)
    stride: int = setting(3, "Positions from one window of each convolution to its next.", ge=1)
    dense: int = setting(128, "Units of the hidden dense layer.", ge=1)
    outputs: int = setting(
        1, "Logits: 1 for two classes (binary cross-entropy), else one a class (softmax cross-entropy).", ge=1
    )


def windows(length: int, width: int, stride: int) -> int:
    """Positions of a convolution without padding; 0 or fewer where its input is too short for one."""
    return (length - width) // stride + 1


def positions(protocol: Protocol) -> tuple[int, int]:
    """Positions of each convolution: 65 and 20 for 200 tokens, width 7 and stride 3.

    Raises UserError where the sequence is too short to give the second convolution one.
    """
    sizes = Cnn.of(protocol)
    width, stride = sizes.width, sizes.stride
    first = windows(protocol.length, width, stride)
    second = windows(first, width, stride)
    if second < 1:
        raise UserError(
            f"length {protocol.length} is too short for two convolutions of width {width} and stride {stride}: "
            f"set length to {width + stride * (width - 1)} or more, or a smaller width or stride"
        )
    return first, second


def weights(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, Weight]:
    """Keras's defaults: embedding U(±0.05), kernels Glorot uniform (a convolution's fans are width · channels), biases 0."""
    positions(protocol)
    sizes = Cnn.of(protocol)
    found = {"embedding": Weight((protocol.vocabulary, sizes.embedding), "uniform", 0.05, inputs=sizes.embedding)}
    for layer, inputs in zip(CONVOLUTIONS, (sizes.embedding, sizes.filters), strict=True):
        limit = (6 / (sizes.width * (inputs + sizes.filters))) ** 0.5
        fan_in = sizes.width * inputs
        found[f"{layer}/kernel"] = Weight((sizes.width, inputs, sizes.filters), "uniform", limit, inputs=fan_in)
        found[f"{layer}/bias"] = Weight((sizes.filters,), "zeros", inputs=fan_in)
    for layer, inputs, units in (("hidden", sizes.filters, sizes.dense), ("dense", sizes.dense, sizes.outputs)):
        found[f"{layer}/kernel"] = Weight((inputs, units), "glorot_uniform")
        found[f"{layer}/bias"] = Weight((units,), "zeros", inputs=inputs)
    return found


def operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Floating-point operations of the matrix products for one sequence, forward.

    A product of an (n, k) and a (k, m) matrix is n·m·k multiplications and as many additions; a convolution is one of its
    windows (positions, width · channels) and its kernel. The embedding's look-up, ReLU and the maximum are left out: less
    than 1 % of it.
    """
    sizes = Cnn.of(protocol)
    first, second = positions(protocol)
    convolved = first * sizes.embedding + second * sizes.filters
    return 2 * sizes.width * sizes.filters * convolved + 2 * sizes.dense * (sizes.filters + sizes.outputs)


def in_words(protocol: Protocol) -> str:
    sizes = Cnn.of(protocol)
    return (
        f"words as {sizes.embedding} numbers each, two convolutions of {sizes.filters} filters ({sizes.width} positions wide, "
        f"stride {sizes.stride}), their maximum over time, dense layers of {sizes.dense} and {sizes.outputs}"
    )


KERNELS = Kernels(
    what="convolution",
    of=r"conv(?!ert)|(?<![a-z])(fprop|dgrad|wgrad)",
    known={
        # operations of PyTorch (`aten::cudnn_convolution`) and JAX (`__cudnn$convForward`), and cuDNN's own kernels
        # (`cudnn::…`, `ampere_scudnn_…`, `implicit_convolve_sgemm`, `sm80_xmma_fprop_implicit_gemm_…`,
        # `cutlass_tensorop_…_wgrad_…`)
        "cuDNN": r"cudnn(::|\$conv|_(convolution|infer|generated))|scudnn|convolve_common_engine|implicit_(gemm|convolve)"
        r"|(xmma|cutlass).*(fprop|dgrad|wgrad)",
        # operations of PyTorch (`aten::mkldnn_convolution`) and TensorFlow (`_MklNativeFusedConv2D`)
        "oneDNN": r"(mkldnn|onednn).*conv|_mkl\w*conv",
        # operations of JAX (`conv_general_dilated`) and of its programs (`convolution-base-dilated`)
        "XLA": r"conv_general_dilated|^convolution-",
    },
    otherwise="not told",
)

DEPARTURES = {
    "own-dropout": Departure(
        "model",
        f"Dropout of {DROPOUT} after the embedding and after the hidden layer, each framework's own stream of masks.",
        EXAMPLE,
    ),
    "framework-init": Departure(
        "weights",
        "The framework's own distributions: PyTorch's N(0, 1) and U(±1/√fan), Flax's normal of variance 1/width for the embedding and LeCun normal.",
        "PyTorch and Flax documentation, default initialisers",
    ),
}

MODEL = Model(
    name="cnn",
    package=__name__,
    sizes=Cnn,
    small=Cnn(embedding=6, filters=5, width=3, stride=2, dense=4),
    weights=weights,
    operations=operations,
    in_words=in_words,
    kernels=KERNELS,
    departures=DEPARTURES,
)
