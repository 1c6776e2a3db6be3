#!/bin/sh
# What one GPU tells in eight minutes, with nothing fetched: the tests for a device, then speed, profile, diagnosis and memory.
#
#     benchmarks/gpu_check.sh [OUT]        on a machine with a GPU, in the project's environment
#     benchmarks/gpu_check.sh OUT tiny     the same sections on tiny models, on whatever device there is
#
# OUT (gpu_check/ if not given) gets summary.txt and tests.txt.
set -eu
cd "$(dirname "$0")/.."
out=${1:-gpu_check} python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
[ -x "$python" ] || python=python3
if [ "${2:-}" != tiny ]; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    timeout 150 "$python" -m pytest --device cuda tests/device > "$out/tests.txt" 2>&1 || echo "tests/device: failed, see $out/tests.txt"
    tail -n 1 "$out/tests.txt"
fi
timeout 300 "$python" benchmarks/gpu_check.py ${2:+--tiny} | tee "$out/summary.txt"
