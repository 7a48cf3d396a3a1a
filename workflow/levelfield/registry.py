"""What there is: models, backends, builders and sources of data, this package's own and those that installed packages register.

Four groups of entry points add to what the folders hold: `levelfield.models` (name = package), `levelfield.backends`
(name = module:Class), `levelfield.builders` (model/framework = module) and `levelfield.sources` (name = module). What a
backend, builder or source declares stands as a literal at the top of its file and is read without running it, so that
neither a framework nor numpy is imported. Standard library alone; what it looks up by name stands above it, which nothing else in
the house may use so.
"""

import ast
import importlib
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from levelfield.errors import UserError

if TYPE_CHECKING:
    from levelfield.models.base import Model
    from levelfield.study.departures import Departure

HERE = Path(__file__).parent
DataOn = Literal["host", "device"]

NO_BUILDERS = ("bare", "mistakes", "onnx", "reference")
"""Files of a model that stand beside its builders."""
UNDESCRIBED = "which nobody describes: `OWN_DEPARTURES = {name: [meaning, reference]}` at the top of its module does"
Row = dict[str, Any]
"""An entry of a `BACKENDS`, as it is declared or with what it leaves out."""


@dataclass(frozen=True)
class Registered:
    """What a backend declares: its class, and all that must be known before its framework is imported."""

    module: str
    attribute: str
    framework: str
    """Whose builders it trains: `models/<model>/<framework>.py`."""
    image: str
    """The container that it runs in."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that are set before the framework is imported; the process of a timed run is started with them."""
    options: dict[str, object] = field(default_factory=dict)
    """Keyword arguments of the class: a way of using the framework that has a row of its own."""
    departures: tuple[str, ...] = ()
    """Departures of the optimiser that it can make: those of `backends/departures.py`, and those that its module describes in an
    `OWN_DEPARTURES`, name to meaning and reference."""
    devices: str | None = None
    """What trains on several devices, as `module:Class`; None where it cannot."""
    data_on: tuple[DataOn, ...] = ("host",)
    """Where it can have an epoch's sequences lie: values of `protocol.data_on`, the usual one first."""
    like: str | None = None
    """The row that it is an option of: `torch` of `torch-compile`; None for a framework's own."""


@cache
def declared(module: str, name: str) -> Any:
    """The literal that a module assigns to `name` at its top, read without running it; None where there is none."""
    file = _file_of(module)
    for node in ast.parse(file.read_text(encoding="utf-8")).body if file else []:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            if node.value:
                return ast.literal_eval(node.value)
    return None


def _file_of(module: str) -> Path | None:
    """The source of a module; None where there is none. Neither it nor a package around it is run, as `find_spec` of a module in a package
    would: that may import a framework before its variables are set."""
    top, *inner = module.split(".")
    found = find_spec(top)
    if found is None:
        return None
    if not inner:
        return Path(found.origin) if found.origin and found.origin.endswith(".py") else None
    for folder in found.submodule_search_locations or ():
        path = Path(folder, *inner)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return None


@dataclass(frozen=True)
class Source:
    """What a source of data declares."""

    module: str
    """Has `read(data, asked)`, which gives a `levelfield.data.corpus.Corpus`."""
    takes: tuple[str, ...] = ()
    """Keys of the config's `data` that it takes beside those of every source."""
    needs: tuple[str, ...] = ()
    """Those of them that must be set."""
    variable: str | None = None
    """The environment variable that names its file where `data.file` is unset."""
    endings: tuple[str, ...] = ()
    """Of the files that it reads, beside folders; none where any will do."""


@cache
def sources() -> dict[str, Source]:
    """Each source of data by name: the files of `data/sources/`, and the modules that other packages registered."""
    modules = {point.name: point.value for point in entry_points(group="levelfield.sources")}
    own = sorted((HERE / "data/sources").glob("[a-z]*.py"))
    modules |= {file.stem: f"levelfield.data.sources.{file.stem}" for file in own}
    return {
        name: Source(
            module,
            declared(module, "TAKES") or (),
            declared(module, "NEEDS") or (),
            declared(module, "VARIABLE"),
            declared(module, "ENDINGS") or (),
        )
        for name, module in modules.items()
    }


@cache
def models() -> dict[str, "Model"]:
    """Each model by name: the folders of `models/`, and the packages that others registered."""
    own = sorted(folder.parent.name for folder in (HERE / "models").glob("*/__init__.py"))
    packages = {point.name: point.value for point in entry_points(group="levelfield.models")}
    packages |= {name: f"levelfield.models.{name}" for name in own}
    found = {name: importlib.import_module(package).MODEL for name, package in packages.items()}
    for name, one in found.items():
        if {one.name, one.sizes().name} != {name}:
            raise UserError(
                f"{packages[name]} is registered as the model {name!r}, its `MODEL` is named {one.name!r}, its sizes "
                f"{one.sizes().name!r}: give all three one name"
            )
    return found


def model(name: str) -> "Model":
    """Raises UserError for a model that there is not."""
    if name not in models():
        raise UserError(f"unknown model {name!r}; there are {', '.join(sorted(models()))}")
    return models()[name]


@cache
def backends() -> dict[str, Registered]:
    """Each backend by name: those that the files of `backends/` declare, and those that other packages registered."""
    rows: dict[str, Row] = {}
    for point in entry_points(group="levelfield.backends"):
        module, _, attribute = point.value.partition(":")
        rows[point.name] = {"module": module, "class": attribute} | (declared(module, "BACKENDS") or {}).get(point.name, {})
    for file in sorted((HERE / "backends").glob("[a-z]*.py")):
        module = f"levelfield.backends.{file.stem}"
        for name, own in (declared(module, "BACKENDS") or {}).items():
            rows[name] = {"module": module, "framework": file.stem} | own
    return {name: _registered(_whole(name, rows)) for name in rows}


def _whole(name: str, rows: dict[str, Row]) -> Row:
    """All that a row declares: as the row that it is like, but for what it says itself. What it says of `environment` and `options` is
    added; `devices` is never as there, since the class for several devices takes no options."""
    own = rows[name]
    if "like" not in own:
        return {"framework": name, "image": name} | own
    if own["like"] not in rows:
        raise UserError(f"the backend {name!r} is declared to be like {own['like']!r}, which nobody declares")
    like = _whole(own["like"], rows)
    added = {key: like.get(key, {}) | own.get(key, {}) for key in ("environment", "options")}
    return like | {"devices": None} | own | added


def _registered(row: Row) -> Registered:
    return Registered(
        row["module"],
        row["class"],
        row["framework"],
        row["image"],
        row.get("environment", {}),
        row.get("options", {}),
        tuple(row.get("departures", ())),
        row.get("devices"),
        tuple(row.get("data_on", ("host",))),
        row.get("like"),
    )


def backend(name: str) -> Registered:
    """Raises UserError for a backend that there is not."""
    if name not in backends():
        raise UserError(f"unknown backend {name!r}; there are {', '.join(sorted(backends()))}")
    return backends()[name]


@cache
def builder_module(model_name: str, framework: str) -> str | None:
    """The module that builds a model with a framework; None where the framework has no such file."""
    if framework in NO_BUILDERS:
        raise UserError(f"a framework cannot be named {framework!r}: models/<model>/{framework}.py is another part of a model")
    own = f"{model(model_name).package}.{framework}"
    others = [point.value for point in entry_points(group="levelfield.builders") if point.name == f"{model_name}/{framework}"]
    found = list(dict.fromkeys([own] * bool(_file_of(own)) + others))
    if len(found) > 1:
        raise UserError(
            f"{' and '.join(found)} both build {model_name!r} with {framework!r}: name the framework of one of them otherwise"
        )
    return found[0] if found else None


def builder(model_name: str, framework: str) -> ModuleType:
    """Imports a builder, and the framework with it. Raises UserError where the framework does not build this model."""
    module = builder_module(model_name, framework)
    if module is None:
        raise UserError(
            f"{framework} does not build the model {model_name!r}: its file models/{model_name}/{framework}.py is missing"
        )
    return importlib.import_module(module)


def supports(backend_name: str, model_name: str) -> bool:
    """Whether a backend trains a model."""
    return builder_module(model_name, backend(backend_name).framework) is not None


@cache
def _shared() -> dict[str, "Departure"]:
    """The departures that belong to no model: of the optimiser, the data, the telling."""
    found: dict[str, Departure] = {}
    for module in ("levelfield.backends.departures", "levelfield.study.departures"):
        found |= importlib.import_module(module).DEPARTURES
    kind = importlib.import_module("levelfield.study.departures").Departure
    for module in dict.fromkeys(row.module for row in backends().values()):
        described = declared(module, "OWN_DEPARTURES") or {}
        if both := found.keys() & described.keys():
            raise UserError(f"{module} describes the departure {min(both)!r}, which is there already: give it another name")
        found |= {name: kind("optimiser", *told) for name, told in described.items()}
    for name, row in backends().items():
        if unknown := set(row.departures) - found.keys():
            raise UserError(f"{row.module}: the backend {name!r} makes the departure {min(unknown)!r}, {UNDESCRIBED}")
    return found


@cache
def departures() -> dict[str, list["Departure"]]:
    """Every departure that somebody declares, by name; models may mean different things by one name."""
    found: dict[str, list[Departure]] = {}
    for declaration in (*(one.departures for one in models().values()), _shared()):
        for name, departure in declaration.items():
            found.setdefault(name, []).append(departure)
    return found


def departure(model_name: str, name: str) -> "Departure":
    """A departure as this model declares it: models may share a name (`own-dropout`), and differ in what it does."""
    return model(model_name).departures.get(name) or departures()[name][0]


@cache
def excludes(model_name: str) -> tuple[frozenset[str], ...]:
    """Departures that exclude each other: the model's own, and those of the optimiser."""
    return (*model(model_name).excludes, *importlib.import_module("levelfield.backends.departures").EXCLUDES)


@cache
def possible(backend_name: str, model_name: str) -> dict[str, "Departure"]:
    """The departures that a case of this backend and model can make."""
    registered, own = backend(backend_name), model(model_name).departures
    module = builder_module(model_name, registered.framework) or __name__
    made = declared(module, "DEPARTURES") or ()
    if unknown := set(made) - own.keys():
        raise UserError(f"{module} makes the departure {min(unknown)!r}, which the model {model_name!r} does not describe")
    everyone = importlib.import_module("levelfield.study.departures").DEPARTURES
    mine = {name: departure for name, departure in own.items() if name in made}
    return mine | {name: d for name, d in _shared().items() if name in registered.departures or name in everyone}
