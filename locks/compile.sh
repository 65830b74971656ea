#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml: one per target, with hashes and without addresses. Called by `./dev lock`.
# Versions that stand in a lock stay while they satisfy pyproject.toml; `./dev lock --upgrade` takes the newest that do.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() { # lock, Python, extras...
  local lock=$1 python=$2 extra extras=()
  shift 2
  for extra in "$@"; do extras+=(--extra "$extra"); done
  printf 'lock: locks/%s.txt (Python %s: %s)\n' "$lock" "$python" "$*" >&2
  .venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header "${UPGRADE[@]}" \
    --python-version "$python" \
    "${extras[@]}" --output-file "locks/$lock.txt" pyproject.toml >/dev/null
}

UPGRADE=("$@")
compile device-py38 3.8 onnx test               # the worker and what it shares with the cloud
compile device-py310 3.10 device onnx oip video test  # the agent, its worker and its pipeline
compile control-py311 3.11 control lake build   # the programs in the cloud
compile dev-py311 3.11 dev                      # all of it, with the tools
