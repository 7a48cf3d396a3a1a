"""Distributions that initial weights are drawn from, with numpy alone, so that no framework's generator is in play.

Each function takes a shape, a generator and, where it has one, the weight's scale, and returns float64. Where kernels have more
than two dimensions, as attention's (inputs, heads, width) and a convolution's (width, inputs, outputs), `Weight.scale` is given.
"""

from collections.abc import Callable

import numpy as np

from levelfield.models.base import Weight

TRUNCATED_AT_2 = 0.87962566103423978
"""Standard deviation of a normal distribution cut off at ±2: a truncated one is widened by it."""

Shape = tuple[int, ...]


def zeros(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return np.zeros(shape)


def ones(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return np.ones(shape)


def uniform(shape: Shape, rng: np.random.Generator, scale: float) -> np.ndarray:
    """U(±scale)."""
    return rng.uniform(-scale, scale, shape)


def normal(shape: Shape, rng: np.random.Generator, scale: float) -> np.ndarray:
    """N(0, scale²)."""
    return scale * rng.normal(size=shape)


def truncated_normal(shape: Shape, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Normal with standard deviation `scale` after cutting off beyond two of its own (LeCun normal in Flax)."""
    values = rng.normal(size=shape)
    while (far := np.abs(values) > 2).any():
        values[far] = rng.normal(size=int(far.sum()))
    return values * scale / TRUNCATED_AT_2


def glorot_uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """U(±√(6 / (inputs + outputs))) of a matrix (inputs, outputs) (Glorot and Bengio 2010)."""
    limit = np.sqrt(6 / sum(shape))
    return rng.uniform(-limit, limit, shape)


def orthogonal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal rows, uniformly distributed: Q of a normal matrix, signs fixed by R's diagonal (Saxe et al. 2014)."""
    rows, columns = shape
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return q.T if rows < columns else q


def forget_one(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """An LSTM's bias: 1 for the forget gate, the second quarter, else 0 (Jozefowicz et al. 2015)."""
    value = np.zeros(shape)
    value[shape[0] // 4 : shape[0] // 2] = 1
    return value


def two_uniform(shape: Shape, rng: np.random.Generator, scale: float) -> np.ndarray:
    """The sum of two U(±scale): PyTorch's LSTM has two biases, which act as their sum."""
    value: np.ndarray = rng.uniform(-scale, scale, (2, *shape)).sum(axis=0)
    return value


SCALED: dict[str, Callable[[Shape, np.random.Generator, float], np.ndarray]] = {
    function.__name__: function for function in (uniform, normal, truncated_normal, two_uniform)
}
BY_SHAPE: dict[str, Callable[[Shape, np.random.Generator], np.ndarray]] = {
    function.__name__: function for function in (zeros, ones, glorot_uniform, orthogonal, forget_one)
}


def draw(weight: Weight, rng: np.random.Generator) -> np.ndarray:
    """A weight's initial value, float32."""
    if weight.initial in BY_SHAPE:
        return BY_SHAPE[weight.initial](weight.shape, rng).astype(np.float32)
    if weight.scale is None:
        raise TypeError(f"a weight's distribution {weight.initial!r} needs a scale")
    return SCALED[weight.initial](weight.shape, rng, weight.scale).astype(np.float32)
