"""How a batch is shared between several devices, the same for every framework.

The batch of the protocol stays as it is: each device computes an equal part of it, and the gradients are added up. What must come
out is the mean over the whole batch, never a mean of the devices' means, which are of unequal numbers where the last batch is uneven.
A batch that cannot be shared evenly is therefore filled up with copies of its last sequence that weigh nothing.
"""

import numpy as np

from levelfield.backends.base import DeviceError


def filled(rows: np.ndarray, batch_size: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows, the last batch filled up to a multiple of `devices`, and each one's share of its batch's mean.

    rows: int64 (sequences,), in batches of `batch_size`, itself a multiple of `devices`. Returns rows int64 and shares float32, both
    (sequences filled up,): the share is 1 / (sequences of the batch), of a copy 0.
    """
    rest = len(rows) % batch_size
    copies = -rest % devices
    shares = np.full(len(rows), 1 / batch_size, np.float32)
    if rest:
        shares[-rest:] = 1 / rest
    return np.concatenate([rows, np.repeat(rows[-1:], copies)]), np.concatenate([shares, np.zeros(copies, np.float32)])


def part(values: np.ndarray, batch_size: int, devices: int, device: int) -> np.ndarray:
    """What one device gets of `values`, filled up: of each batch the part that is its own, one after another."""
    whole = len(values) // batch_size * batch_size
    full = values[:whole].reshape(-1, devices, batch_size // devices, *values.shape[1:])[:, device]
    rest = values[whole:].reshape(devices, -1, *values.shape[1:])[device]
    return np.concatenate([full.reshape(-1, *values.shape[1:]), rest])


def joined(parts: list[np.ndarray], batch_size: int) -> np.ndarray:
    """The whole again, of every device's part."""
    devices, tail = len(parts), parts[0].shape[1:]
    size = batch_size // devices
    whole = len(parts[0]) // size * size
    full = np.stack([one[:whole].reshape(-1, size, *tail) for one in parts], axis=1).reshape(-1, *tail)
    return np.concatenate([full, *(one[whole:] for one in parts)])


def enough(found: int, asked: int, framework: str) -> None:
    """Raises DeviceError where a framework finds fewer GPUs than the case asks for."""
    if found < asked:
        raise DeviceError(f"devices is {asked}, but {framework} finds {found} GPU{'s' * (found != 1)}: set `devices: {found}`")
