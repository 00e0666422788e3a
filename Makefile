# Everything runs from .venv, which the first `make test` or `make demo` creates (some minutes, most of
# them for torch). It is brought up to date when pyproject.toml or constraints.txt changes; otherwise
# that step costs nothing. No system packages are needed, only Python 3.11 or newer and a package index; with Chromium
# (apt install chromium) the page of `reverie report` is tested in a browser too, as CI does.

PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
BASE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PEERS := $(VENV)/.installed-peers
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# Two workers of one thread each: on small tensors more threads only wait for one another.
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint types doctest unit format peers clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(BASE)  ## train and sample a small model; look into runs/demo afterwards
	$(BIN)/python examples/demo.py --out runs/demo

test: lint types doctest unit  ## all that CI runs: the four below

lint: $(DEV)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)  ## mypy on the package
	$(BIN)/mypy

doctest: $(DEV)  ## the examples in the docstrings
	$(PYTEST) --doctest-modules reverie

unit: $(DEV)  ## the tests
	$(PYTEST)

format: $(DEV)  ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

peers: $(PEERS)  ## the libraries that benchmarks/samplers and benchmarks/training compare with; no test needs them

clean:  ## delete caches and build products (.venv and runs/ stay)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find reverie tests examples -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Reverie needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12"; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -f $(BIN)/python; \
	  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; \
	  exit 1; }

$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(BASE) $@

# These name torchvision, kornia, clip, wandb, pytorch-fid and more, which would bring another torch along and
# which nothing that is measured uses.
$(PEERS): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[peers]'
	$(PIP) --no-deps k-diffusion==0.1.1.post1 azula==0.11.1
	$(PIP) --no-deps denoising-diffusion-pytorch==2.3.4 ema-pytorch==0.8.3 smalldiffusion==0.5.0
	@touch $(BASE) $@
