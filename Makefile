# Needs make and Python >= 3.11, nothing else. The first call of any target sets up .venv; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# The benchmarks' own environment: it holds Keras with all of its backends.
BENCH := .venv-bench
RACING := $(BENCH)/.ready
BENCHMARKS ?= peers training calls build cold_start soak
# Where pip's ordinary index offers CUDA builds only: make test TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_ARGS ?=

# One thread per test process: two processes share two cores. The oracle runs on torch.
test: export OMP_NUM_THREADS = 1
test: export KERAS_BACKEND = torch
bench: export OMP_NUM_THREADS = 1

.PHONY: help demo test lint types bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    build the example models in three styles, train them on handwritten digits, draw the curves"
	@echo "make test    run all tests: the package's, its docstrings', the documents' (ARGS='-k dense' for some)"
	@echo "make lint    ruff        make types   mypy"
	@echo "make bench   all benchmarks, beside Keras on its backends (BENCHMARKS=peers for some)   make clean   remove what make made, .venv included"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --constraint constraints.txt $(TORCH_ARGS) torch==2.13.0
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(PY) examples/train_digits.py

test: $(READY)
	$(PY) -m pytest $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .

types: $(READY)
	$(PY) -m mypy

$(RACING): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --constraint constraints.txt $(TORCH_ARGS) torch==2.13.0
	$(BENCH)/bin/python -m pip install --quiet --editable '.[bench]'
	@touch $@

bench: $(RACING)
	@cd benchmarks && for name in $(BENCHMARKS); do echo "== $$name"; ../$(BENCH)/bin/python $$name.py || exit 1; done

clean:
	rm -rf $(VENV) $(BENCH) output dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
