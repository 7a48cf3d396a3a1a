# make run: a first result in minutes. make test: the everyday tests. make test-all: containers, cluster, browser, too.
PYTHON ?= python3
CORES ?= 4
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: run setup test test-all long-jobs long-images long-rest faults coverage mutants bench gpu cuda-images locks clean

run: setup
	snakemake --cores $(CORES) --configfile config/quick.yaml
	@levelfield show results/quick

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --disable-pip-version-check -q -e '.[frameworks,export,test]'
	touch $@

# PyTorch's threads spin while they wait for each other: where several programs share two cores they take ten times their time. Tests alone,
# which rely on no time; what is measured (`run`, `bench`, `gpu`) is left as its users have it
test long-jobs long-images long-rest faults coverage mutants: export OMP_WAIT_POLICY := PASSIVE

test: setup
	pytest -n 2 --dist loadfile -m "not long" tests

# three streams beside each other, each with its own locks: on two cores, since jobs mostly wait for their schedulers
test-all: test
	$(MAKE) -j3 long-jobs long-images long-rest

JOBS := tests/cluster tests/workflow
IMAGES := tests/containers tests/page tests/faults
LONG = LEVELFIELD_LOCKS=$$(mktemp -d) pytest -m long --durations 10

long-jobs: setup
	$(LONG) $(JOBS)

long-images: setup
	$(LONG) $(IMAGES)

long-rest: setup
	$(LONG) tests $(JOBS:%=--ignore=%) $(IMAGES:%=--ignore=%)

# everything that is thrown at it, the long tables too, and every framework with every model
faults: setup
	LEVELFIELD_KILLS=50 LEVELFIELD_FAULTS=all pytest tests/faults tests/parity

# which lines of the package the tests run, in the processes that they start, too
coverage: setup
	pytest -n 2 --dist loadfile --cov --cov-report term:skip-covered --cov-fail-under 95 tests/unit tests/faults tests/parity tests/workflow

# small changes of statistics, data, records and start, each of which some test has to notice
mutants: setup
	pip install -q mutmut==3.8.1
	python tests/mutants.py

bench: setup
	levelfield bench

# needs no network: the packages that are there
gpu:
	PYTHONPATH=workflow $(PYTHON) -m levelfield gpu

# the three CUDA images where no registry can be reached, and every backend tried in them on the CPU
CUDA_BASE := results/.images/base
cuda-images: setup
	@test -d $(CUDA_BASE) || levelfield images base $(CUDA_BASE)
	levelfield images build --kind cuda --base $(CUDA_BASE)
	levelfield images try --kind cuda --base $(CUDA_BASE)

# resolved with Python 3.11 by a pip that reads metadata alone
locks: setup
	pip install -q --upgrade pip
	levelfield images lock

clean:
	rm -rf .venv .snakemake .pytest_cache .ruff_cache
