"""The protocol and a case of it, as plain dataclasses: all that a training process is told.

Nothing here needs more than the standard library, since it also runs inside the containers. The `metadata` of a
field (description, bounds) is read by pydantic in `study.py`, which validates configs and writes the schema.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

FORBID_UNKNOWN = {"extra": "forbid"}


def setting(default, description: str, **bounds):
    """A dataclass field with a default, a meaning and pydantic's bounds (gt, ge, lt, …)."""
    return field(default=default, metadata={"description": description, **bounds})


@dataclass(frozen=True)
class Protocol:
    """All that must be equal between cases that are compared. The defaults are the reference experiment's."""

    __pydantic_config__ = FORBID_UNKNOWN

    vocabulary: int = setting(20_000, "Number of word ids, the three reserved ones included; rarer words become id 2.", ge=4)
    length: int = setting(200, "Tokens per sequence after padding and truncation.", ge=1)
    padding: Literal["pre", "post"] = setting("pre", "Side on which short sequences are filled with id 0.")
    truncation: Literal["pre", "post"] = setting("pre", "Side on which long sequences are cut: `pre` keeps the last tokens.")
    embedding: int = setting(128, "Size of the embedding vectors.", ge=1)
    units: int = setting(64, "Hidden units of each direction of each LSTM layer.", ge=1)
    batch_size: int = setting(32, "Sequences per training step, and per batch of validation.", ge=1)
    epochs: int = setting(2, "Passes over the training sequences.", ge=1)
    learning_rate: float = setting(1e-3, "Step size α of Adam.", gt=0)
    beta_1: float = setting(0.9, "Decay of Adam's first moment.", ge=0, lt=1)
    beta_2: float = setting(0.999, "Decay of Adam's second moment.", ge=0, lt=1)
    epsilon: float = setting(1e-7, "ε of Adam in the form α_t · m / (√v + ε), bias correction inside α_t.", gt=0)
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "`float32` throughout; `tf32`: products in TF32 on GPUs that have it; `bfloat16`: embedding and LSTM layers compute in "
        "bfloat16, dense layer, loss, optimiser and all weights stay float32.",
    )
    deterministic: bool = setting(False, "Ask every framework for its deterministic kernels.")


@dataclass(frozen=True)
class Case:
    """A backend with its settings and departures: one row of a leaderboard."""

    name: str
    backend: str
    departures: tuple[str, ...] = ()
    protocol: Protocol = field(default_factory=Protocol)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def matched(self) -> bool:
        """Whether the case follows the protocol in everything, so that it must pass parity."""
        return not self.departures

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Case":
        values = json.loads(Path(path).read_text())
        values["departures"] = tuple(values["departures"])
        return cls(**values | {"protocol": Protocol(**values["protocol"])})


def digest(value) -> str:
    """sha256 of a dataclass or of plain data, independent of the order of keys."""
    plain = value if isinstance(value, (dict, list, str, int)) else asdict(value)
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def reference_of(protocol: Protocol) -> tuple[str, Protocol]:
    """Name and protocol of the trajectory that a case is measured against: one for all that differ in precision or epochs alone."""
    shared = replace(protocol, precision="float32", deterministic=False, epochs=1)
    return f"reference-{digest(shared)[:12]}", shared
