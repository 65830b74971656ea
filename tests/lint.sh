#!/usr/bin/env bash
# What a machine can say about the text: style, types, who imports whom, which Python it needs. Called by `./dev lint`.
# All checks run even when one fails, so that one pass shows everything.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=$PWD/.venv/bin
PACKAGES=(contracts program signatures processing firmware_profiles edge_agent sync control_plane examples deploy)
WORKER=(processing edge_agent/inference/worker edge_agent/inference/wire.py edge_agent/inference/client.py)
AGENT=(contracts program signatures firmware_profiles edge_agent sync/codec.py sync/watermark.py sync/uplink)
failed=()

check() { # name, command...
  local name=$1
  shift
  printf '== %s\n' "$name"
  "$@" || failed+=("$name")
}

check "ruff check" "$BIN/ruff" check .
check "ruff format" "$BIN/ruff" format --check .
check "mypy --strict" "$BIN/mypy" --strict "${PACKAGES[@]}" tests docs
check "import contracts" "$BIN/lint-imports" --no-cache
check "vermin 3.8 (worker, processing)" "$BIN/vermin" --processes=2 -q --violations --no-tips -t=3.8- "${WORKER[@]}"
check "vermin 3.10 (agent)" "$BIN/vermin" --processes=2 -q --violations --no-tips -t=3.10- "${AGENT[@]}"

if [ ${#failed[@]} -gt 0 ]; then
  printf 'lint: failed: %s\n' "$(IFS=,; echo "${failed[*]}")"
  exit 1
fi
echo "lint: all checks passed"
