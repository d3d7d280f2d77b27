# make demo  pre-train a small SAIM, fine-tune it, draw what it does
# make test  run the tests
# make lint  check the style
# make docs  build docs/_build/index.html
# make help  these lines
# Each sets up what it needs in .venv; nothing else has to be installed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs help
demo: $(VENV)/.demo
	$(BIN)/python tools/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --quiet docs docs/_build

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.demo: EXTRAS = onedl,demo
$(VENV)/.docs: EXTRAS = onedl,docs
$(VENV)/.test: EXTRAS = onedl,detection,segmentation,demo,test
$(VENV)/.%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@
