PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test lint clean

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

clean:
	rm -rf .venv build
