"""The house: imports run one way, frameworks stay in their files, and what runs where needs no more than there is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from levelfield import registry

PACKAGE = Path(registry.__file__).parent
ROOMS = (
    "commands", "export", "tell", "plan", "training", "measure", "level", "backends", "models", "data", "study", "images",
)  # fmt: skip
"""From the top down: each imports from those below it, and from the files beside them."""
ROOT = ("host", "registry", "records", "commit", "errors")
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "optax"}
YARDSTICK = {"measure/calibrate.py", "models/bilstm/bare.py"}
"""On a GPU PyTorch's cuBLAS and cuDNN measure what the machine can do, whichever framework is timed."""
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Modules that a file imports, inside functions, too; not those for type checkers alone."""
    tree, found = ast.parse(file.read_text(encoding="utf-8")), set()
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "levelfield" and len(parts) > 1 and parts[1] in ROOMS else None


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def test_every_file_lies_in_a_room():
    outside = {name(file) for file in FILES if file.parent == PACKAGE} - {f"{stem}.py" for stem in ROOT}
    assert outside == {"__init__.py", "__main__.py"}
    assert {file.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE} == set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_imports_run_one_way(file):
    parts = file.relative_to(PACKAGE).parts
    if name(file) == "__main__.py":
        return
    mine = ROOMS.index(parts[0]) if len(parts) > 1 else len(ROOMS)
    upward = {module for module in imported(file) if (found := room(module)) and ROOMS.index(found) < mine}
    assert not upward, f"{name(file)} reaches up to {upward}"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_framework_is_imported_by_its_own_files_alone(file):
    parts = file.relative_to(PACKAGE).parts
    own = name(file) in YARDSTICK or (parts[0] in ("models", "backends") and file.stem in FRAMEWORKS)
    found = {module.split(".")[0] for module in imported(file)} & FRAMEWORKS
    assert own or not found, f"{name(file)} imports {found}"


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.parent.name == "models" and f.stem in FRAMEWORKS], ids=name)
def test_a_builder_holds_the_model_and_nothing_else(file):
    own = {module for module in imported(file) if module.startswith("levelfield.")}
    allowed = ("levelfield.study.protocol", f"levelfield.models.{file.parent.name}", "levelfield.models.base")
    assert all(module.startswith(allowed) for module in own), own


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name != "backends"], ids=name)
def test_no_file_outside_backends_lists_backends(file):
    """Two names in one tuple, list, set or dictionary are a list that a new backend would have to be added to."""
    backends, published = set(registry.backends()), "study/published.py"
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        values = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else getattr(node, "keys", [])
        found = {value.value for value in values if isinstance(value, ast.Constant)} & backends
        # the bench's bars and the publications' sides name the cases that they are about
        assert len(found) < 2 or name(file) == published, f"{name(file)}:{node.lineno} lists {found}"


def imports_without(absent: list[str], *modules: str) -> subprocess.CompletedProcess:
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(modules)}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


OF_THE_HOST = ["pandas", "pydantic", "autograd", "scipy", "pyarrow", "altair", "requests", "yaml", "jinja2", "rich", "snakemake"]
RULES = [f"levelfield.commands.rules.{verb}" for verb in ("train", "parity", "exchange")]


def test_what_runs_inside_a_container_needs_numpy_and_little_more():
    done = imports_without(OF_THE_HOST, "levelfield.commands.cli", *RULES, "levelfield.training.train")
    assert done.returncode == 0, done.stderr


def test_what_plans_needs_no_numpy_and_no_framework():
    absent = ["numpy", "pandas", "pyarrow", "scipy", "autograd", "altair", *sorted(FRAMEWORKS)]
    done = imports_without(absent, "levelfield.plan.plan", "levelfield.plan.containers", "levelfield.plan.slurm")
    assert done.returncode == 0, done.stderr
    planned = "from levelfield.study.config import read_study; read_study({'study': 's', 'cases': ['torch', 'flax'], 'vary': {'model': ['cnn', 'transformer']}}, 'f')"
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); {planned}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_backend_or_builder_declares_is_read_without_its_framework():
    code = "import sys; from levelfield import registry as r; "
    code += "[r.possible(b, m) for b in r.backends() for m in r.models() if r.supports(b, m)]; "
    code += f"assert not {sorted(FRAMEWORKS)!r} or not set({sorted(FRAMEWORKS)!r}) & set(sys.modules), sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
