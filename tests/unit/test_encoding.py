"""Machines whose text is not UTF-8: the package names the encoding of all that it reads and writes, and no verb stops for a letter."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_study import make_study

import levelfield
from levelfield.commands.cli import GROUPS, verbs
from levelfield.tell.collect import collect

HOUSE = Path(levelfield.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
VERBS = [verb for package in GROUPS.values() for verb in verbs(package)]
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def untold(source: str) -> Iterator[str]:
    """`line: call` of each opening, reading or piping of text that names no encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        call, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        name, given = call.rpartition(".")[2], node.args if call != "open" else node.args[1:]
        mode = words.get("mode") or (ast.unparse(given[0]) if given else "'r'")
        # a member of an archive is opened by its name, and in bytes
        opens = name in ("open", "fdopen") and call not in ("os.open", "tarfile.open") and set(mode) <= set("rwxat+'")
        piped = name in ("run", "Popen", "check_output", "check_call", "call") and words.keys() & {"text", "universal_newlines"}
        whole = (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2)
        if opens or piped or whole:
            yield f"{node.lineno}: {call}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOUSE)))
def test_text_is_read_and_written_with_its_encoding_named(file):
    assert not list(untold(file.read_text(encoding="utf-8")))


def test_what_is_searched_for_would_be_found():
    source = "open(f)\nPath(f).open('w')\nf.read_text()\nf.write_text(t)\nrun(c, text=True)\nopen(f, 'rb')\narchive.open(name)\nf.read_text('utf-8')\nos.open(f, 0)\n"
    assert [line.split(":")[0] for line in untold(source)] == ["1", "2", "3", "4", "5"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoding") / "results/small"
    collect(make_study(folder, cases=["torch", "jax"], seeds=[0, 1], steps=4))
    return folder


def levelfield_of(locale: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    environment = os.environ | LOCALES[locale] | {"PYTHONPATH": str(HOUSE.parent)}
    return subprocess.run([sys.executable, "-m", "levelfield", *arguments], cwd=folder, env=environment, capture_output=True)


@pytest.mark.long
@pytest.mark.parametrize("locale", LOCALES)
def test_what_people_read_is_written_in_any_encoding(study, locale, tmp_path):
    (tmp_path / "small.yaml").write_text("# Größe\nstudy: small\ncases: [torch]\n", encoding="utf-8")
    for arguments in (
        ["--help"], ["plan", str(tmp_path / "small.yaml"), "--profile", str(HOUSE.parent / "profiles/slurm")],
        ["data", str(tmp_path / "small.yaml")], ["show", str(study)], ["runs", str(study)], ["compare", str(study), str(study)], ["tables", str(study)],
        ["keep", str(study), str(tmp_path / "kept")],
    ):  # fmt: skip
        done = levelfield_of(locale, *arguments, folder=tmp_path)
        said = done.stdout.decode("latin-1") + done.stderr.decode("latin-1")
        assert "Traceback" not in said and said.strip(), (arguments, said)
        assert done.returncode in (0, 2, 3), (arguments, said)


def test_every_verb_tells_its_help_in_ascii(tmp_path):
    code = "import sys\nfrom levelfield.commands.cli import main\nfor verb in sys.argv[1:]:\n    try: main([verb, '--help'])\n    except SystemExit as end: assert not end.code, verb"
    environment = os.environ | LOCALES["ascii"] | {"PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run([sys.executable, "-c", code, *VERBS], env=environment, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b"usage:") == len(VERBS)
