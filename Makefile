# Every target sets itself up: a machine needs Python 3.11+, git and make, nothing else.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport PYTHONDONTWRITEBYTECODE  # set in many containers; each stage would compile the package again

.DEFAULT_GOAL := help
.PHONY: help setup demo repro prove test check format lock deps ui clean-demo

help:  ## show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is written last, so an interrupted installation is done again; --require-hashes refuses anything the lock
# does not name.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "seesay needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(READY)  ## create .venv from requirements.lock (the other targets do this by themselves)

demo: $(READY)  ## run the whole pipeline on generated data, offline
	@seesay demo --jobs 2

repro: $(READY)  ## run what changed on the real data (MIRROR=<folder or URL> replaces the official download sites)
	@seesay repro

prove: $(READY)  ## run the tiny trainings behind proofs/ whose code changed; rewrites the proofs whose numbers moved
	dvc repro prove_classifiers prove_autoencoders prove_features prove_captioners prove_encoders

check: $(READY)  ## ruff, mypy, import-linter
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-logo 2>/dev/null || lint-imports

test: check  ## all checks and all tests (three processes keep two cores busy: some tests wait)
	pytest -n 3 --dist loadscope --no-loadscope-reorder

format: $(READY)  ## let ruff rewrite what it can
	ruff check --fix .
	ruff format .

lock: $(READY)  ## resolve requirements.lock anew (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header \
	  --upgrade -o requirements.lock pyproject.toml

deps: $(READY)  ## write the code that each stage depends on to dvc.yaml (after an import has changed)
	python tests/pipeline/code_dependencies.py

ui: $(READY)  ## open the MLflow UI on this repository's runs
	@seesay ui

clean-demo:  ## forget the demo's workspace
	rm -rf .work/demo
