"""Distributions that initial weights are drawn from, with numpy alone, so that no framework's generator is in play.

Each function takes a shape, a generator and the weight's scale, and returns float64. Where kernels have more than two
dimensions, as attention's (inputs, heads, width) and a convolution's (width, inputs, outputs), `Weight.scale` is given.
"""

from collections.abc import Callable

import numpy as np

from levelfield.models.base import Weight

TRUNCATED_AT_2 = 0.87962566103423978
"""Standard deviation of a normal distribution cut off at ±2: a truncated one is widened by it."""


def zeros(shape, rng, scale) -> np.ndarray:
    return np.zeros(shape)


def ones(shape, rng, scale) -> np.ndarray:
    return np.ones(shape)


def uniform(shape, rng, scale) -> np.ndarray:
    """U(±scale)."""
    return rng.uniform(-scale, scale, shape)


def normal(shape, rng, scale) -> np.ndarray:
    """N(0, scale²)."""
    return scale * rng.normal(size=shape)


def truncated_normal(shape, rng, scale) -> np.ndarray:
    """Normal with standard deviation `scale` after cutting off beyond two of its own (LeCun normal in Flax)."""
    values = rng.normal(size=shape)
    while (far := np.abs(values) > 2).any():
        values[far] = rng.normal(size=int(far.sum()))
    return values * scale / TRUNCATED_AT_2


def glorot_uniform(shape, rng, scale) -> np.ndarray:
    """U(±√(6 / (inputs + outputs))) of a matrix (inputs, outputs) (Glorot and Bengio 2010)."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def orthogonal(shape, rng, scale) -> np.ndarray:
    """Orthonormal rows, uniformly distributed: Q of a normal matrix, signs fixed by R's diagonal (Saxe et al. 2014)."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q.T if rows < columns else q


def forget_one(shape, rng, scale) -> np.ndarray:
    """An LSTM's bias: 1 for the forget gate, the second quarter, else 0 (Jozefowicz et al. 2015)."""
    value = np.zeros(shape)
    value[shape[0] // 4 : shape[0] // 2] = 1
    return value


def two_uniform(shape, rng, scale) -> np.ndarray:
    """The sum of two U(±scale): PyTorch's LSTM has two biases, which act as their sum."""
    return rng.uniform(-scale, scale, (2, *shape)).sum(axis=0)


DISTRIBUTIONS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        zeros, ones, uniform, normal, truncated_normal, glorot_uniform, orthogonal, forget_one, two_uniform,
    )
}  # fmt: skip


def draw(weight: Weight, rng: np.random.Generator) -> np.ndarray:
    """A weight's initial value, float32."""
    return DISTRIBUTIONS[weight.initial](weight.shape, rng, weight.scale).astype(np.float32)
