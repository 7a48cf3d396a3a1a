"""What a record takes from the environment: what steers a framework, and nothing that may be a secret."""

import pytest

from levelfield.errors import without_secrets
from levelfield.measure.environment import SCHEDULER, steering
from levelfield.measure.steering import contradictions
from levelfield.study.protocol import Protocol

STEERS = {
    "OMP_NUM_THREADS": "2",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=false --xla_dump_to=/tmp/x",
    "NVIDIA_TF32_OVERRIDE": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "CUDA_VISIBLE_DEVICES": "GPU-1",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "MALLOC_ARENA_MAX": "1",
    "LD_PRELOAD": "/usr/lib/libtcmalloc.so.4",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "KMP_AFFINITY": "granularity=fine,compact",
}
SECRETS = (
    "NVIDIA_API_KEY", "NVIDIA_NGC_TOKEN", "TF_VAR_db_password", "TF_TOKEN_app_terraform_io", "TF_VAR_account", "TORCH_HUB_TOKEN",
    "KERAS_PASSWORD", "JAX_SECRET", "CUDA_CREDENTIALS", "XLA_AUTH", "PYTORCH_PAT", "TORCH_PASS", "MKL_APIKEY", "TF_COOKIE",
)  # fmt: skip
"""Names that begin as those of frameworks do; some are in use by other programs."""
TERRAFORM = (
    "TF_CLI_CONFIG_FILE",
    "TF_CLI_ARGS_plan",
    "TF_LOG",
    "TF_DATA_DIR",
    "TF_WORKSPACE",
    "TF_IN_AUTOMATION",
    "TF_REGISTRY_CLIENT_TIMEOUT",
)
FOREIGN = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY", "GITHUB_TOKEN", "HOME", "PATH", "USER", "SSH_AUTH_SOCK")


def test_what_steers_a_framework_is_recorded_as_it_stands():
    assert steering(STEERS) == dict(sorted(STEERS.items()))
    own = {"TINYGRAD_BEAM": "2", "TINYGRAD_TOKEN": "hunter2", "TINYGRAD_OTHER": "1"}
    assert steering(own) == {} and steering(own, ("TINYGRAD_BEAM", "TINYGRAD_TOKEN", "GONE")) == {"TINYGRAD_BEAM": "2"}


@pytest.mark.parametrize("name", [*SECRETS, *FOREIGN])
def test_what_may_be_a_secret_and_what_steers_nothing_is_not(name):
    assert steering(STEERS | {name: "hunter2"}) == dict(sorted(STEERS.items()))
    assert name not in SCHEDULER


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        ("http://ada:hunter2@proxy:3128", "http://***@proxy:3128"),
        ("--dump=s3://key:hunter2@bucket/x --on", "--dump=s3://***@bucket/x --on"),
        ("https://ada:p@hunter2@host/", "https://***@host/"),
        ("--remote_token=hunter2 --on", "--remote_token=*** --on"),
        ("api_key=hunter2&level=3", "api_key=***&level=3"),
        ("Password=hunter2,x", "Password=***,x"),
        ("/data/user@host/cache", "/data/user@host/cache"),
    ],
)
def test_a_secret_within_a_value_is_hidden(value, recorded):
    assert without_secrets(value) == recorded and steering({"XLA_FLAGS": value}) == {"XLA_FLAGS": recorded}


def test_a_variable_that_contradicts_the_study_is_told_without_its_secrets():
    (told,) = contradictions({"XLA_FLAGS": "--xla_cpu_enable_fast_math --remote_token=hunter2"}, Protocol())
    assert "hunter2" not in told and told.startswith("XLA_FLAGS=--xla_cpu_enable_fast_math --remote_token=*** ")


@pytest.mark.parametrize("name", TERRAFORM)
def test_terraforms_variables_are_none_of_tensorflows(name):
    assert steering({name: "x", "TF_CPP_MIN_LOG_LEVEL": "2"}) == {"TF_CPP_MIN_LOG_LEVEL": "2"}


def test_a_persons_own_folder_is_not_told():
    told = steering({"HOME": "/home/ada", "XLA_FLAGS": "--xla_dump_to=/home/ada/x", "KERAS_HOME": "/home/adam/k"})
    assert told == {"XLA_FLAGS": "--xla_dump_to=~/x", "KERAS_HOME": "/home/adam/k"}
