"""Mutation testing, by hand: which small changes of the code that claims rest on does no test notice?

    python tests/mutants.py [pattern …]

mutmut changes a function at a time and runs the tests that call it. It wants the package beside or under `src/`, so all is copied into
`results/.mutants/`, where a second start goes on. Prints the survivors and, for each module, how many were noticed. A pattern such as
`levelfield.tell.power*` takes some of them.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "results/.mutants"
MODULES = {
    "tell/estimates.py": ["unit/test_estimates.py", "unit/test_properties.py"],
    "tell/power.py": ["unit/test_power.py"],
    "data/encode.py": ["unit/test_data_sequences.py", "unit/test_properties.py", "unit/test_data_archive.py"],
    "data/words.py": ["unit/test_data_text.py", "unit/test_properties.py"],
    "level/start.py": ["unit/test_start.py"],
    "records.py": ["unit/test_records.py"],
}
"""What is changed, and the tests that have to notice."""
CONFIG = """
[tool.mutmut]
source_paths = ["src/"]
only_mutate = {only}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not long"]
also_copy = ["config", "containers", "Snakefile", "workflow", "README.md", "results"]
process_isolation = "forkserver"
"""
RESULT = re.compile(r"^\s*(levelfield\S+?)\.(x\S*__mutmut_\d+): (.+)$", re.MULTILINE)
NOTICED = ("killed", "timeout", "segfault")


def prepared() -> None:
    """Copies what the tests need into the folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".mutants", "reference")
    for name in ("tests", "config", "containers", "workflow"):
        shutil.copytree(ROOT / name, FOLDER / name, ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(ROOT / "workflow/levelfield", FOLDER / "src/levelfield", ignore=ignored, dirs_exist_ok=True)
    (FOLDER / "results").mkdir(exist_ok=True)
    for name in ("Snakefile", "README.md", "results/README.md"):
        shutil.copy(ROOT / name, FOLDER / name)
    only = [f"src/levelfield/{module}" for module in MODULES]
    tests = sorted({f"tests/{test}" for found in MODULES.values() for test in found})
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (FOLDER / "pyproject.toml").write_text(project + CONFIG.format(only=only, tests=tests), encoding="utf-8")


def main(patterns: list[str]) -> int:
    prepared()
    subprocess.run(["mutmut", "run", *patterns], cwd=FOLDER, check=True)
    told = subprocess.run(["mutmut", "results", "--all", "true"], cwd=FOLDER, check=True, capture_output=True, text=True).stdout
    counts: dict[str, Counter[str]] = {}
    for module, mutant, status in RESULT.findall(told):
        if status == "not checked":
            continue
        counts.setdefault(module, Counter())[status] += 1
        if status not in NOTICED:
            print(f"{status}: {module}.{mutant}")
    for module, found in counts.items():
        print(f"{module}: {sum(found[status] for status in NOTICED)} of {found.total()} noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
