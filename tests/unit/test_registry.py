"""What backends declare: an option says what it is like, and how it differs; what packages register, read without running it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from outside import registered

from levelfield import registry
from levelfield.errors import UserError
from levelfield.study.config import read_study

MINE = {
    "framework": "torch",
    "image": "torch",
    "environment": {"MINE": "1"},
    "options": {"depth": 1},
    "departures": ["clip-norm"],
    "devices": "own_rows:Several",
    "data_on": ["device"],
}


@contextmanager
def points(folder: Path, monkeypatch, group: str, **values: str) -> Iterator[None]:
    """Within the block a package registers these entry points."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    lines = [f'"{name}" = "{value}"' for name, value in values.items()]
    (project / "pyproject.toml").write_text(
        "\n".join(['[project]\nname = "own"\nversion = "0"', f'[project.entry-points."levelfield.{group}"]', *lines])
    )
    with registered(project, folder / "site", monkeypatch):
        yield


@contextmanager
def declared(rows: dict, folder: Path, monkeypatch, departures: dict | None = None) -> Iterator[None]:
    """Within the block a package of that folder is known, whose one module declares these rows, and describes these departures."""
    (folder / "project").mkdir()
    (folder / "project/own_rows.py").write_text(f"BACKENDS = {rows!r}\nOWN_DEPARTURES = {departures or {}!r}\n")
    with points(folder, monkeypatch, "backends", **dict.fromkeys(rows, "own_rows:Own")):
        yield


def test_an_option_is_as_its_row_but_for_what_it_says_and_for_several_devices(tmp_path, monkeypatch):
    fast = {"like": "mine", "environment": {"FAST": "1"}, "options": {"width": 2}}
    with declared({"mine": MINE, "mine-fast": fast}, tmp_path, monkeypatch):
        mine, found = registry.backend("mine"), registry.backend("mine-fast")
    assert (mine.module, mine.attribute, mine.devices, mine.like) == ("own_rows", "Own", "own_rows:Several", None)
    both = {"environment": {"MINE": "1", "FAST": "1"}, "options": {"depth": 1, "width": 2}}
    assert found == replace(mine, devices=None, like="mine", **both)


def test_an_option_of_a_package_may_be_like_a_row_of_ours(tmp_path, monkeypatch):
    with declared({"mine": {"like": "torch"}}, tmp_path, monkeypatch):
        assert registry.backend("mine") == replace(
            registry.backend("torch"), module="own_rows", attribute="Own", devices=None, like="torch"
        )


def test_a_row_that_says_nothing_has_builders_and_an_image_of_its_own_name(tmp_path, monkeypatch):
    with declared({"mine": {}}, tmp_path, monkeypatch):
        assert registry.backend("mine") == registry.Registered("own_rows", "Own", "mine", "mine")


def test_what_an_option_is_like_must_be_declared(tmp_path, monkeypatch):
    with (
        declared({"mine": {"like": "thorch"}}, tmp_path, monkeypatch),
        pytest.raises(UserError, match="'mine' is declared to be like 'thorch', which nobody declares"),
    ):
        registry.backends()


def test_a_package_may_describe_departures_of_its_own(tmp_path, monkeypatch):
    described = {"warm-start": ["Adam's moments begin at the first gradient.", "own documentation"]}
    mine = MINE | {"departures": ["clip-norm", "warm-start"]}
    with declared({"mine": mine, "mine-fast": {"like": "mine"}}, tmp_path, monkeypatch, described):
        for row in ("mine", "mine-fast"):
            found = registry.possible(row, "cnn")["warm-start"]
            assert (found.kind, found.meaning, found.reference) == ("optimiser", *described["warm-start"])
        assert "warm-start" in registry.departures() and "warm-start" not in registry.possible("torch", "cnn")
        study = read_study(
            {"study": "s", "protocol": {"data_on": "device"}, "cases": [{"backend": "mine", "departures": ["warm-start"]}]},
            "s.yaml",
        )
        assert [case.departures for case in study.expanded] == [("warm-start",)]
    assert "warm-start" not in registry.departures()


@pytest.mark.parametrize(
    ("departures", "described", "told"),
    [
        (["clip-norn"], {}, "own_rows: the backend 'mine' makes the departure 'clip-norn', which nobody describes"),
        ([], {"clip-norm": ["other", "else"]}, "own_rows describes the departure 'clip-norm', which is there already"),
    ],
)
def test_a_departure_is_described_once(tmp_path, monkeypatch, departures, described, told):
    with (
        declared({"mine": MINE | {"departures": departures}}, tmp_path, monkeypatch, described),
        pytest.raises(UserError, match=told),
    ):
        registry.departures()


def test_a_declaration_may_have_its_type_and_no_package_around_it_is_run(tmp_path, monkeypatch):
    package = tmp_path / "annotated_rows"
    (package / "inner").mkdir(parents=True)
    for folder in (package, package / "inner"):
        (folder / "__init__.py").write_text("raise ImportError('the framework is not here')\n")
    (package / "inner" / "rows.py").write_text(
        "BACKENDS: dict[str, dict] = {'mine': {}}\nLATER: int\nLATER = 5\nNEVER: int\nplain = other = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = "annotated_rows.inner.rows"
    assert registry.declared(module, "BACKENDS") == {"mine": {}} and registry.declared(module, "LATER") == 5
    assert registry.declared(module, "NEVER") is None
    assert registry.declared(module, "other") == 3 and registry.declared("annotated_rows.missing", "BACKENDS") is None
    assert not any(name.startswith("annotated_rows") for name in sys.modules)


def test_nobody_replaces_a_builder_unseen(tmp_path, monkeypatch):
    with (
        points(tmp_path, monkeypatch, "builders", **{"bilstm/torch": "own.fast_lstm"}),
        pytest.raises(
            UserError, match=r"levelfield\.models\.bilstm\.torch and own\.fast_lstm both build 'bilstm' with 'torch'"
        ),
    ):
        registry.builder_module("bilstm", "torch")


@pytest.mark.parametrize("name", ["onnx", "reference", "mistakes", "bare"])
def test_a_framework_is_not_named_as_another_part_of_a_model(name):
    with pytest.raises(UserError, match=f"a framework cannot be named '{name}'"):
        registry.builder_module("bilstm", name)


def test_a_model_has_one_name(tmp_path, monkeypatch):
    with (
        points(tmp_path, monkeypatch, "models", bag_of_words="levelfield.models.cnn"),
        pytest.raises(
            UserError, match="is registered as the model 'bag_of_words', its `MODEL` is named 'cnn', its sizes 'cnn'"
        ),
    ):
        registry.models()
