# Two commands for a new user: `make demo` and `make test`. Each sets up what it needs. `make test-all` also runs the
# exhaustive sweeps (the mark `slow`) and builds the site of the docs: before a release, and every night.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCHED := $(VENV)/.benched
DOCUMENTED := $(VENV)/.documented

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-all soak mutants lint types docs browser bench format clean

demo: $(INSTALLED)
	$(BIN)/steepest compare --task digits --out runs/demo

test: lint types browser
	$(PYTEST) -m "not slow"

test-all: lint types browser docs
	$(PYTEST)

# Kills 100 workers for each scheme of communication, and slows one down: about ten minutes. With MINUTES=30 it trains so
# long while others use all cores, instead.
soak: $(INSTALLED)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),0)

# Breaks 30 random lines of src, one at a time: which would the fast tests not notice? About half an hour.
mutants: $(INSTALLED)
	$(BIN)/python tests/mutation_check.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/pyright

# The site, in build/docs. A warning is an error: a link that leads nowhere, a name that the reference does not have.
docs: $(DOCUMENTED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site is in build/docs; python -m http.server --directory build/docs shows it with its search."

# For the tests of the report: the Chromium on the PATH, else Debian's package, else Playwright's own.
browser: $(INSTALLED)
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else \
	  $(BIN)/playwright install chromium; \
	fi

bench: $(BENCHED)
	$(BIN)/python -m benchmarks

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build runs .pytest_cache .ruff_cache .hypothesis

# torch first and alone: the pinned release has a CPU build where one is offered, and what comes after is content with it.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "steepest needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

$(BENCHED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	# Two peers ask for torchvision and do not need it here; a build for another torch breaks the import of transformers.
	$(BIN)/python -m pip uninstall --quiet --yes torchvision
	touch $@
