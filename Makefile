# Two commands do everything on a machine with Python 3.11 to 3.13: `make book` and `make test`.
VENV := .venv
STAMP := $(VENV)/.installed
PYTHON ?=
# what `make check` runs: rules, templates, and the quickest tests of each floor
QUICK := $(addprefix tests/,test_house_rules.py test_layers.py test_readme.py book/test_checks.py environment/test_installation.py config \
  test_batch.py test_metrics.py marginals numerics truth copulas/test_oracles.py copulas/test_fast_path.py joint/test_density.py \
  tables/test_spec.py) \
  tests/book/test_chapters.py::test_the_template
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help book test check coverage portable mutants lint format figures env dist lock sbom clean

help:  ## This list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(STAMP)  ## Execute the chapters that changed, render the book, print its path.
	@env -u OMP_NUM_THREADS $(VENV)/bin/cm2 book

test: lint  ## Check the style, then run the tests in two processes.
	@echo "tests: $(VENV)/bin/pytest -n 2"
	@$(VENV)/bin/pytest -n 2

check: lint  ## A minute's worth of checks, for before a commit: style, chapters' templates, the quickest numerical tests.
	@echo "tests: $(VENV)/bin/pytest -n 2 $(QUICK)"
	@$(VENV)/bin/pytest -n 2 $(QUICK)

coverage: $(STAMP)  ## The tests again, counting the lines they reach: fails under 92 % (an hour).
	@$(VENV)/bin/pytest -n 2 --cov --cov-report=term

portable: $(STAMP)  ## Numerical tests and all chapters as other processors would compute them; a table of what differed (half an hour).
	@$(VENV)/bin/python .ci/portable.py

mutants: $(STAMP)  ## Change the code a little, in many places, and see whether a test notices (hours; continues where it stopped).
	@$(VENV)/bin/python .ci/mutants.py

lint: $(STAMP)  ## Check style and types only.
	@echo "style: ruff check, ruff format --check; types: mypy"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: $(STAMP)  ## Put the code into the project's format.
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

figures: $(STAMP)  ## Draw the paper's Figure 1 again (figures/figure-1.{svg,pdf,png,csv,json}); the others need a cohort: cm2 figure --help.
	@$(VENV)/bin/cm2 figure 1

env: $(STAMP)  ## Create .venv from requirements.lock and install this package into it.
	@echo "environment: $(VENV) is up to date"

$(STAMP): requirements.lock pyproject.toml .ci/environment.sh
	@sh .ci/environment.sh $(VENV) "$(PYTHON)"

dist: $(STAMP)  ## Build the sdist and the wheel from the tracked files, into dist/.
	@$(VENV)/bin/python .ci/release.py

lock: $(STAMP)  ## Write requirements.lock, with hashes, from what is installed in .venv; needs uv.
	@$(VENV)/bin/python .ci/lock.py > requirements.lock.part && mv requirements.lock.part requirements.lock
	@touch $(STAMP)

sbom: $(STAMP)  ## Write sbom.json, the software bill of materials (CycloneDX) of what is installed in .venv.
	@$(VENV)/bin/python .ci/sbom.py > sbom.json.part && mv sbom.json.part sbom.json
	@echo "wrote sbom.json"

clean:  ## Remove the rendered book and executed chapters; trained runs (.cm2) and .venv stay.
	@rm -rf _build
	@echo "removed _build"
