"""Common mistakes of a transformer, computed with the reference: what a program that makes one would give."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from levelfield.models.transformer import EPSILON, PROJECTIONS
from levelfield.models.transformer.reference import (
    Weights,
    classified,
    embedded,
    feed_forward,
    joined,
    logits,
    normalised,
    relu,
    scaled,
    softmax,
    split,
)
from levelfield.study.protocol import Protocol

Part = Callable[..., np.ndarray]
PAD = 0


def of_outputs(weights: Weights, x: np.ndarray, protocol: Protocol) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Mistakes of the forward pass: name, and the logits that it gives for sequences x.

    A bias of the keys that is left out is not among them: softmax takes out what all keys of a query have in common, so that
    no output shows it.
    """
    width, heads, each = weights["attention/query/kernel"].shape
    for name, factor in (
        ("attention's scores are not divided by √(width of a head)", each**0.5),
        ("attention's scores are divided by √(width of all heads)", heads**-0.5),
        ("attention's scores are divided by √(size of the embedding)", (each / width) ** 0.5),
        ("attention's scores are divided by the width of a head, not by its root", each**-0.5),
    ):
        yield name, partial(logits, query_times(weights, factor), x, protocol)
    for name, split_so, joined_so in (
        ("heads and their width are mixed up where queries, keys and values are split", mixed_split, joined),
        ("heads and their width are mixed up where heads are joined", split, mixed_joined),
        ("heads and their width are mixed up where they are split and where they are joined", mixed_split, mixed_joined),
        ("queries, keys and values are reshaped to (batch, heads, time, width) without transposing", unswapped_split, joined),
        ("the heads' results are reshaped without transposing back", split, unswapped_joined),
    ):
        yield name, partial(variant, weights, x, split=split_so, joined=joined_so)
    yield "attention's softmax runs over the queries, not over the keys", lambda: variant(weights, x, softmax=over_queries)
    time = x.shape[1]
    for name, seen in (
        ("padding is masked in attention", real(x)[:, None, None]),
        ("attention is causal: no token sees those after it", np.tril(np.ones((time, time), bool))),
    ):
        yield name, partial(variant, weights, x, softmax=partial(masked, seen=seen))
    yield "attention's biases are left out", lambda: logits(without_attention_biases(weights), x, protocol)

    for epsilon in (1e-3, 1e-5, 1e-12):
        name = f"LayerNorm's ε is {epsilon:.0e} instead of {EPSILON:.0e}"
        yield name, partial(variant, weights, x, norm=partial(normalised, epsilon=epsilon))
    yield "LayerNorm divides by the standard deviation + ε", lambda: variant(weights, x, norm=epsilon_outside)
    yield "LayerNorm's variance is divided by width - 1", lambda: variant(weights, x, norm=unbiased)
    yield "LayerNorm runs over time, too", lambda: variant(weights, x, norm=over_time)
    yield "LayerNorm comes before attention and feed-forward, not after the sums", lambda: variant(weights, x, pre_norm=True)
    yield "the sums around attention and feed-forward are left out", lambda: variant(weights, x, residual=False)

    for name, other in (("left out", unchanged), ("GELU", gelu), ("GELU by tanh", gelu_by_tanh)):
        instead = name if name == "left out" else f"replaced by {name}"
        yield f"the feed-forward layer's ReLU is {instead}", partial(variant, weights, x, inner=other)
        yield f"the dense layer's ReLU is {instead}", partial(variant, weights, x, last=other)
    yield "there is a ReLU after the feed-forward layer's second product", lambda: variant(weights, x, outer=relu)

    places = np.arange(len(weights["positions/embedding"]))
    for name, rows in (
        ("positions are counted from 1", np.append(places[1:], -1)),
        ("positions are counted from the end", places[::-1]),
    ):
        yield name, partial(logits, positions(weights, rows), x, protocol)
    yield "the position's embedding is left out", lambda: logits(positions(weights, places, 0), x, protocol)
    yield "the token's embedding is multiplied by √width", lambda: logits(tokens_times(weights, width**0.5), x, protocol)
    yield "padding's embedding is 0", lambda: logits(without_padding(weights), x, protocol)

    for name, pooled in (
        ("the dense layer reads the last token, not the mean", lambda features: features[:, -1]),
        ("the dense layer reads the first token, not the mean", lambda features: features[:, 0]),
        ("the dense layer reads the maximum over time, not the mean", lambda features: features.max(axis=1)),
        ("the dense layer reads the sum over time, not the mean", lambda features: features.sum(axis=1)),
        ("the mean leaves out padding", lambda features: mean_of(features, real(x))),
    ):
        yield name, partial(variant, weights, x, pooled=pooled)


def unchanged(values: np.ndarray) -> np.ndarray:
    return values


def masked(scores: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Softmax over the keys that are seen."""
    return softmax(np.where(seen, scores, -np.inf))


def variant(
    weights: Weights,
    x: np.ndarray,
    split: Part = split,
    softmax: Part = softmax,
    joined: Part = joined,
    norm: Part = normalised,
    pre_norm: bool = False,
    residual: bool = True,
    inner: Part = relu,
    outer: Part = unchanged,
    last: Part = relu,
    pooled: Part = lambda features: features.mean(axis=1),
) -> np.ndarray:
    """The reference's logits, put together from its parts or from others in their place."""

    def attention(features: np.ndarray) -> np.ndarray:
        query, key, value = (split(weights, name, features) for name in PROJECTIONS)
        return joined(weights, softmax(query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5) @ value)

    def fed(features: np.ndarray) -> np.ndarray:
        return outer(feed_forward(weights, features, inner))

    features = embedded(weights, x)
    for name, part in (("norm_1", attention), ("norm_2", fed)):
        if pre_norm:
            features = features + part(norm(weights, name, features))
        else:
            features = norm(weights, name, features * residual + part(features))
    return classified(weights, pooled(features), last)


def real(x: np.ndarray) -> np.ndarray:
    """Which tokens are no padding, boolean (batch, time); all of a sequence that is nothing else."""
    kept: np.ndarray = (x != PAD) | (x == PAD).all(axis=1, keepdims=True)
    return kept


def mean_of(features: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of the tokens that are kept, boolean (batch, time)."""
    mean: np.ndarray = (features * kept[..., None]).sum(axis=1) / kept.sum(axis=1, keepdims=True)
    return mean


def query_times(weights: Weights, factor: float) -> Weights:
    """Weights that give scores larger by a factor."""
    return weights | {name: weights[name] * factor for name in ("attention/query/kernel", "attention/query/bias")}


def mixed_split(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    """As a program splits that takes the flat columns for (width, heads) instead of (heads, width)."""
    heads, each = weights[f"attention/{name}/bias"].shape
    flat = split(weights, name, features).swapaxes(1, 2)
    return flat.reshape(*flat.shape[:2], each, heads).transpose(0, 3, 1, 2)


def mixed_joined(weights: Weights, heads: np.ndarray) -> np.ndarray:
    flat = heads.transpose(0, 2, 3, 1)
    return joined(weights, flat.reshape(*flat.shape[:2], heads.shape[1], heads.shape[3]).swapaxes(1, 2))


def unswapped_split(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    found = split(weights, name, features)
    return found.swapaxes(1, 2).reshape(found.shape)


def unswapped_joined(weights: Weights, heads: np.ndarray) -> np.ndarray:
    batch, count, time, each = heads.shape
    return joined(weights, heads.reshape(batch, time, count, each).swapaxes(1, 2))


def over_queries(scores: np.ndarray) -> np.ndarray:
    return softmax(scores.swapaxes(-1, -2)).swapaxes(-1, -2)


def without_attention_biases(weights: Weights) -> Weights:
    names = (f"attention/{name}/bias" for name in (*PROJECTIONS, "output"))
    return weights | {name: np.zeros_like(weights[name]) for name in names}


def epsilon_outside(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=-1, keepdims=True)
    return scaled(weights, name, centred, features.std(axis=-1, keepdims=True) + EPSILON)


def unbiased(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=-1, keepdims=True)
    variance = features.var(axis=-1, keepdims=True, ddof=min(1, features.shape[-1] - 1))
    return scaled(weights, name, centred, np.sqrt(variance + EPSILON))


def over_time(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=(1, 2), keepdims=True)
    variance = features.var(axis=(1, 2), keepdims=True)
    return scaled(weights, name, centred, np.sqrt(variance + EPSILON))


def gelu(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = values * (1 + np.vectorize(math.erf)(values / 2**0.5)) / 2
    return found


def gelu_by_tanh(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = values * (1 + np.tanh((2 / np.pi) ** 0.5 * (values + 0.044715 * values**3))) / 2
    return found


def positions(weights: Weights, rows: np.ndarray, factor: float = 1) -> Weights:
    return weights | {"positions/embedding": weights["positions/embedding"][rows] * factor}


def tokens_times(weights: Weights, factor: float) -> Weights:
    return weights | {"tokens/embedding": weights["tokens/embedding"] * factor}


def without_padding(weights: Weights) -> Weights:
    table = weights["tokens/embedding"].copy()
    table[PAD] = 0
    return weights | {"tokens/embedding": table}
