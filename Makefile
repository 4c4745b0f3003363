# One set of names for people and CI. `make help` lists them.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml testkit/pyproject.toml setup.py requirements/dev.txt $(wildcard ext/crossdock/_ext/*) $(wildcard ext/tls/*.toml ext/tls/*.pyi ext/tls/src/*)

# pytest keeps the test modules that it has rewritten, for the next worker and run, unless this forbids it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo az-demo test build check audit format man docs wheels dist pytest test-az fuzz bench bench-kernels bench-smoke profile rivals clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/run.stamp ## copy a real image between two registries on this machine
	$(BIN)/crossdock demo

az-demo: $(VENV)/dev.stamp ## a cloud on this machine, and the documentation's commands by the real az
	scripts/az
	@$(BIN)/python scripts/az_demo.py

test: $(VENV)/dev.stamp ## everything CI runs: check, dist, pytest, test-az
	scripts/tools
	scripts/tls $(VENV) --required
	$(MAKE) check
	$(MAKE) dist
	$(MAKE) pytest
	$(MAKE) test-az
	$(MAKE) bench-smoke

build: $(VENV)/dev.stamp ## a virtual environment with the compiled kernels and all tools

check: $(VENV)/dev.stamp ## format, lint, types; stubs and layers are checked by tests/meta
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	scripts/tls $(VENV) --check

audit: $(VENV)/dev.stamp ## dependencies against the stored advisories, and against the public ones where a network is
	$(BIN)/pytest -q tests/meta/test_dependencies.py
	scripts/audit

format: $(VENV)/dev.stamp ## format the code and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

man: $(VENV)/dev.stamp ## the manual pages, into build/man
	$(BIN)/python scripts/man.py build/man

docs: $(VENV)/dev.stamp ## the documentation as a site, into build/site; its search works without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheels: ## sdist and wheels of all platforms, into dist/; installs each that runs here and copies an image with it
	python3 scripts/wheels.py $(TAGS)

dist: $(VENV)/dev.stamp ## sdist, a wheel from that sdist, and a clean install of the wheel
	scripts/dist

# Tests wait more than they work: more workers than processors. A worker and its servers take some 300 MB.
WORKERS := 4
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist worksteal
# Of the unit tests, those of the packages that use kernels run with their twins too.
USE_KERNELS := $(addprefix tests/unit/,kept registry runs store transfer transport test_verify.py)
pytest: $(VENV)/dev.stamp ## all tests compiled, those of kernels pure too, TLS without its engine
	CROSSDOCK_KERNELS=compiled $(PYTEST) tests --ignore=tests/az
	CROSSDOCK_KERNELS=pure $(PYTEST) tests/kernels $(USE_KERNELS)
	CROSSDOCK_TLS=ssl $(PYTEST) tests/integration/test_tls.py

# A file of tests stays in one process: each process has a cloud and a login of its own.
test-az: $(VENV)/dev.stamp ## the real az, installed by scripts/az, drives the service
	scripts/az
	$(BIN)/pytest -n 3 --dist loadfile tests/az

SECONDS := 60
fuzz: $(VENV)/dev.stamp ## the parsers under atheris, SECONDS=60 each; TARGETS="head link" choose, tests/fuzz/targets.py has them
	$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet 'atheris>=3'
	PYTHONPATH=tests:. $(BIN)/python -m fuzz $(SECONDS) $(TARGETS)

BENCH := quick
bench: $(VENV)/dev.stamp ## race the rivals and write the report; BENCH=full SCENARIO="layer small" RUNS=9 choose
	$(BIN)/python -m benchmarks run --size $(BENCH) $(SCENARIO:%=--scenario %) $(RUNS:%=--runs %)
	$(BIN)/python -m benchmarks report

bench-kernels: $(VENV)/dev.stamp ## time the kernels against their twins and hashlib, and write the report
	$(BIN)/python -m benchmarks kernels
	$(BIN)/python -m benchmarks report

bench-smoke: $(VENV)/dev.stamp ## one iteration of every kernel benchmark, to see that it works
	$(BIN)/pytest -q benchmarks/kernels --benchmark-disable

profile: $(VENV)/dev.stamp ## where CPU and bytes of a copy go: kinds of work, copies, imports, functions
	$(BIN)/python -m benchmarks profile

rivals: ## build into rivals/ what the benchmarks race against
	scripts/rivals

clean: ## remove what was built, the virtual environment too
	rm -rf $(VENV) build dist testkit/build ext/tls/target src/*.egg-info testkit/src/*.egg-info src/crossdock/_ext/*.so
	rm -rf .az .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .fuzz

# The stamps lie in the environment, so that removing it rebuilds it.
$(VENV)/run.stamp: $(SOURCES)
	scripts/venv $(VENV) .
	touch $@

$(VENV)/dev.stamp: $(SOURCES)
	scripts/venv $(VENV) '.[dev]'
	touch $(VENV)/run.stamp $@
