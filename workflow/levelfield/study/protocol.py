"""The protocol and a case of it, as plain dataclasses: all that a training process is told.

Nothing here needs more than the standard library, since it also runs inside the containers. The `metadata` of a
field (description, bounds) is read by pydantic in `config.py`, which validates configs and writes the schema.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from levelfield import registry

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

FORBID_UNKNOWN: dict[str, str] = {"extra": "forbid"}


def setting(default: Any, description: str, **bounds: float) -> Any:
    """A dataclass field with a default, a meaning and pydantic's bounds (gt, ge, lt, …)."""
    return field(default=default, metadata={"description": description, **bounds})


class Sizes:
    """A model's name and sizes: each model has a frozen dataclass of this kind, whose field `name` is its name.

    As a field of the protocol it stands for any registered model's; pydantic is told so here, where it asks.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]
    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN
    name: str
    outputs: int

    @classmethod
    def of(cls, protocol: "Protocol") -> Self:
        """The protocol's sizes as those of this model.

        Raises: TypeError where the protocol trains another model.
        """
        if not isinstance(protocol.model, cls):
            raise TypeError(f"the protocol trains {protocol.model.name}, not {cls.__name__}")
        return protocol.model

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: "GetCoreSchemaHandler") -> Any:
        if cls is not Sizes:
            return handler(source)
        from typing import Annotated, Union

        from pydantic import Field

        kinds = tuple(model.sizes for model in registry.models().values())
        return handler.generate_schema(Annotated[Union[kinds], Field(discriminator="name")])  # noqa: UP007


def sizes_of(values: dict[str, Any]) -> Sizes:
    """The sizes that `asdict` wrote."""
    return registry.model(values["name"]).sizes(**values)


@dataclass(frozen=True)
class Protocol:
    """All that must be equal between cases that are compared. The defaults are the reference experiment's."""

    __pydantic_config__ = FORBID_UNKNOWN

    model: Sizes = field(
        default_factory=lambda: registry.model("bilstm").sizes(),
        metadata={"description": "What is trained: its name and sizes."},
    )
    vocabulary: int = setting(
        20_000, "Number of word ids, the three reserved ones included; rarer words become id 2.", ge=4, le=10_000_000
    )
    length: int = setting(200, "Tokens per sequence after padding and truncation.", ge=1, le=1_000_000)
    padding: Literal["pre", "post"] = setting("pre", "Side on which short sequences are filled with id 0.")
    truncation: Literal["pre", "post"] = setting("pre", "Side on which long sequences are cut: `pre` keeps the last tokens.")
    batch_size: int = setting(32, "Sequences per training step, and per batch of validation.", ge=1, le=1_000_000)
    epochs: int = setting(2, "Passes over the training sequences.", ge=1, le=100_000)
    learning_rate: float = setting(1e-3, "Step size α of Adam.", gt=0, le=1e6)
    beta_1: float = setting(0.9, "Decay of Adam's first moment; at most 0.9999, as `beta_2`.", ge=0, le=0.9999)
    beta_2: float = setting(
        0.999,
        "Decay of Adam's second moment; at most 0.9999: of one nearer to 1 float32 has too little of 1 - β left (half a unit of 1 is "
        "0.06 % of 0.0001) for parity to tell a right program from a wrong one.",
        ge=0,
        le=0.9999,
    )
    epsilon: float = setting(1e-7, "ε of Adam in the form α_t · m / (√v + ε), bias correction inside α_t.", gt=0, le=1)
    data_on: Literal["host", "device"] = setting(
        "host",
        "Where the sequences lie during an epoch, in its order: `host`: in the host's memory, and each batch is handed to the framework "
        "within its step; `device`: they are put on the device once an epoch, within its time, and batches are cut there.",
    )
    precision: Literal["float32", "tf32", "bfloat16"] = setting(
        "float32",
        "`float32` throughout; `tf32`: products in TF32 on a GPU, from compute capability 8.0 on (a CPU computes float32); `bfloat16`: each framework's own mixed precision: products "
        "of all layers but the last in bfloat16, and what lies between them (embedding, LayerNorm, sums, softmax) in bfloat16 or float32 "
        "as the framework has it, so not one program as in `float32`; the last dense layer, loss, optimiser and all weights stay float32.",
    )
    deterministic: bool = setting(False, "Ask every framework for its deterministic kernels.")
    devices: int = setting(
        1,
        "Devices that one run trains on, each on an equal part of every batch: GPUs, or equal parts of the processor. `batch_size` "
        "stays the whole batch's, and must be a multiple of it.",
        ge=1,
        le=1024,
    )

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Protocol":
        """The protocol that `asdict` wrote."""
        return cls(**values | {"model": sizes_of(values["model"])})


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
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Case":
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        values["departures"] = tuple(values["departures"])
        return cls(**values | {"protocol": Protocol.of(values["protocol"])})


def digest(value: Any) -> str:
    """sha256 of a dataclass or of plain data, independent of the order of keys."""
    plain = value if isinstance(value, (dict, list, str, int)) else asdict(value)
    return sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def reference_of(protocol: Protocol) -> tuple[str, Protocol]:
    """Name and protocol of the trajectory that a case is measured against: one for all that differ in epochs, in where the data
    lies or in the number of devices alone."""
    shared = replace(protocol, deterministic=False, epochs=1, data_on="host", devices=1)
    return f"reference-{digest(shared)[:12]}", shared
