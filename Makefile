PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test lint check mutants clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt setup.sh
	./setup.sh $(PYTHON)

run: setup
	$(BIN)/inheritune run

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# All that must hold before anything lands. The tests pass in any order: here in two that nobody chose.
check: lint .venv/eval
	$(BIN)/python -m pytest --order reversed
	$(BIN)/python -m pytest --order 1

.venv/eval: setup
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[eval]'
	touch .venv/eval

# Small changes of our own code that no test notices (docs/results/mutants.md): hours, and goes on after a stop.
mutants: setup
	$(BIN)/python tests/mutants/run.py

clean:
	rm -rf .venv build
