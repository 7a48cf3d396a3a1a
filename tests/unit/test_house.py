"""The house: imports run one way, frameworks are imported where they belong, and who plans or runs needs no more than it has."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from levelfield import registry

HOUSE = Path(registry.__file__).parent
ROOMS = ["commands", "export", "tell", "plan", "training", "measure", "level", "backends", "models", "data", "study", "images"]
FOUNDATION = ["host", "registry", "records", "commit", "errors"]
ORDER = [*ROOMS, *FOUNDATION]
"""From top to bottom: each uses those below it."""
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "optax"}
BUILDERS = {"torch", "keras", "jax", "flax"}
LOOKED_UP = {
    "registry.py", "commands/cli.py", "commands/export.py", "backends/__init__.py", "data/corpus.py", "level/reference.py",
    "level/mistakes.py", "export/onnx.py", "measure/calibrate.py",
}  # fmt: skip
"""Where parts are imported by the names that somebody registered or typed."""
STUDY = re.compile(r"from (levelfield[\w.]*) import (\w+)")
FILES = sorted(file for file in HOUSE.rglob("*.py") if len(file.relative_to(HOUSE).parts) > 1 or file.stem in FOUNDATION)


def module_of(file: Path) -> str:
    parts = ("levelfield", *file.relative_to(HOUSE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(file: Path) -> set[str]:
    """Every module that a file imports, in functions, too; not what it names for a type checker alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: name the whole module"
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= {name for name in inner if file_of(name)} or {node.module}
    return found


def file_of(module: str) -> Path | None:
    """The file of a module of the house."""
    path = HOUSE.joinpath(*module.split(".")[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if module.startswith("levelfield") and file.is_file()), None)


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_file_stands_in_a_room():
    assert {room(module_of(file)) for file in FILES} == set(ORDER)
    assert {file.stem for file in HOUSE.glob("*.py")} - {"__init__", "__main__"} == set(FOUNDATION)


@pytest.mark.parametrize("name", ORDER)
def test_a_room_uses_those_below_it_alone(name):
    for file in FILES:
        if room(module_of(file)) == name:
            used = {module for module in imports(file) if module.startswith("levelfield.")}
            above = {module for module in used if ORDER.index(room(module)) < ORDER.index(name)}
            assert not above, f"{file.relative_to(HOUSE)} imports {', '.join(sorted(above))}, which stands above it"


def test_what_is_imported_by_name_is_what_is_registered():
    """`importlib.import_module` goes round the order above: for what is registered, verbs and exports alone."""
    using = {str(file.relative_to(HOUSE)) for file in FILES if "import_module(" in file.read_text(encoding="utf-8")}
    assert using == LOOKED_UP


@pytest.mark.parametrize("model", ["bilstm", "transformer", "cnn"])
def test_a_model_uses_no_other_model(model):
    for file in (HOUSE / "models" / model).glob("*.py"):
        used = {module for module in imports(file) if module.startswith("levelfield.models.")}
        assert {module.split(".")[2] for module in used} <= {model, "base", "initial"}, file.name


def test_a_framework_is_imported_by_its_backends_and_builders_alone():
    for file in FILES:
        used = {module.partition(".")[0] for module in imports(file)} & FRAMEWORKS
        parts = file.relative_to(HOUSE).with_suffix("").parts
        if parts[0] == "backends":
            continue
        if parts[0] == "models" and parts[-1] in BUILDERS:
            assert used <= {parts[-1], "jax"} and parts[-1] in used, f"{file.relative_to(HOUSE)} imports {used}"
        elif used:  # the yardstick on a GPU is PyTorch's, whichever framework is measured
            assert used == {"torch"} and (parts[-1] == "bare" or parts == ("measure", "calibrate")), file.relative_to(HOUSE)


@pytest.mark.parametrize("framework", sorted(BUILDERS))
def test_a_builder_holds_the_model_and_nothing_else(framework):
    for file in (HOUSE / "models").glob(f"*/{framework}.py"):
        used = {module for module in imports(file) if module.startswith("levelfield.")}
        assert used <= {"levelfield.study.protocol", f"levelfield.models.{file.parent.name}"}, f"{file} uses {used}"


def test_autograd_is_used_by_the_reference_alone():
    using = {file.relative_to(HOUSE) for file in FILES if any(name.startswith("autograd") for name in imports(file))}
    assert (
        using
        and {path.name for path in using} == {"reference.py", "rounding.py"}
        and {path.parts[0] for path in using} <= {"level", "models"}
    )


def collections(file: Path) -> Iterator[tuple[int, set]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        held = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else getattr(node, "keys", ())
        yield getattr(node, "lineno", 0), {one.value for one in held if isinstance(one, ast.Constant)}


@pytest.mark.parametrize("names", [registry.backends, registry.models, registry.departures], ids=lambda names: names.__name__)
def test_no_list_of_what_there_is_but_where_it_is_declared(names):
    """Not of backends outside `backends/`, of models anywhere, of departures but where they are made and where they are published."""
    declaring = ("backends", "models", "study") if names is registry.departures else ("backends",)
    for file in FILES:
        if file.relative_to(HOUSE).parts[0] not in declaring:
            for line, found in collections(file):
                assert len(found & set(names())) < 2, f"{file.relative_to(HOUSE)}:{line} lists {found & set(names())}"


def test_the_lists_that_are_searched_for_would_be_found(tmp_path):
    (tmp_path / "rows.py").write_text('ROWS = ("torch", "jax")\nSPEED = {"torch": 1, "flax": 2}\n')
    assert {frozenset(found & set(registry.backends())) for _, found in collections(tmp_path / "rows.py")} >= {
        frozenset({"torch", "jax"}), frozenset({"torch", "flax"}),
    }  # fmt: skip


def reached(*modules: str) -> set[str]:
    """What these modules import, and what that imports, in functions, too."""
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            # a package's __init__ is imported before what is in it
            waiting += [module.rpartition(".")[0]] if module.count(".") else []
            waiting += [name for name in imports(file_of(module)) if name.startswith("levelfield")]
    return found


def without(absent: set[str], code: str) -> subprocess.CompletedProcess:
    """Runs the code where these packages cannot be imported."""
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(absent)})); {code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def importing(modules: set[str], absent: set[str]) -> subprocess.CompletedProcess:
    return without(absent, f"import {', '.join(sorted(modules))}")


OF_THE_ANALYSIS = {"pandas", "scipy", "pyarrow", "altair", "autograd", "onnx"}
BEYOND_A_CONTAINER = {"pydantic", "requests", "yaml", "rich", "jinja2", "snakemake", *OF_THE_ANALYSIS, *FRAMEWORKS}
BEYOND_A_PLANNER = {"numpy", "tqdm", *OF_THE_ANALYSIS, *FRAMEWORKS}


def test_a_run_needs_the_standard_library_numpy_tqdm_and_nvml():
    """All that `train`, `parity` and `exchange` reach, and every model, the frameworks apart: what is in a container."""
    modules = reached(*(f"levelfield.commands.rules.{verb}" for verb in ("train", "take", "parity", "exchange")))
    assert {f"levelfield.{name}" for name in ("training.train", "level.parity", "measure.gpu", "models.base")} <= modules
    models = {f"levelfield.models.{name}" for name in registry.models()}
    done = importing(modules | models | {"levelfield.commands.cli"}, BEYOND_A_CONTAINER)
    assert done.returncode == 0, done.stderr
    inside = {name.partition(".")[0] for module in modules for name in imports(file_of(module))} - set(sys.stdlib_module_names)
    # pydantic in a method that pydantic alone calls, torch where a GPU is calibrated
    assert inside == {"levelfield", "numpy", "tqdm", "pynvml", "pydantic", "torch"}


def test_who_plans_needs_no_numpy():
    """What the Snakefile and its rules import: a host that runs containers has Snakemake alone."""
    workflow = [HOUSE.parent / "Snakefile", *(HOUSE.parent / "rules").glob("*.smk")]
    found = [match for file in workflow for match in STUDY.findall(file.read_text())]
    modules = {f"{module}.{name}" if file_of(f"{module}.{name}") else module for module, name in found}
    assert "levelfield.plan.plan" in modules
    done = importing(modules | {"levelfield.commands.images"}, BEYOND_A_PLANNER)
    assert done.returncode == 0, done.stderr
    study = {"study": "s", "cases": ["torch", "flax"], "vary": {"model": ["cnn", "transformer"]}}
    done = without(BEYOND_A_PLANNER, f"from levelfield.study.config import read_study; read_study({study}, 's.yaml').runs")
    assert done.returncode == 0, done.stderr


def test_what_a_backend_or_builder_declares_is_read_without_its_framework():
    code = "[registry.possible(b, m) for b in registry.backends() for m in registry.models()]"
    done = without(FRAMEWORKS, f"from levelfield import registry; {code}")
    assert done.returncode == 0, done.stderr
