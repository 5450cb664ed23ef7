# Two commands matter: `make demo` and `make test`. Both build .venv on first use.
PYTHON ?= python3
EXTRAS ?= dev
VENV   := .venv
BIN    := $(VENV)/bin
comma  := ,
STAMP  := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
# One thread per process, processes in parallel: two OpenMP threads beside other work slow a training step several times.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
WORKERS ?= 2

.PHONY: demo test test-slow check bench docs clean

demo: $(STAMP)
	$(BIN)/equipoise demo

# Quick tests side by side; then, one after the other, what starts a cluster of its own and a short selection of the slow
# ones. `make test-slow` runs all of those.
SLOW ?= tests/test_demo.py

test: check
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not gpu and not slow and not ray" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -q -m "ray or slow" tests/runners $(SLOW) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	for b in benchmarks/[a-z]*.py; do $(BIN)/python $$b || exit 1; done

docs: $(STAMP)
	$(BIN)/equipoise docs docs/reference.md

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
