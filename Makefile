# One set of names for people and CI. `make help` lists them.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard ext/crossdock/_ext/*)

.PHONY: help demo test build check format dist pytest clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/run.stamp ## copy a real image between two registries on this machine
	$(BIN)/crossdock demo

test: $(VENV)/dev.stamp ## everything CI runs: check, dist, pytest
	scripts/tools
	$(MAKE) check
	$(MAKE) dist
	$(MAKE) pytest

build: $(VENV)/dev.stamp ## a virtual environment with the compiled kernels and all tools

check: $(VENV)/dev.stamp ## format, lint, types, stubs against compiled kernels
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest crossdock._ext \
		--ignore-disjoint-bases --ignore-unused-allowlist --allowlist scripts/stubtest.allow

format: $(VENV)/dev.stamp ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/dev.stamp ## sdist, a wheel from that sdist, and a clean install of the wheel
	scripts/dist

pytest: $(VENV)/dev.stamp ## all tests with compiled kernels, kernel and unit tests with the pure ones
	CROSSDOCK_KERNELS=compiled $(BIN)/pytest tests
	CROSSDOCK_KERNELS=pure $(BIN)/pytest tests/kernels tests/unit

clean: ## remove what was built, the virtual environment too
	rm -rf $(VENV) build dist src/*.egg-info src/crossdock/_ext/*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

# The stamps lie in the environment, so that removing it rebuilds it.
$(VENV)/run.stamp: $(SOURCES)
	scripts/venv $(VENV) .
	touch $@

$(VENV)/dev.stamp: $(SOURCES)
	scripts/venv $(VENV) '.[dev]'
	touch $(VENV)/run.stamp $@
