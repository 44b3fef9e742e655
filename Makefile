# `make demo` runs UNDO end to end; `make test` runs the tests. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/arithmetic
EXAMPLES ?= 2000
# Of the demo: 0 are as many as there are processors, at most 4.
WORKERS ?= 0
CONFIG ?= arithmetic:tiny
PIN ?=

.PHONY: demo test test-oldest test-newest fuzz kills check docs audit release format clean

demo: $(VENV)/.installed
	$(BIN)/undo-jax undo --config=$(CONFIG) --workdir=$(WORKDIR) --num_workers=$(WORKERS) $(ARGS)

# Programs as users compile them where that is what is tested, quickly compiled elsewhere.
test: $(VENV)/.tested
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -n auto $(ARGS) \
	  || test $$? = 5  # No test among those of ARGS.
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=25 $(ARGS)

# The same with the oldest and the newest Python and JAX, each in an environment of its own.
test-oldest:
	$(MAKE) test VENV=.venv-oldest PYTHON=python3.11 PIN='jax==0.10.* jaxlib==0.10.*'
test-newest:
	$(MAKE) test VENV=.venv-newest PYTHON=python3.13 PIN='jax jaxlib'

# Files of users with changed bytes, so many of each kind, drawn anew each time.
fuzz: $(VENV)/.tested
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n auto tests/mutated_files_test.py $(ARGS)

# Runs that are killed, told to stop, damaged and repeated, so many of each kind.
kills: EXAMPLES = 200
kills: $(VENV)/.tested
	KILLS=$(EXAMPLES) $(BIN)/python -m pytest -n auto tests/running/kills_test.py \
	  tests/cli/fresh_processes_test.py $(ARGS)

# Lint, format and types, as in pre-commit.
check: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The documentation as a site, site/index.html; any warning is an error.
docs: $(VENV)/.documented
	$(BIN)/zensical build --strict

# Security: ruff's S rules, and what a service on the network knows of dependencies.
audit: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/pip-audit --skip-editable

# Wheel and sdist in dist/, checked; `twine upload dist/*` publishes them.
release: $(VENV)/.developed
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

format: $(VENV)/.developed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: setup.py setup.cfg pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \
	  'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + \
	  '; give another one: make PYTHON=python3.12 ...')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)  # One that is there keeps its Python.
	$(BIN)/pip install --quiet --editable '.[run]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]' $(PIN)
	touch $@

$(VENV)/.developed: $(VENV)/.tested
	$(BIN)/pip install --quiet --editable '.[test,dev]'
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest build dist site *.egg-info
