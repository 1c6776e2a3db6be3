#!/bin/sh
# Makes .venv with everything that running and testing need. Torch comes first and exact: without a GPU its CPU build,
# since an open range would fetch gigabytes of CUDA.
set -eu
python=${1:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: Python 3.11 or newer is needed: make PYTHON=python3.11 setup" >&2; exit 1; }

echo "setup: making .venv, with PyTorch first: minutes, and about a gigabyte where it is not cached" >&2
"$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
torch=$(grep '^torch==' constraints.txt)

if ! command -v nvidia-smi > /dev/null 2>&1; then
    pip install --quiet --retries 0 --timeout 15 --index-url https://download.pytorch.org/whl/cpu "$torch" 2> /dev/null ||
        echo "setup: PyTorch's index of CPU builds is out of reach, so the default index is used" >&2
fi
pip install --quiet "$torch"
echo "setup: the rest of what pyproject.toml names" >&2
pip install --quiet --constraint constraints.txt --editable '.[dev,gguf]'
touch .venv/ready
echo "setup: ready, .venv/bin/inheritune --help"
