"""Retries of a real study whose environment contradicts it: no job of it is tried again. Nothing trains."""

import pytest
from checkout import Checkout

pytestmark = pytest.mark.long
CONTRADICTED = {"NVIDIA_TF32_OVERRIDE": "1"}
NOT_AGAIN = "would fail again, and is not tried again: "


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    made = Checkout.made(tmp_path)
    made.study(cases=["torch"], parity=False)
    return made


@pytest.mark.parametrize(("runs", "rule"), [("single", "train"), ("blocks", "block")])
def test_a_run_that_contradicts_its_environment_is_tried_once(checkout, runs, rule):
    done = checkout.snakemake("--retries", "2", "--config", f"runs={runs}", **CONTRADICTED)
    assert done.returncode != 0 and "Trying to restart" not in done.stdout, done.stdout[-3000:]
    assert f"({rule}) {NOT_AGAIN}" in done.stdout and "`unset NVIDIA_TF32_OVERRIDE`" in done.stdout


def test_a_proof_that_contradicts_its_environment_is_tried_once(checkout):
    checkout.study(cases=["torch"])
    done = checkout.snakemake("--retries", "2", **CONTRADICTED)
    assert done.returncode != 0 and "Trying to restart" not in done.stdout, done.stdout[-3000:]
    assert f"(parity) {NOT_AGAIN}levelfield parity: " in done.stdout
