# One command each for a person. Every target makes the virtual environment it needs; nothing is installed by hand.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Tiny models are many times slower when two OpenMP threads wait for each other.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Tests start many processes; without bytecode on disk, where a machine asks for that, each compiles all that it imports.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help quickstart test test-slow test-kernels check format bench docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: $(VENV)/.run ## install, then turn the chat example into a fine-tuned model
	@VENV=$(VENV) sh scripts/quickstart.sh

test: $(VENV)/.dev ## all fast tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-slow: $(VENV)/.dev ## the long sweeps too
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "slow or not slow"

test-kernels: ## Liger's kernels, interpreted on this CPU (its own environment, because Triton is large)
	@$(MAKE) --no-print-directory VENV=.venv-kernels .venv-kernels/.kernels
	TRITON_INTERPRET=1 .venv-kernels/bin/python -m pytest -n 2 --dist worksteal -q tests/training/test_liger.py

check: $(VENV)/.dev ## ruff, mypy --strict, import-linter, no outputs in notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/strip_notebooks.py --check notebooks/*.ipynb
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## let ruff put the code in order, and take outputs out of notebooks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	-$(BIN)/python scripts/strip_notebooks.py notebooks/*.ipynb

bench: ## azft beside its peers, one table (its own environment, because the peers pull in a lot)
	@$(MAKE) --no-print-directory VENV=.venv-bench .venv-bench/.bench
	.venv-bench/bin/python benchmarks/run.py

docs: $(VENV)/.dev ## write the generated pages of docs/ anew
	PYTHONPATH=. $(BIN)/python scripts/generate_docs.py
	$(BIN)/python scripts/data_checks_page.py

clean: ## remove what these targets made
	rm -rf .venv .venv-bench .venv-kernels quickstart dist benchmarks/work .mypy_cache .ruff_cache .pytest_cache

$(VENV)/.torch: constraints.txt scripts/install_torch.sh
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sh scripts/install_torch.sh $(BIN)/python
	@touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml
	@echo "Installing azft into $(VENV) ..."
	@$(PIP) --editable '.[train,azure]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "Installing azft and its development tools into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.kernels: $(VENV)/.dev
	@$(PIP) --editable '.[kernels]'
	@touch $@

$(VENV)/.bench: $(VENV)/.torch pyproject.toml
	@echo "Installing azft and its peers into $(VENV) ..."
	@$(PIP) --editable '.[bench]'
	@touch $@
