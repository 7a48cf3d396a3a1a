"""Two studies are compared case by case; a slower case is exit code 1, and unequal conditions are refused."""

import pytest
from made_study import make_study

from levelfield.cli import main
from levelfield.collect import collect


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    made = {
        "before": {},
        "slower": {"speed": 1.1},
        "faster": {"speed": 0.8},
        "snippets": {"corpus": "VADER movie-review snippets"},
        "longer": {"epochs": 3},
        "few": {"seeds": [0, 1], "speed": 2},
    }
    for name, settings in made.items():
        collect(make_study(root / name, **{"seeds": range(4), "steps": 5} | settings))
    return root


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def compared(capsys, studies, *arguments) -> tuple[int, str]:
    before, after, *options = arguments
    code = main(["compare", str(studies / before), str(studies / after), *options])
    told = capsys.readouterr()
    return code, " ".join((told.out + told.err).split())


def test_a_slower_case_is_exit_code_1(capsys, studies):
    code, told = compared(capsys, studies, "before", "slower")
    assert code == 1 and "1.10 [1.10, 1.10]" in told and "slower" in told


def test_a_threshold_above_the_change_lets_it_pass(capsys, studies):
    code, told = compared(capsys, studies, "before", "slower", "--threshold", "0.2")
    assert code == 0 and "slower, within 20 %" in told


def test_a_faster_case_is_fine(capsys, studies):
    code, told = compared(capsys, studies, "before", "faster")
    assert code == 0 and "faster" in told


def test_other_data_is_refused_with_its_name(capsys, studies):
    code, told = compared(capsys, studies, "before", "snippets")
    assert code == 2 and "data: IMDB, 136 + 136 sequences" in told and "VADER snippets, not IMDB" in told and "--anyway" in told
    assert compared(capsys, studies, "before", "snippets", "--anyway")[0] == 0


def test_another_protocol_is_refused_with_its_name(capsys, studies):
    code, told = compared(capsys, studies, "before", "longer")
    assert code == 2 and "protocol.epochs: 2 and 3 (keras-tensorflow, torch)" in told


def test_too_few_seeds_claim_nothing(capsys, studies):
    code, told = compared(capsys, studies, "before", "few")
    assert code == 0 and "not enough seeds" in told
