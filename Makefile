PYTHON ?= python3
BIN := .venv/bin
ORDER ?= written
DEVICE ?= cpu
QUICK := $(addprefix tests/,choosing config decoder disk evidence records report training test_structure.py)

.PHONY: setup run test lint docs check mutants clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt setup.sh
	./setup.sh $(PYTHON)

run: setup
	$(BIN)/inheritune run

# DEVICE: cpu, or cuda (emulated where there is none) for the tests that are meant for a GPU, and these alone.
# ORDER: written, reversed, or a number that shuffles files and tests. A file's tests stay in one process, as its fixtures do, and the
# longest files come first, so that no process has one of them left when the others are done.
test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --order $(ORDER) --device $(DEVICE) $(TESTS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The site, in build/site: open index.html there. A link that leads nowhere, or a page without a place, is an error.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/docs: setup
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[docs]'
	touch .venv/docs

# All that must hold before anything lands. The tests pass in any order: here all of them shuffled, and those of the quick rooms backwards.
check: lint docs .venv/eval
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
