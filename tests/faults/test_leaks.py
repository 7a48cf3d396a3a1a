"""No secret of the environment gets into a record, a log or the page: neither a variable that holds one nor a value with one in it."""

import json
from pathlib import Path

import pytest
from checkout import Checkout
from jobs import Tiny, levelfield

SECRET = "hunter2"
VARIABLES = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "HF_TOKEN": SECRET,
    "NVIDIA_API_KEY": SECRET,
    "TF_VAR_db_password": SECRET,
    "TORCH_HUB_TOKEN": SECRET,
    "SLURM_JWT": SECRET,
    "HTTP_PROXY": f"http://ada:{SECRET}@127.0.0.1:9",
    "HTTPS_PROXY": f"http://ada:{SECRET}@127.0.0.1:9",
    "PIP_INDEX_URL": f"https://ada:{SECRET}@127.0.0.1:9/simple",
    "XLA_FLAGS": f"--xla_dump_to=s3://ada:{SECRET}@bucket/dump",
    "TF_CPP_VMODULE": f"token={SECRET}",
}
"""Several begin as the variables do that are recorded, and the last two are recorded, without the secret."""


def leaks(folder: Path) -> list[str]:
    """The files that hold the secret."""
    return [str(file) for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.mark.long
def test_a_studys_records_logs_and_page_hold_no_secret(tmp_path):
    checkout = Checkout.made(tmp_path)
    checkout.study(cases=["torch"])
    done = checkout.snakemake(**VARIABLES)
    assert done.returncode == 0, done.stdout[-3000:]
    assert SECRET not in done.stdout and leaks(tmp_path) == []
    recorded = json.loads((tmp_path / "results/small/runs/torch/seed-0/run.json").read_text())["machine"]["environment"]
    assert recorded["XLA_FLAGS"] == "--xla_dump_to=s3://***@bucket/dump" and recorded["TF_CPP_VMODULE"] == "token=***"


def test_a_run_that_fails_tells_no_secret_either(tmp_path):
    tiny = Tiny.made(tmp_path)
    wrong = VARIABLES | {"XLA_FLAGS": f"{VARIABLES['XLA_FLAGS']} --xla_cpu_enable_fast_math"}
    done = tiny.train("jax", tmp_path / "run", environment=wrong)
    assert done.returncode == 2 and "ignore NaN" in json.loads((tmp_path / "run/failure.json").read_text())["error"]
    assert SECRET not in done.stdout and leaks(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("place", ["127.0.0.1:9", "#x@127.0.0.1:9", "/x@127.0.0.1:9", "127.0.0.1:99999"])
def test_a_proxys_password_is_not_told_where_nothing_can_be_fetched(tmp_path, place):
    """Where nobody listens; and where the address cannot be read, of which libraries tell all or parts."""
    out = ("--downloads", tmp_path / "downloads", "--out", tmp_path / "data")
    proxy = f"http://ada:{SECRET}{'' if '@' in place else '@'}{place}"
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
    done = levelfield("data", *out, environment=VARIABLES | proxies | {"LEVELFIELD_IMDB": "", "NO_PROXY": "", "no_proxy": ""})
    assert done.returncode == 2 and "can be had" in done.stdout, done.stdout
    assert SECRET not in done.stdout and leaks(tmp_path) == []
