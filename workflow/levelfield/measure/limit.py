"""The distance to the hardware's limit: the protocol's operations and bytes against what the machine was measured to do."""

from dataclasses import dataclass

from levelfield.models.base import MATCHED, parameters, training_operations
from levelfield.study.protocol import Protocol, digest

ADAM_BYTES = 6 * 4
"""Adam reads and writes each weight and its two moments, float32, in every step: also of words not in the batch, whose
moments decay and whose weights move (Kingma and Ba 2015, algorithm 1)."""


@dataclass(frozen=True)
class Calibration:
    """What a machine was measured to do; None where it was not measured. Written to and read from JSON as it stands."""

    host: str
    cpu: str
    threads: int
    gpu: str | None
    measured: str
    """ISO 8601, UTC."""
    library: str
    """What multiplied: NumPy with its BLAS, or PyTorch with cuBLAS."""
    products_per_second: dict[str, float]
    """Floating-point operations a second of a large square matrix product, by precision."""
    bytes_per_second: float
    """Bytes read and written a second by copying arrays that are together as large as the reference experiment's weights and
    moments (33 MB), so that a cache that holds those is credited for it."""
    bare_step_seconds: dict[str, float]
    """Forward and backward pass of a model's bare fused kernel, under `bare_key`; empty without a GPU."""
    warning: str | None = None
    """Why the machine was too restless to tell; the next run then measures again, and the higher rate stands."""


def update_bytes(protocol: Protocol, departures: frozenset[str] = MATCHED) -> int:
    """Bytes that the optimiser must move in one step, whatever the batch."""
    return ADAM_BYTES * parameters(protocol, departures)


def step_seconds(protocol: Protocol, calibration: Calibration, departures: frozenset[str] = MATCHED) -> float | None:
    """The least time of a full step on this machine: its products at the measured rate, or the optimiser's bytes at the
    measured bandwidth, whichever takes longer (the roofline of Williams et al. 2009); None where the rate was not measured."""
    rate = calibration.products_per_second.get(protocol.precision)
    if rate is None:
        return None
    products = protocol.batch_size * training_operations(protocol, departures) / rate
    return max(products, update_bytes(protocol, departures) / calibration.bytes_per_second)


def measurements(
    protocol: Protocol, sequences_per_second: float, calibration: Calibration | None, departures: frozenset[str] = MATCHED
) -> dict[str, float | None]:
    """For `run.json`: the operations per sequence, the rate reached, the share of the limit, and of the speed of the model's bare
    fused kernel (of the protocol's sizes; empty where the calibration has none for them). Both shares are below 1. departures: of the
    case, which may give the model other sizes."""
    operations = training_operations(protocol, departures)
    found = {
        "operations_per_sequence": operations,
        "operations_per_second": operations * sequences_per_second,
        "share_of_limit": None,
        "share_of_bare_kernel": None,
    }
    if calibration is None:
        return found
    step = protocol.batch_size / sequences_per_second
    least = step_seconds(protocol, calibration, departures)
    found["share_of_limit"] = None if least is None else least / step
    bare = calibration.bare_step_seconds.get(bare_key(protocol))
    found["share_of_bare_kernel"] = None if bare is None else bare / step
    return found


def bare_key(protocol: Protocol) -> str:
    """Under which a bare kernel's time is kept: all that it depends on."""
    return f"{protocol.model.name} {protocol.precision} {protocol.batch_size}x{protocol.length} {digest(protocol.model)[:12]}"
