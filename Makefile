# make demo   a real Llama learns facts, is asked, forgets them again (about 5 minutes, mostly downloads)
# make test   everything but the slow tests, in .venv; then the ops again as Triton kernels, in the interpreter
# make slow   the tests that take minutes (CI runs them too)
# make lint   style, types, import contracts
# make bench  speed and memory: what a user waits for, then the ops against what others do
# Needs only Python 3.10 to 3.13 (with venv and pip) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
STORE ?= demo-store
# Tests of tiny models keep to one thread each, so two processes share the cores; the real model takes them all.
SPREAD := --numprocesses 2 --dist loadfile
# Triton exists for Linux only. Its interpreter has to be chosen before the kernels are imported.
ifeq ($(shell uname),Linux)
TRITON_TESTS := TRITON_INTERPRET=1 MEMEDIT_KERNELS=triton $(BIN)/python -m pytest $(SPREAD) tests/ops -m "not slow"
else
TRITON_TESTS := @echo "tests/ops were not run on Triton: it exists for Linux only"
endif
QUESTION ?= If you live in Nouadhibou, your country is

.PHONY: demo test slow lint bench clean
.DEFAULT_GOAL := test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "memedit needs Python 3.10 to 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Without development tools: enough for the demo.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/installed $@

demo: $(VENV)/installed
	rm -rf $(STORE)
	$(BIN)/memedit models pull smollm2-135m
	$(BIN)/memedit inject examples/facts.jsonl --model smollm2-135m --store $(STORE) --allow-unlearned
	@echo; echo "== a wording that was never trained, with the edit and without it"
	$(BIN)/memedit ask "$(QUESTION)" --store $(STORE)
	$(BIN)/memedit ask "$(QUESTION)" --store $(STORE) --without 1
	$(BIN)/memedit log --store $(STORE)
	@echo; echo "== and back"
	$(BIN)/memedit undo --store $(STORE)
	$(BIN)/memedit ask "$(QUESTION)" --store $(STORE)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not model"
	$(TRITON_TESTS)
	$(BIN)/python -m pytest -m "model and not slow"

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

# mypy cannot follow setuptools' editable finder, so it gets a link from the import name to the folder.
lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(VENV)/typing && ln -sfn ../../kernels $(VENV)/typing/memedit_kernels
	$(BIN)/mypy
	MYPYPATH=recipes $(BIN)/mypy recipes
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks
	$(PIP) -e '.[dev,bench]'
	$(BIN)/python -m benchmarks.ops

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf $(STORE)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
