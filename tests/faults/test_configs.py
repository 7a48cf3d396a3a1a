"""Mutated configs: valid, or one clear error that names file and key, in seconds; nothing is run, nothing written elsewhere."""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from checkout import Checkout
from mutated import NAMES, TRICKS, TWICE, mutant
from snakemake.exceptions import WorkflowError

from levelfield.commands.plan import read_config
from levelfield.errors import UserError
from levelfield.plan.plan import Plan
from levelfield.study.config import Study, read_study

SECONDS, CHARACTERS = 10.0 if "coverage" in sys.modules else 2.0, 4_000
"""CPU seconds of this process, whatever else the machine does, where its lines are counted more; and characters of an error."""
QUICK, WHOLE = 150, 1000


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """An empty working folder; the environment is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.delenv("LEVELFIELD_IMDB", raising=False)  # the checksum of an own file is kept in results/
    yield
    assert not list(tmp_path.iterdir()), "nothing was run, nothing written"


def planned(config: dict, source: str) -> str:
    """The error that the config gives, empty where it is valid: then all that the rules ask of it can be told."""
    began = time.process_time()
    try:
        plan = Plan.read(config, [source])
    except WorkflowError as error:
        told = str(error)
    else:
        told = ""
        assert Path(plan.folder).parent == Path("results") and Path(plan.folder).name not in (".", "..")
        assert plan.study_json and plan.data_json and plan.starts.names and plan.study.runs
        assert Study.model_validate_json(plan.study_json) == plan.study, "what is written is what was read"
        for name in plan.cases:
            case = SimpleNamespace(case=name, seed=plan.seeds[0])
            assert json.loads(plan.case_json(case), parse_constant=lambda number: 1 / 0)
            assert plan.starts.of_run(case) and plan.proof.of_case(case) is not None and plan.minutes(case, 1) > 0
        for case in plan.cases:
            assert "/" not in case and case not in (".", "..") and len(case.encode()) < 250
    assert time.process_time() - began < SECONDS
    return told


def clear(told: str, source: str) -> None:
    """One line, not too long, that names the file and a key."""
    lines = [line for line in told.splitlines() if line.strip()]
    assert len(lines) == 1 and len(told) < CHARACTERS and source in told, told[:2000]
    assert "Traceback" not in told and "pydantic" not in told, told


def check(seed: int) -> None:
    what, config = mutant(seed)
    try:
        if told := planned(config, "config/mutant.yaml"):
            clear(told, "config/mutant.yaml")
    except Exception as error:
        raise AssertionError(f"seed {seed}: {what}: {type(error).__name__}: {str(error)[:1500]}") from error


@pytest.mark.parametrize("first", range(0, QUICK, 50))
def test_mutants_are_valid_or_clearly_refused(first):
    for seed in range(first, first + 50):
        check(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(QUICK, WHOLE, 50))
def test_a_thousand_mutants(first):
    for seed in range(first, first + 50):
        check(seed)


def test_about_half_of_the_mutants_are_refused():
    """Else they would test nothing."""
    refused = sum(bool(planned(mutant(seed)[1], "m.yaml")) for seed in range(100))
    assert 30 < refused < 98


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]).replace("\\", "_"))
@pytest.mark.parametrize("of", ["study", "case", "backend", "key"])
def test_names_lead_nowhere(name, of):
    config = {"study": "s", "cases": ["torch"], "data": {"synthetic": True, "train": 64, "validation": 64}}
    config |= {"study": {"study": name}, "case": {"cases": [{"backend": "torch", "name": name}]}, "backend": {"cases": [name]},
               "key": {name: 1}}[of]  # fmt: skip
    if told := planned(config, "s.yaml"):
        clear(told, "s.yaml")


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.replace(" ", "-"))
def test_what_yaml_can_be_made_to_do(trick, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "trick.yaml"
    file.write_bytes(TRICKS[trick])
    began, told = time.process_time(), ""
    try:
        read_study(read_config(file), str(file))
    except UserError as error:
        clear(told := str(error), str(file))
    assert time.process_time() - began < SECONDS
    assert ("stands twice" in told) == (trick in TWICE) and told.endswith(TWICE.get(trick, ""))


JSON_WITH_TABS = b'{\n\t"study": "a",\n\t"cases": [{"backend":\t"torch", "backend": "jax"}]\n}\n'
"""JSON that is no YAML."""
LONG_KEY = b'{"%s"\n: 1, "%s"\n: 2}' % (b"x" * 5000, b"x" * 5000)
"""The same, and with no tabs either."""


@pytest.mark.parametrize(
    ("content", "told"),
    [*((TRICKS[trick], told) for trick, told in TWICE.items()),
     (JSON_WITH_TABS, "backend: stands twice, in line 3 and in line 3"), (LONG_KEY, "xxx': stands twice: leave one of them out")],
    ids=[*TWICE, "tabs", "a long key"],
)  # fmt: skip
def test_what_snakemake_would_take_the_last_of_is_refused(content, told, tmp_path_factory):
    """It has read the file already, and knows of one of the two alone."""
    file = tmp_path_factory.mktemp("config") / "twice.yaml"
    file.write_bytes(content)
    error = planned({"study": "b", "cases": ["torch"]}, str(file))
    clear(error, str(file))
    assert told in error


ONCE = [trick for trick in TRICKS if trick not in (*TWICE, "a megabyte")]


@pytest.mark.parametrize("trick", ONCE, ids=lambda trick: trick.replace(" ", "-"))
def test_what_stands_once_is_not_told_to_stand_twice(trick, tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "once.yaml"
    file.write_bytes(TRICKS[trick])
    assert not planned({"study": "b", "cases": ["torch"]}, str(file))


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", float("inf")), ("learning_rate", float("nan")), ("epsilon", float("inf")), ("epochs", 10**30),
     ("vocabulary", 10**18), ("length", 10**15), ("batch_size", 10**9), ("model", {"name": "bilstm", "units": 10**12})],
)  # fmt: skip
def test_numbers_that_no_machine_bears_are_refused(key, value):
    clear(told := planned({"study": "s", "cases": ["torch"], "protocol": {key: value}}, "s.yaml"), "s.yaml")
    assert key in told or "weights" in told


def test_three_thousand_cases_are_planned_in_seconds():
    vary = {"batch_size": list(range(1, 3001))}
    began = time.process_time()
    assert len(read_study({"study": "s", "cases": ["torch"], "vary": vary}, "s.yaml").runs) == 9000
    assert time.process_time() - began < SECONDS


REFUSED_BY_SNAKEMAKE = [
    "empty", "a list", "a word", "two documents", "a tab", "unclosed", "no text", "latin-1", "an object of Python", "a digit too many",
    "deep",
]  # fmt: skip
"""What Snakemake 9.27 refuses itself, in its own words and before the workflow is read; `levelfield plan` names the file."""


SAID = [*REFUSED_BY_SNAKEMAKE, *TWICE, "itself", "a billion laughs", "deep keys", *range(20)]


@pytest.mark.long
@pytest.mark.parametrize("which", SAID, ids=str)
def test_snakemake_itself_says_it(which, tmp_path_factory):
    """Through the real command: no Python traceback, nothing run, nothing outside the results."""
    checkout = Checkout.made(tmp_path_factory.mktemp("checkout"))
    file = checkout.folder / "config/mutant.yaml"
    if isinstance(which, str):
        file.write_bytes(TRICKS[which])
    else:
        file.write_text(yaml.dump(mutant(which)[1]), encoding="utf-8")
    before = {path for path in checkout.folder.rglob("*") if "__pycache__" not in path.parts}
    done = checkout.snakemake("-n", config="config/mutant.yaml")
    if which in REFUSED_BY_SNAKEMAKE:
        assert done.returncode and "Job stats" not in done.stdout
    elif which in TWICE:
        assert done.returncode and f"mutant.yaml: {TWICE[which]}" in done.stdout, done.stdout[-3000:]
    elif done.returncode:
        assert "Traceback" not in done.stdout and "mutant.yaml: " in done.stdout, done.stdout[-3000:]
    after = {path for path in checkout.folder.rglob("*") if "__pycache__" not in path.parts} - before
    assert not [path for path in after if path.relative_to(checkout.folder).parts[0] not in (".snakemake", "results")], after
