"""A bag of words: the mean of a review's word embeddings and one dense layer. An example of a model outside the package."""

from dataclasses import dataclass
from typing import Literal

from levelfield.models.base import MATCHED, Kernels, Model, Weight
from levelfield.study.departures import Departure
from levelfield.study.protocol import Protocol, Sizes, setting


@dataclass(frozen=True)
class BagOfWords(Sizes):
    """An embedding, its mean over time, a dense layer."""

    name: Literal["bag-of-words"] = "bag-of-words"
    embedding: int = setting(64, "Size of the embedding vectors.", ge=1)
    outputs: int = setting(1, "Logits: 1 for two classes, else one a class.", ge=1)


def weights(protocol: Protocol, departures: frozenset[str] = MATCHED) -> dict[str, Weight]:
    """Keras's defaults: embedding U(±0.05), kernel Glorot uniform, bias 0."""
    width, outputs = protocol.model.embedding, protocol.model.outputs
    return {
        "embedding": Weight((protocol.vocabulary, width), "uniform", 0.05, inputs=width),
        "dense/kernel": Weight((width, outputs), "glorot_uniform"),
        "dense/bias": Weight((outputs,), "zeros", inputs=width),
    }


def operations(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Of the one product, (1, embedding) by (embedding, outputs); the look-up and the mean are no products."""
    return 2 * protocol.model.embedding * protocol.model.outputs


def in_words(protocol: Protocol) -> str:
    return f"words as {protocol.model.embedding} numbers each, their mean, one dense layer"


MODEL = Model(
    name="bag-of-words",
    package=__name__,
    sizes=BagOfWords,
    small=BagOfWords(embedding=6),
    weights=weights,
    operations=operations,
    in_words=in_words,
    kernels=Kernels(what="look-up", of=r"embedding|gather", known={}, otherwise="not fused"),
    departures={"sum-of-words": Departure("model", "The words' embeddings are added up, not averaged.", "an example")},
)
