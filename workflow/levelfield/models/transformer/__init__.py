"""One block of self-attention and a feed-forward layer, the mean over time, two dense layers.

Published as keras.io's `text_classification_with_transformer`: 657,758 parameters at its sizes, 640,000 of them the words'.
"""

from dataclasses import dataclass
from typing import Literal

from levelfield.errors import UserError
from levelfield.models.base import MATCHED, Kernels, Model, Weight
from levelfield.study.departures import TUTORIAL, Departure
from levelfield.study.protocol import Protocol, Sizes, setting

PROJECTIONS = ("query", "key", "value")
EPSILON = 1e-6
"""Of LayerNorm."""
DROPOUT = 0.1
"""Of the departure `own-dropout`: the published rate."""


@dataclass(frozen=True)
class Transformer(Sizes):
    """Embeddings of tokens and positions, one block of attention and feed-forward, a dense layer, one logit a class."""

    name: Literal["transformer"] = "transformer"
    embedding: int = setting(32, "Size of the embedding vectors, of tokens and of positions.", ge=1)
    heads: int = setting(2, "Heads of the self-attention.", ge=1)
    head_width: int = setting(32, "Size of each head's queries, keys and values.", ge=1)
    feed_forward: int = setting(32, "Units of the block's inner layer, with ReLU.", ge=1)
    dense: int = setting(20, "Units of the dense layer after the mean over time, with ReLU.", ge=1)
    outputs: int = setting(
        2, "Logits: 1 for two classes (binary cross-entropy), else one a class (softmax cross-entropy).", ge=1
    )


def width_of_heads(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Size of each head; with `heads-share-width` all heads together are as wide as the embedding.

    Raises UserError where they cannot be.
    """
    sizes = Transformer.of(protocol)
    if "heads-share-width" not in departures:
        return sizes.head_width
    if sizes.embedding % sizes.heads:
        raise UserError(
            f"heads-share-width: {sizes.heads} heads cannot share an embedding of {sizes.embedding} evenly: "
            "embedding must be a multiple of heads"
        )
    return sizes.embedding // sizes.heads


def weights(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, Weight]:
    """Keras's defaults: embeddings U(±0.05), kernels Glorot uniform, LayerNorm 1 and 0, biases 0.

    Keras draws attention's kernels with the fans of the flat matrix (embedding, heads · width), or its transpose.
    Raises UserError where the sizes leave a departure nothing to do.
    """
    sizes = Transformer.of(protocol)
    if "double-softmax" in departures and sizes.outputs == 1:
        raise UserError("double-softmax: the softmax of one output is always 1: set outputs to 2 or more")
    width, heads, each = sizes.embedding, sizes.heads, width_of_heads(protocol, departures)
    limit = (6 / (width + heads * each)) ** 0.5

    def norm(name: str) -> dict[str, Weight]:
        return {f"{name}/gamma": Weight((width,), "ones"), f"{name}/beta": Weight((width,), "zeros")}

    def dense(name: str, inputs: int, outputs: int) -> dict[str, Weight]:
        return {
            f"{name}/kernel": Weight((inputs, outputs), "glorot_uniform"),
            f"{name}/bias": Weight((outputs,), "zeros", inputs=inputs),
        }

    found = {
        "tokens/embedding": Weight((protocol.vocabulary, width), "uniform", 0.05, inputs=width),
        "positions/embedding": Weight((protocol.length, width), "uniform", 0.05, inputs=width),
    }
    for name in PROJECTIONS:
        found[f"attention/{name}/kernel"] = Weight((width, heads, each), "uniform", limit)
        found[f"attention/{name}/bias"] = Weight((heads, each), "zeros", inputs=width)
    found["attention/output/kernel"] = Weight((heads, each, width), "uniform", limit, inputs=heads * each)
    found["attention/output/bias"] = Weight((width,), "zeros", inputs=heads * each)
    found |= norm("norm_1")
    found |= dense("feed_forward_1", width, sizes.feed_forward)
    found |= dense("feed_forward_2", sizes.feed_forward, width)
    found |= norm("norm_2")
    return found | dense("dense", width, sizes.dense) | dense("logits", sizes.dense, sizes.outputs)


def operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Floating-point operations of the matrix products for one sequence, forward: 14,337,360 at the published sizes.

    A product of an (n, k) and a (k, m) matrix is n·m·k multiplications and as many additions. For each token: queries, keys,
    values and the output (embedding by heads · width, four times), its query with all keys and its shares of all values
    (length by heads · width, twice; Vaswani et al. 2017), and the feed-forward layer's two products. The look-ups, LayerNorm
    and softmax are no products: softmax takes length² exponentials a head and is about 3 % of it at 5 operations each, all of
    them together 4 to 5 %.
    """
    sizes = Transformer.of(protocol)
    heads = sizes.heads * width_of_heads(protocol, departures)
    token = 4 * sizes.embedding * heads + 2 * protocol.length * heads + 2 * sizes.embedding * sizes.feed_forward
    return 2 * (protocol.length * token + sizes.embedding * sizes.dense + sizes.dense * sizes.outputs)


def in_words(protocol: Protocol) -> str:
    sizes = Transformer.of(protocol)
    return (
        f"words and positions as {sizes.embedding} numbers each, self-attention with {sizes.heads} heads of {sizes.head_width}, "
        f"a feed-forward layer of {sizes.feed_forward}, the mean over time, a dense layer of {sizes.dense} and one of {sizes.outputs}"
    )


KERNELS = Kernels(
    what="attention",
    # fused attention; where there is none its softmax and products, not the loss's softmax; of JAX's products (`dot`) the dense layers' have no other name
    of=r"attention|(?<!log_)(?<!sparse)softmax|sdpa|fmha|flash|bmm|batch_?matmul|einsum|dot",
    known={
        # operations of PyTorch (`aten::_scaled_dot_product_cudnn_attention`), JAX (`__cudnn$fmhaSoftmax`), and cuDNN's own
        # kernels (`cudnn_generated_fort_native_sdpa_sm90_flash_fprop_…`)
        "cuDNN": r"cudnn_attention|cudnn.*(fmha|sdpa|flash)",
        # PyTorch's (`aten::_scaled_dot_product_efficient_attention`, `fmha_cutlassF_f32_aligned_…`)
        "memory-efficient": r"efficient_attention|fmha_cutlass",
        # PyTorch's on a GPU and on a CPU (`aten::_scaled_dot_product_flash_attention_for_cpu`, `pytorch_flash::flash_fwd_kernel`)
        "flash": r"flash_attention|flash_(fwd|bwd)",
    },
    otherwise="not fused",
)

DEPARTURES = {
    "double-softmax": Departure(
        "model",
        "The model ends in a softmax, and softmax cross-entropy takes its probabilities for logits: with two classes the loss "
        "cannot fall below ln(1 + e⁻¹) = 0.3133.",
        TUTORIAL,
        other_loss=True,
    ),
    "heads-share-width": Departure(
        "model", "The heads share the embedding's width: each is embedding / heads wide, 16 instead of 32.", TUTORIAL
    ),
    "own-dropout": Departure(
        "model",
        f"Dropout of {DROPOUT} after attention, after the feed-forward layer, after the mean and after the dense layer; each framework "
        "draws its own masks.",
        "keras.io, Text classification with Transformer",
    ),
    "framework-init": Departure(
        "weights",
        "The framework's own distributions. Flax: embeddings normal with variance 1/width, kernels LeCun normal, biases 0. "
        "PyTorch: embeddings N(0, 1), all else U(±1/√inputs); LayerNorm 1 and 0.",
        TUTORIAL,
    ),
}

MODEL = Model(
    name="transformer",
    package=__name__,
    sizes=Transformer,
    small=Transformer(embedding=6, heads=3, head_width=5, feed_forward=9, dense=8, outputs=2),
    weights=weights,
    operations=operations,
    in_words=in_words,
    kernels=KERNELS,
    departures=DEPARTURES,
)
