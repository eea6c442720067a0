# `make demo` and `make test` do all the set-up; `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PACKAGES := . $(sort $(wildcard plugins/*))
SOURCES := mscore tests $(wildcard plugins/*/mscore_plugin_*) $(wildcard plugins/*/tests)
TYPED := mscore $(wildcard plugins/*/mscore_plugin_*)
DEMO := unlock-pickup
# Most tests wait: for processes to start, to be killed, to write. So two run at a time; a file's stay together.
TEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Threads that spin while they wait take the core from whoever has work, on a machine that is shared.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help install demo test test-slow downstream lint format benchmark docs clean

help:
	@echo 'make install    make $(VENV) with every package editable, at the versions of constraints.txt'
	@echo 'make demo       record demonstrations, train on them, evaluate (a few minutes)'
	@echo 'make test       lint, types and the test suite'
	@echo 'make test-slow  fresh environments, matrices, kills by the dozen'
	@echo 'make lint       ruff and mypy;  make format: let ruff format'
	@echo 'make downstream each plugin'\''s own tests, from its wheel against the core'\''s wheel'
	@echo 'make docs       build the site into site/; a warning is an error'
	@echo 'make benchmark  print the ratios of tests/benchmarks'

install: $(INSTALLED)

# torch comes first and by its version: what other packages would choose can be gigabytes of CUDA libraries. So does
# crafter, which is source alone and needs what builds it.
$(INSTALLED): constraints.txt requirements-dev.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch hatchling editables crafter
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation \
		--requirement requirements-dev.txt $(foreach package,$(PACKAGES),--editable ./$(package))
	touch $@

demo: install
	$(BIN)/mscore run $(DEMO)
	$(BIN)/mscore evaluate runs/$(DEMO)/latest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(TEST) -m 'not slow' $(PYTEST_ARGS)

test-slow: install
	$(TEST) -m slow $(PYTEST_ARGS)

downstream: install
	$(BIN)/python -m pytest -m slow tests/packaging/test_wheels.py -k own_tests $(PYTEST_ARGS)

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: install
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
