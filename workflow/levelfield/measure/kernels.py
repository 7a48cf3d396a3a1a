"""Which kernel computed what matters most to a model, read off the names in a profile of one training step."""

import re
from collections.abc import Iterable

from levelfield.models.base import Kernels

NOT_KERNELS = re.compile(r"^\$|Backward\d+$|autograd|^Iterator")
"""Python's own frames in JAX's profiles, nodes of PyTorch's backward graph, TensorFlow's input pipeline."""


def told(names: Iterable[str], kernels: Kernels) -> list[str]:
    """The names that tell how it was computed, sorted, without template arguments, numbers and paths."""
    of = re.compile(kernels.of, re.IGNORECASE)
    return sorted({plain for name in names if of.search(plain := _plain(name)) and not NOT_KERNELS.search(name)})


def verdict(names: Iterable[str], kernels: Kernels) -> str | None:
    """The first verdict whose kernels are among the names, the model's other one where none is; None without a profile."""
    names = list(names)
    if not names:
        return None
    for found, expression in kernels.known.items():
        if any(re.search(expression, name, re.IGNORECASE) for name in names):
            return found
    return kernels.otherwise


def _plain(name: str) -> str:
    """`void cudnn::rnn::f<float, 3>(int)` -> `cudnn::rnn::f`; `model/lstm/while:While` -> `While`; `fusion.12` -> `fusion`."""
    name = re.sub(r"^void ", "", re.split(r"[<(]", name)[0])
    if "::" not in name:
        name = name.rpartition(":")[2]
    return re.sub(r"(\.\d+)+$", "", name).strip()
