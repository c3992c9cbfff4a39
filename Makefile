# Two commands do everything on a machine with Python 3.11 to 3.13: `make book` and `make test`.
VENV := .venv
STAMP := $(VENV)/.installed
PYTHON ?=
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help book test lint format figures env lock clean

help:  ## This list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(STAMP)  ## Execute the chapters that changed, render the book, print its path.
	@env -u OMP_NUM_THREADS $(VENV)/bin/cm2 book

test: lint  ## Check the style, then run the tests in two processes.
	@echo "tests: $(VENV)/bin/pytest -n 2"
	@$(VENV)/bin/pytest -n 2

lint: $(STAMP)  ## Check the style only.
	@echo "style: ruff check, ruff format --check"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: $(STAMP)  ## Put the code into the project's format.
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

figures: $(STAMP)  ## Draw the paper's Figures 1 and 2 again (figures/figure-2.{svg,pdf,png,json}); 3 to 5 need a cohort: cm2 figure --help.
	@$(VENV)/bin/cm2 figure 1
	@$(VENV)/bin/cm2 figure 2

env: $(STAMP)  ## Create .venv from requirements.lock and install this package into it.
	@echo "environment: $(VENV) is up to date"

$(STAMP): requirements.lock pyproject.toml
	@python=""; \
	for candidate in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python; do \
	  if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 found (python3 is $$(python3 --version 2>&1)). Install one, or name it: make PYTHON=/path/to/python3.12 book" >&2; exit 1; \
	fi; \
	if ! $(VENV)/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1; then \
	  echo "environment: $(VENV) with $$($$python --version)"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo "environment: installing requirements.lock (first time: about 7 GB on Linux, a few minutes)"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "environment: ready"

lock: $(STAMP)  ## Write requirements.lock from what is installed in .venv.
	@$(VENV)/bin/python .ci/lock.py > requirements.lock.part && mv requirements.lock.part requirements.lock
	@touch $(STAMP)

clean:  ## Remove the rendered book and executed chapters; trained runs (.cm2) and .venv stay.
	@rm -rf _build
	@echo "removed _build"
