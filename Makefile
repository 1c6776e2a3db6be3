PYTHON ?= python3
BIN := .venv/bin
ORDER ?= written
QUICK := $(addprefix tests/,choosing config decoder disk evidence records report training test_structure.py)

.PHONY: setup run test lint check mutants clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt setup.sh
	./setup.sh $(PYTHON)

run: setup
	$(BIN)/inheritune run

# ORDER: written, reversed, or a number that shuffles files and tests. A file's tests stay in one process, as its fixtures do.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --order $(ORDER) $(TESTS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# All that must hold before anything lands. The tests pass in any order: here all of them shuffled, and those of the quick rooms backwards.
check: lint .venv/eval
	$(MAKE) test ORDER=1
	$(MAKE) test ORDER=reversed TESTS="$(QUICK)"

.venv/eval: setup
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[eval]'
	touch .venv/eval

# Small changes of our own code that no test notices (docs/results/mutants.md): hours, and goes on after a stop.
mutants: .venv/eval
	$(BIN)/python tests/mutants/run.py

clean:
	rm -rf .venv build
