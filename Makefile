# Everything a fresh machine needs is installed by these targets: Python 3.11 and pip are enough to begin with.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PORT   ?= 8501

.PHONY: help demo test torture check bench docs figures dist sbom lock chromium postgresql nginx clean

help:
	@echo "make demo   install, make a simulated screen, open the app on port $(PORT)"
	@echo "make test   install what the tests need (Chromium, PostgreSQL and nginx too) and run them all"
	@echo "make torture  10,000 bad inputs and 100 kills of each step, with a table; about an hour"
	@echo "make check  ruff, mypy, import contracts"
	@echo "make bench  the benchmarks"
	@echo "make docs   the documentation, in build/docs"
	@echo "make figures  measure the figures of README and pages anew (BBBC021=DIR for those of real cells)"
	@echo "make dist   sdist and wheel, checked, in dist"
	@echo "make sbom   what the run-time packages are, with licences, as CycloneDX: build/sbom.json"
	@echo "make lock   write requirements.lock and requirements-dev.lock anew"

$(VENV)/run.stamp: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/pip check
	@touch $@

demo: $(VENV)/run.stamp
	$(BIN)/cytovae demo --dir data/demo --port $(PORT)

# The browser tests drive Debian's Chromium, the quiz's tests Debian's PostgreSQL; nothing else is taken from the system.
chromium:
	@command -v chromium >/dev/null 2>&1 || { \
	  command -v apt-get >/dev/null 2>&1 || { \
	    echo "The browser tests need Chromium on the PATH as 'chromium', and there is no apt-get to install it with:"; \
	    echo "install Chromium by hand and run 'make test' again."; exit 1; }; \
	  SUDO=; [ "$$(id -u)" = 0 ] || SUDO=sudo; \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

# The tests start a server of their own, in a folder of their own.
postgresql:
	@command -v postgres >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { \
	  command -v apt-get >/dev/null 2>&1 || { \
	    echo "PostgreSQL's server is not installed, and there is no apt-get to install it with: its tests are skipped."; \
	    exit 0; }; \
	  SUDO=; [ "$$(id -u)" = 0 ] || SUDO=sudo; \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

# The proxy's configuration is tested before Debian's nginx, run as an ordinary user from a folder of the test's own.
nginx:
	@command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || { \
	  command -v apt-get >/dev/null 2>&1 || { \
	    echo "nginx is not installed, and there is no apt-get to install it with: the tests of the proxy are skipped."; \
	    exit 0; }; \
	  SUDO=; [ "$$(id -u)" = 0 ] || SUDO=sudo; \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends nginx-light >/dev/null || \
	    echo "nginx could not be installed: the tests of the proxy are skipped."; }

test: $(VENV)/dev.stamp chromium postgresql nginx
	$(BIN)/python -m pytest

# N, KILLS and SEED say how many inputs, how many kills of each step, and the first seed; LOG, where to go on after a break.
torture: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 nice $(BIN)/python -m tests.torture --inputs $(or $(N),10000) --kills $(or $(KILLS),100) --seed $(or $(SEED),0) $(if $(LOG),--log $(LOG))
	OMP_NUM_THREADS=1 nice $(BIN)/python benchmarks/load.py --soak --seed $(or $(SEED),0)
	CYTOVAE_RATERS=50 OMP_NUM_THREADS=1 nice $(BIN)/python -m pytest tests/app/test_quiz_load.py

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/dev.stamp
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(VENV)/dev.stamp
	$(BIN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

figures: $(VENV)/dev.stamp
	$(BIN)/python docs/figures.py measure $(if $(BBBC021),--bbbc021 $(BBBC021))

dist: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

sbom: $(VENV)/dev.stamp
	$(BIN)/python .ci/sbom.py build/sbom.json

lock:
	$(PYTHON) .ci/lock.py

clean:
	rm -rf $(VENV) data build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
