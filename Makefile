# make demo   simulate a small run and tune it
# make test   the tests
# make lint   ruff and mypy
# Each of them first sets up the virtual environment that it needs, where it is not there yet.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
WORKERS ?= $(shell nproc)

.PHONY: demo test test-all lint install clean

demo: install
	rm -rf demo
	$(BIN)/sfx-tuner demo -o demo

test: install
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not crystfel"

test-all: install
	$(BIN)/python -m pytest -n $(WORKERS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(READY)

# PyTorch comes first and by itself: asked for by another package, pip takes a build with
# gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sfx-tuner needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[test,lint,gp,train]'
	touch $(READY)

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
