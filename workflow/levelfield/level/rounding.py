"""Rounding, simulated: float64 arrays of which every operation's result is off by what a precision may round it by.

Monte Carlo arithmetic (Parker 1997; Verrou, CADNA and Verificarlo do so to compiled programs): a rounding error is drawn at random,
for what it is in a given program depends on the order of its sums, which is the program's own. An operation gives

- a result off by u of itself, u = 2^-24 in float32 (24 bits) and TF32, 2^-8 in bfloat16 (8 bits);
- of exp, tanh and log, which libraries approximate, by `FUNCTION` as much: 2 units in the last place, as CUDA
  documents of expf and tanhf;
- of a sum or product of K terms by u √(K + 3) / 3 of the sum of its terms' sizes. That is the
  standard deviation of K roundings that are independent of each other, of terms alike in size added one after another: each partial
  sum s_k = T k / K is off by u s_k √(1/3), which makes u T √K / 3 (the √K of Higham and Mary, SIAM J. Sci. Comput. 41, 2019, A2815),
  and so is each product. A gradient whose terms cancel is thereby off by the size of its terms, not of its sum;
- of which a product is added up in float32, a plain sum in the precision itself, as XLA adds up the gradient of a bias in bfloat16;
- of a sum over an axis, besides, by what float32 makes of these terms one after another: where terms are equal their
  roundings are not independent, and the sum stagnates;
- of a product in TF32 or bfloat16, by its inputs' rounding to 11 or 8 bits, which is that of the same weight at every time step;
- of a comparison, at which a ReLU or another kink turns, by `KINK` roundings of the size of what is compared.

All of it is taken `MARGIN` times as large. So the margin stands inside: what a kink, or Adam's first step, makes of a rounding error that is
four times as large need not be four times as much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import EllipsisType
from typing import Any

import numpy as np
from autograd.extend import VSpace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vspaces import ArrayVSpace

MARGIN = 4
"""Of the bounds: how many times as coarse as the precision they allow a program to be. Two bits."""
FUNCTION = 4
KINK = 2
SINGLE = 2.0**-24
UNITS = {"float32": SINGLE, "tf32": SINGLE, "bfloat16": 2.0**-8}
INPUT_BITS = {"tf32": 11, "bfloat16": 8}
EXACT = {
    np.negative, np.positive, np.absolute, np.maximum, np.minimum, np.fmax, np.fmin, np.sign, np.equal, np.not_equal, np.isfinite,
    np.isnan, np.logical_and, np.logical_or, np.logical_not, np.floor, np.ceil, np.rint, np.conjugate,
}  # fmt: skip
COMPARISONS = {np.greater, np.greater_equal, np.less, np.less_equal}
APPROXIMATED = {np.exp, np.expm1, np.exp2, np.tanh, np.log, np.log1p, np.log2, np.logaddexp, np.sin, np.cos, np.power, np.cosh}
POOL = 1 << 21
SEED = 20


@cache
def normals() -> np.ndarray:
    """Normal numbers, read from random places by all that is rounded: drawing each anew would take longer than what they perturb."""
    return np.random.default_rng(SEED).standard_normal(POOL)


@cache
def factors(relative: float) -> np.ndarray:
    """What takes a value off by `relative` of itself times each of those numbers."""
    return 1 + relative * normals()


class Rounding:
    """The rounding errors of one run: a precision, and random numbers of its own."""

    def __init__(self, precision: str, generator: np.random.Generator):
        self.precision, self.generator = precision, generator
        self.unit = MARGIN * UNITS[precision]
        self.shift = generator.uniform(1, 2)
        """Where the grid of the rounded inputs lies, so that each run rounds them otherwise."""

    def single(self) -> "Rounding":
        """The same run's, of what stays in float32: the loss and the optimiser."""
        return Rounding("float32", self.generator)

    def of(self, weights: dict[str, np.ndarray]) -> dict[str, "Rounded"]:
        return {name: rounded(value, self) for name, value in weights.items()}

    def disturbed(self, values: np.ndarray, relative: float) -> np.ndarray:
        """Values, in place where they lie in one piece, each off by a normal error of the standard deviation `relative` of itself."""
        flat = np.ascontiguousarray(values).reshape(-1)
        for start in range(0, flat.size, POOL // 2):
            part = flat[start : start + POOL // 2]
            part *= self._drawn(factors(relative), part.size)
        return flat.reshape(values.shape)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """To be read, not written."""
        size = int(np.prod(shape))
        parts = [self._drawn(normals(), min(POOL // 2, size - start)) for start in range(0, max(size, 1), POOL // 2)]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(shape)

    def _drawn(self, pool: np.ndarray, size: int) -> np.ndarray:
        place = self.generator.integers(POOL - size + 1)
        return pool[place : place + size]

    def result(self, values: np.ndarray, units: float = 1.0) -> np.ndarray:
        return self.disturbed(values, units * self.unit / 3**0.5)

    def input(self, values: np.ndarray) -> np.ndarray:
        """To the bits that a product's inputs have (Veltkamp's splitting), two fewer for the margin."""
        if self.precision not in INPUT_BITS:
            return values
        bits = INPUT_BITS[self.precision] - int(np.log2(MARGIN))
        shifted = values * self.shift
        high = shifted * (2.0 ** (53 - bits) + 1)
        return (high - (high - shifted)) / self.shift

    def summed(
        self, values: np.ndarray, sizes: np.ndarray, terms: int | np.ndarray, unit: float = MARGIN * SINGLE
    ) -> np.ndarray:
        """values: sums of so many terms, whose sizes add up to `sizes`; unit: of what they are added up in."""
        off = np.asarray(self.normal(values.shape) * sizes)
        off *= unit / 3 * np.sqrt(np.asarray(terms) + 3.0)
        values = np.add(values, off, out=off)
        return values if self.unit == MARGIN * SINGLE else self.result(values)

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Computed in float32, too: half the time, and its own rounding widens what is added here by 3 % at most."""
        a, b = self.input(a).astype(np.float32), self.input(b).astype(np.float32)
        return self.summed(np.asarray(a @ b), np.asarray(np.abs(a) @ np.abs(b)), a.shape[-1])

    def sum(self, values: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
        exact = np.add.reduce(values, axis=axes, keepdims=True)
        sizes = np.add.reduce(np.abs(values), axis=axes, keepdims=True)
        moved = np.moveaxis(values, axes, range(len(axes)))
        kept = moved.shape[len(axes) :]
        rows = moved.reshape(-1, *kept).astype(np.float32)
        if rows[0].size >= 64:  # faster than `accumulate`, which goes along the rows for each column
            one_by_one = np.zeros(kept, np.float32)
            for row in rows:
                one_by_one += row
        else:
            one_by_one = np.add.accumulate(rows, axis=0)[-1]
        stagnation = one_by_one.reshape(exact.shape) - exact
        found = self.summed(exact + MARGIN * stagnation * self.generator.choice([-1, 1]), sizes, len(rows), self.unit)
        return found if keepdims else found.reshape(kept)

    def scattered(self, into: np.ndarray, places: Any, values: np.ndarray) -> None:
        """`np.add.at`, whose places are any of numpy's indices: sums of as many terms as a place occurs."""
        if isinstance(places, np.ndarray) and places.dtype.kind in "iu":
            self._scattered_by_row(
                into, places.reshape(-1) % len(into), np.broadcast_to(values, (*places.shape, *into.shape[1:]))
            )
        elif all(isinstance(place, slice | int | EllipsisType | None) for place in np.index_exp[places]):  # each place once
            into[places] = self.summed(into[places] + values, np.abs(values), 1, self.unit)
        else:
            sizes, counts = np.zeros_like(into), np.zeros(into.shape)
            np.add.at(into, places, values)
            np.add.at(sizes, places, np.abs(values))
            np.add.at(counts, places, 1.0)
            into[...] = self.summed(into, sizes, counts, self.unit)

    def _scattered_by_row(self, into: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
        """Of an embedding: the rows that occur, no others."""
        order = np.argsort(rows, kind="stable")
        rows, terms = rows[order], values.reshape(len(rows), *into.shape[1:])[order]
        firsts = np.flatnonzero(np.diff(rows, prepend=-1))
        counts = np.diff(firsts, append=len(rows)).reshape(-1, *[1] * (into.ndim - 1))
        sums, sizes = np.add.reduceat(terms, firsts), np.add.reduceat(np.abs(terms), firsts)
        into[rows[firsts]] = self.summed(into[rows[firsts]] + sums, sizes, counts, self.unit)

    def compared(self, ufunc: np.ufunc, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
        off = KINK * self.unit * np.sqrt(np.mean(np.square(a)))
        found: np.ndarray = ufunc(a + off * self.normal(np.shape(a)), b)
        return found


class Rounded(np.ndarray):
    """An array whose operations are off as its `rounding` says; of two, the coarser. What else numpy does stays exact."""

    rounding: Rounding | None = None
    sum_of: tuple[np.ndarray, tuple[int, ...]] | None = None
    """Of a sum: what was summed, over which axes. A sum of it is one sum of it all: `autograd` goes axis by axis, programs do not."""

    def __array_finalize__(self, other: np.ndarray | None) -> None:
        self.rounding = getattr(other, "rounding", None)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple[np.ndarray, ...] | None = None, **settings: Any
    ) -> np.ndarray | None:
        rounding, plain = _coarsest(inputs), [_plain(value) for value in inputs]
        settings = {
            name: value
            for name, value in settings.items()
            if value is not None and name not in ("casting", "subok", "where", "initial")
        }
        if method == "at":
            assert ufunc is np.add, f"{ufunc.__name__}.at has no model of rounding"
            rounding.scattered(*plain)
            return None
        if ufunc is np.add and method == "reduce":
            values, axes = _all_axes(inputs[0], settings.get("axis", 0))
            found = np.asarray(rounding.sum(values, axes, settings.get("keepdims", False)))
        else:
            found = _computed(rounding, ufunc, method, plain, settings)
        if out:
            if isinstance(out[0], Rounded):
                out[0].sum_of = None
            out[0][...] = found
            return out[0]
        if found.dtype != np.float64:
            return found
        result = rounded(found, rounding)
        if ufunc is np.add and method == "reduce" and not settings.get("keepdims"):
            result.sum_of = values, axes
        return result

    def __array_function__(
        self, function: Callable[..., Any], types: Iterable[type], inputs: Iterable[Any], settings: Mapping[str, Any]
    ) -> Any:
        if function is np.einsum:
            raise TypeError("a reference writes its products with @ or np.dot, not with einsum: of those the rounding is known")
        if function is np.dot and all(np.ndim(value) for value in inputs):
            a, b, *_ = inputs
            return a @ b
        found = super().__array_function__(function, types, inputs, settings)
        made_plain = isinstance(found, np.ndarray) and getattr(found, "rounding", None) is None  # by concatenate and stack
        if made_plain and found.dtype == np.float64:
            return rounded(found, _coarsest(_leaves(inputs)))
        return found


ArrayBox.register(Rounded)
VSpace.register(Rounded, lambda value: ArrayVSpace(exact(value)))


def _all_axes(values: Rounded, axis: int | tuple[int, ...] | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """What a sum over `axis` sums after all, and over which axes."""
    axes = tuple(range(values.ndim)) if axis is None else tuple(int(a) % values.ndim for a in np.atleast_1d(axis))
    if values.sum_of is None:
        return exact(values), axes
    whole, before = values.sum_of
    left = [axis for axis in range(whole.ndim) if axis not in before]
    return whole, (*before, *(left[axis] for axis in axes))


def _computed(rounding: Rounding, ufunc: np.ufunc, method: str, inputs: list[Any], settings: dict[str, Any]) -> np.ndarray:
    if ufunc is np.matmul:
        return rounding.product(*inputs)
    if ufunc in COMPARISONS:
        return rounding.compared(ufunc, *inputs)
    found = np.asarray(getattr(ufunc, method)(*inputs, **settings))
    if ufunc in EXACT or found.dtype != np.float64:
        return found
    if ufunc in (np.add, np.subtract) and method == "__call__":  # nothing is rounded where 0 is added
        nothing = np.equal(inputs[0], 0) | np.equal(inputs[1], 0)
        if nothing.any():
            return np.where(nothing, found, rounding.result(found.copy()))
    return rounding.result(found, FUNCTION if ufunc in APPROXIMATED else 1)


def rounded(values: np.ndarray, rounding: Rounding) -> Rounded:
    found = np.asarray(values, np.float64).view(Rounded)
    found.rounding = rounding
    return found


def exact(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).view(np.ndarray)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Rounded) else value


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from _leaves(value) if isinstance(value, list | tuple) else [value]


def _coarsest(values: Iterable[Any]) -> Rounding:
    known = [value.rounding for value in values if isinstance(value, Rounded) and value.rounding is not None]
    if all(rounding is known[0] for rounding in known):
        return known[0]
    return max(known, key=lambda rounding: (rounding.unit, rounding.precision in INPUT_BITS))
