"""A study: one config file, validated, and expanded to cases and runs. The classes here are the source of the schema."""

import re
import reprlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise, product
from math import prod
from random import Random
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from levelfield import registry
from levelfield.errors import UserError
from levelfield.study.data import SEEDS, Data, Strict
from levelfield.study.departures import too_few, without_start
from levelfield.study.protocol import Case, Protocol, Sizes

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+=-]*$"
IMDB_SEQUENCES = 25_000
LONGEST_NAME = 150
"""Characters of a name of a study or case: file systems allow 255 in a folder's, and some of the files have more in theirs."""
MOST_WEIGHTS = 10_000_000_000
"""Of a model: a start holds them as float32, and Adam three times."""
MOST_TOLD, LONGEST_MESSAGE = 5, 1000
"""Errors of a config that are told at once, and characters of one."""


def _named(value: Any) -> Any:
    """A model's name alone stands for its published sizes."""
    return {"name": value} if isinstance(value, str) else value


ModelSizes = Annotated[Sizes, BeforeValidator(_named)]


class Settings(Strict):
    """Settings of the protocol that a case may have of its own; cases that differ in them are not compared as equals."""

    model: ModelSizes | None = Field(None, description="See protocol.model.")
    batch_size: int | None = Field(None, ge=1, le=1_000_000, description="See protocol.batch_size.")
    length: int | None = Field(None, ge=1, le=1_000_000, description="See protocol.length.")
    epochs: int | None = Field(None, ge=1, le=100_000, description="See protocol.epochs.")
    learning_rate: float | None = Field(None, gt=0, le=1e6, description="See protocol.learning_rate.")
    precision: Literal["float32", "tf32", "bfloat16"] | None = Field(None, description="See protocol.precision.")
    data_on: Literal["host", "device"] | None = Field(None, description="See protocol.data_on.")
    deterministic: bool | None = Field(None, description="See protocol.deterministic.")
    devices: int | None = Field(None, ge=1, le=1024, description="See protocol.devices.")

    @property
    def own(self) -> dict[str, Any]:
        """Those that are set."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name) is not None}


class CaseConfig(Strict):
    """A case as written in a config; its name alone, where a backend is all there is to say."""

    backend: str = Field(description="The backend's name: `levelfield doctor` lists them.")
    name: str | None = Field(None, pattern=NAME, description="Row of the leaderboard; made of the rest where empty.")
    departures: tuple[str, ...] = Field((), description="Named differences from the protocol, as listed below.")
    settings: Settings = Field(Settings(), description="Protocol settings of this case alone.")

    @model_validator(mode="before")
    @classmethod
    def from_name(cls, value: Any) -> Any:
        return {"backend": value} if isinstance(value, str) else value

    @field_validator("backend")
    @classmethod
    def known_backend(cls, value: str) -> str:
        if value not in registry.backends():
            raise ValueError(f"unknown backend; allowed: {', '.join(sorted(registry.backends()))}")
        return value

    @field_validator("departures")
    @classmethod
    def known_departures(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = registry.departures()
        for departure in value:
            if departure not in known:
                raise ValueError(f"unknown departure {departure!r}; allowed: {', '.join(sorted(known))}")
        return tuple(sorted(set(value), key=list(known).index))


class Images(Strict):
    """The containers of `snakemake --sdm apptainer`; without that option nothing here is read."""

    kind: Literal["cuda", "cpu"] = Field("cuda", description="For machines with an NVIDIA GPU, or without.")
    base: str | None = Field(
        None, description="Base of the images: a reference with its digest, or the folder of a root file system."
    )
    ready: dict[str, str] = Field(
        {}, description="Ready images by name (tensorflow, torch, jax, analysis): a `.sif`, or `docker://…@sha256:…`."
    )


@dataclass(frozen=True)
class Block:
    """All cases of one seed and one size, in the order in which they run."""

    name: str
    """`seed 3`, or `batch_size=64, seed 3`."""
    seed: int
    cases: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name as a file has it: `batch_size=64+seed-3`."""
        return self.name.replace(", ", "+").replace(" ", "-")


TWIN = "-twin"
"""What is added to the name of the case that runs twice."""


class Study(Strict):
    """The content of a file of `config/`."""

    study: str = Field(pattern=NAME, description="Name of the study and of its folder in `results/`.")
    question: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="What the study is to answer, in one line: its README and page begin with it.",
    )
    source: str | None = Field(
        None, min_length=1, max_length=200, description="Who asks: public threads as `owner/repository#number`, or in words."
    )
    data: Data = Field(Data(), description="The reviews.")
    protocol: Protocol = Field(default_factory=Protocol, description="All that is equal for every case.")
    cases: Annotated[list[CaseConfig], Field(min_length=1)] = Field(description="What is compared: one row each.")
    vary: dict[
        Literal["model", "batch_size", "length", "data_on", "precision", "deterministic", "devices"], list[int | bool | str]
    ] = Field(
        {},
        description="Settings whose values every case takes in turn, one setting at a time, the others as in the protocol; of "
        "models their names, each with its published sizes, and with the outputs of `protocol.model` where that sets others than its own "
        "published ones.",
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=SEEDS)]], Field(min_length=1)] = Field(
        [0, 1, 2], description="One run of every case for each."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`cuda` without a GPU is an error; `auto` takes one if there."
    )
    target_accuracy: float = Field(
        0.85, gt=0, lt=1, description="Validation accuracy that an exported MLPerf log calls success."
    )
    equivalence_margin: float = Field(0.005, gt=0, lt=1, description="Accuracies closer than this count as equivalent.")
    parity: bool = Field(True, description="Prove each matched case against the float64 reference before it is timed.")
    twin: bool = Field(
        False,
        description="Run the first case twice, under two names: how far the two come apart is the noise floor of every claim.",
    )
    retakes: int = Field(
        2, ge=0, le=2, description="How often a run that noise or its own checks spoilt is taken again, whatever its result."
    )
    sessions: int = Field(
        1,
        ge=1,
        description="In how many sessions (days, boots, hosts) the seeds are run, a part of them in each. The next one begins when the "
        "same command is typed after a break of an hour, a restart, or on another host.",
    )
    accepted: dict[str, Annotated[str, Field(min_length=1, max_length=500)]] = Field(
        {},
        description="Cases by name that need not finish, each with the reason: the study is done without them. Snakemake runs them no "
        "more; tables and page tell them as accepted.",
    )
    images: Images = Field(Images(), description="Containers.")

    @field_validator("protocol", mode="before")
    @classmethod
    def model_by_name(cls, value: Any) -> Any:
        return value | {"model": _named(value["model"])} if isinstance(value, dict) and "model" in value else value

    @field_validator("seeds")
    @classmethod
    def different_seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("a seed stands there twice")
        return value

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.sessions > len(self.seeds):
            raise ValueError(
                f"sessions: found {self.sessions} with {len(self.seeds)} seeds: each session needs a seed of its own"
            )
        names = [case.name for case in self.expanded]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f"two cases are named {twice[0]!r}: give one a `name` of its own")
        if unknown := sorted(self.accepted.keys() - set(names)):
            raise ValueError(f"accepted: no case is named {_key(unknown[0])}; there are {_listed(names)}")
        sides = self.protocol.padding, self.protocol.truncation
        if len({case.protocol.length for case in self.expanded}) > 1 and len(set(sides)) > 1:
            raise ValueError("cases of different length need padding and truncation on the same side")
        known = self.known_sequences
        for case in self.expanded:
            refuse_impossible(case)
            reason = too_few(case.departures, case.protocol.batch_size, *known)
            encoded = self.data.kind == "encoded" or self.data.tokenizer is not None
            if reason := reason or without_start(case.departures, *sides, encoded):
                raise ValueError(f"case {case.name}: {reason}")
        return self

    @property
    def variants(self) -> list[dict[str, int | bool | str]]:
        """The settings that every case takes in turn; one without any where nothing varies."""
        return [{key: value} for key, values in self.vary.items() for value in values] or [{}]

    @cached_property
    def expanded(self) -> list[Case]:
        """The cases in the config's order, each with its name and its whole protocol."""
        return [self._case(case, variant) for case, variant in product(self._written, self.variants)]

    @property
    def _written(self) -> list[CaseConfig]:
        """The cases as written, and the twin of the first."""
        first = self.cases[0]
        twin = first.model_copy(update={"name": f"{self._case(first, {}).name}{TWIN}"})
        return [*self.cases, twin] if self.twin else self.cases

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks in the order in which they run: a size's together, and of each size one a seed.

        The order of a block's cases is drawn from its size and seed, so that no case stands at the same place in every block. Seed
        2n + 1 has the order of 2n the other way round: with both, each case runs before any other as often as after it.
        """
        found = []
        for variant, seed in product(self.variants, self.seeds):
            size = [f"{key}={value}" for key, value in variant.items()]
            name = ", ".join([*size, f"seed {seed}"])
            cases = [self._case(case, variant).name for case in self._written]
            half, odd = divmod(seed, 2)
            order = Random(", ".join([*size, f"seeds {2 * half} and {2 * half + 1}"])).sample(cases, len(cases))
            found.append(Block(name, seed, tuple(reversed(order) if odd else order)))
        return found

    def _case(self, config: CaseConfig, variant: dict[str, int | bool | str]) -> Case:
        own = Settings.model_validate(config.settings.own | variant).own
        if "model" in variant and (outputs := self._set_outputs) is not None:
            own["model"] = replace(own["model"], outputs=outputs)
        protocol = replace(self.protocol, **own)
        parts = [config.name or "+".join([config.backend, *config.departures])]
        if config.name is None or variant:
            told = {key: value.name if isinstance(value, Sizes) else value for key, value in own.items()}
            parts += [f"{key}={value}" for key, value in told.items() if config.name is None or key in variant]
        return Case("+".join(parts), config.backend, config.departures, protocol, self.device)

    @property
    def _set_outputs(self) -> int | None:
        """The outputs of the protocol's model where they are others than it has by default: as many as the data has labels, of any model."""
        model = self.protocol.model
        return model.outputs if model.outputs != type(model)().outputs else None

    @property
    def outputs(self) -> list[tuple[str, int]]:
        """(name, outputs) of each model of the cases, those that differ in either."""
        return sorted({(case.protocol.model.name, case.protocol.model.outputs) for case in self.expanded})

    @property
    def most_devices(self) -> int:
        """The most devices that one of the runs trains on, those accepted as failing apart."""
        asked = [case.protocol.devices for case in self.expanded if case.name not in self.accepted]
        return max(asked, default=1)

    @property
    def sessions_of_seeds(self) -> list[list[int]]:
        """The seeds of each session that is asked for, as even as can be."""
        ends = [len(self.seeds) * number // self.sessions for number in range(self.sessions + 1)]
        return [self.seeds[first:last] for first, last in pairwise(ends)]

    @property
    def length(self) -> int:
        """Tokens that the data is kept with: the longest of the cases; each case takes its own length of it."""
        return max(case.protocol.length for case in self.expanded)

    @property
    def sequences(self) -> tuple[int, int]:
        """Training and validation sequences: what the config asks for, else as many as IMDB has, also where the source, unread
        as yet, may have more: there `data.train` is needed for a scheduler's time to be right."""
        return self.data.train or IMDB_SEQUENCES, self.data.validation or IMDB_SEQUENCES

    @property
    def known_sequences(self) -> tuple[int | None, int | None]:
        """Of training and of validation, as `sequences`; None where the source tells, once it is read."""
        told = self.data.kind in ("imdb", "synthetic")
        training, validation = self.sequences
        return training if self.data.train or told else None, validation if self.data.validation or told else None

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(case, seed) in the order in which they run: block after block."""
        return [(case, block.seed) for block in self.blocks for case in block.cases]


def refuse_impossible(case: Case) -> None:
    """Raises ValueError where a case's backend cannot train its model, or not with these departures or the data where it shall lie."""
    model = registry.model(case.protocol.model.name)
    if not registry.supports(case.backend, model.name):
        raise ValueError(f"case {case.name}: {case.backend} does not train the model {model.name}")
    if case.protocol.devices > 1:
        refuse_devices(case)
    places = registry.backend(case.backend).data_on
    if case.protocol.data_on not in places:
        raise ValueError(
            f"case {case.name}: {case.backend} cannot have an epoch's data on the {case.protocol.data_on}: "
            f"set `data_on: {places[0]}`, for this case alone as `settings: {{data_on: {places[0]}}}`"
        )
    try:
        weights = model.weights(case.protocol, frozenset(case.departures))
    except UserError as error:  # what is wrong with the sizes
        raise ValueError(f"case {case.name}: {error}") from None
    if (count := sum(prod(weight.shape) for weight in weights.values())) > MOST_WEIGHTS:
        raise ValueError(f"case {case.name}: its model has {count:.3g} weights: at most {MOST_WEIGHTS:,}")
    able = registry.possible(case.backend, model.name)
    for departure in case.departures:
        if departure not in able:
            raise ValueError(
                f"case {case.name}: {case.backend} cannot make the departure {departure!r} with the model {model.name}; "
                f"it can make {', '.join(able)}"
            )
    for both in registry.excludes(model.name):
        if both <= set(case.departures):
            raise ValueError(f"case {case.name}: {' and '.join(sorted(both))} exclude each other")


def refuse_devices(case: Case) -> None:
    """Raises ValueError where a case cannot be trained on as many devices."""
    devices, size = case.protocol.devices, case.protocol.batch_size
    if registry.backend(case.backend).devices is None:
        able = ", ".join(name for name, backend in registry.backends().items() if backend.devices)
        raise ValueError(f"case {case.name}: {case.backend} trains on one device alone: `devices: 1`, or one of {able}")
    if case.departures:
        raise ValueError(f"case {case.name}: departures are made on one device alone: `devices: 1`, or none of them")
    if case.protocol.data_on != "host":
        raise ValueError(f"case {case.name}: several devices are handed each batch within its step: set `data_on: host`")
    if size % devices:
        raise ValueError(
            f"case {case.name}: {devices} devices cannot share batches of {size} evenly: batch_size must be a multiple of devices"
        )


def read_study(config: dict[str, Any], source: str) -> Study:
    """Validates a config that came from the file(s) `source`; raises UserError with one line for all that is wrong."""
    try:
        study = Study.model_validate(config)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        told = [" ".join(_told(source, found).split()) for found in errors[:MOST_TOLD]]
        more = [f"and {len(errors) - MOST_TOLD} more"] if len(errors) > MOST_TOLD else []
        raise UserError("; ".join(told + more)) from None
    for case in study.cases:
        if both := sorted(case.settings.own.keys() & study.vary.keys()):
            name = case.name or "+".join([case.backend, *case.departures])
            why = f"sets {both[0]}, of which `vary` gives every case each value: take it out of one of the two"
            raise UserError(f"{source}: cases: case {name} {why}")
    for key, name in (("study", study.study), *(("cases", case.name) for case in study.expanded)):
        if len(name) > LONGEST_NAME:
            said = f"found a name of {len(name)} characters, {_short(name)}: it names folders: at most {LONGEST_NAME}"
            raise UserError(f"{source}: {key}: {said}" + ("; give the case a shorter `name`" if key == "cases" else ""))
    return study


def _short(value: object) -> str:
    """What was found, in at most some 100 characters whatever it is: a config may hold itself, or a billion laughs."""
    shown = reprlib.Repr()
    shown.maxlevel, shown.maxstring, shown.maxother, shown.maxlong = 2, 60, 60, 60
    shown.maxlist = shown.maxdict = shown.maxtuple = shown.maxset = shown.maxfrozenset = 3
    return shown.repr(value)


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _key(part: int | str) -> str:
    """A part of a key's path, cut and quoted where it is odd."""
    return part if isinstance(part, str) and len(part) <= 60 and part.isprintable() and part.strip() else _short(part)


def _told(source: str, error: ErrorDetails) -> str:
    """One error as `file: key: what was found: what is allowed`."""
    key = ".".join(map(_key, error["loc"])) or "study"
    message, found = re.sub("^Value error, ", "", error["msg"]), _short(error["input"])
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        moved = [model.name for model in registry.models().values() if error["loc"][-1] in vars(model.small)]
        moved.sort(key=lambda name: name != Protocol().model.name)  # the protocol's own first, whoever else has it
        if moved and error["loc"][:-1] == ("protocol",):
            own = f"protocol: {{model: {{name: {moved[0]}, {error['loc'][-1]}: {found}}}}}"
            return f"{source}: {key}: is the model's now: write `protocol.model.{error['loc'][-1]}`, as in `{own}`"
        return f"{source}: {key}: unknown key; allowed: {', '.join(_allowed(error['loc']))}"
    if error["type"] == "missing":
        return f"{source}: {key}: missing"
    if error["type"] == "union_tag_invalid":
        message = f"unknown model; allowed: {', '.join(sorted(registry.models()))}"
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "…"
    return (
        f"{source}: {key}: found {'these keys' if isinstance(error['input'], dict) and len(found) > 60 else found}: {message}"
    )


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the model that holds the misspelt key."""
    models: dict[str, type[Strict]] = {"data": Data, "images": Images, "cases": CaseConfig, "settings": Settings}
    holders = [part for part in location[:-1] if isinstance(part, str)]
    if "model" in holders and holders[-1] in registry.models():
        return list(vars(registry.model(holders[-1]).small))
    if holders and holders[-1] == "protocol":
        return [field.name for field in fields(Protocol)]
    return list(models.get(holders[-1], Study).model_fields) if holders else list(Study.model_fields)
