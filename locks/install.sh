#!/usr/bin/env bash
# Puts exactly a lock's packages into a virtual environment, checked by hash. Called by `./dev` and tests/run.sh.
# uv fetches and compiles several at once, which takes a third of pip's time. It does not read pip's configuration, so it is told where
# pip looks; whatever else keeps it from the packages, pip has the last word.
set -euo pipefail
venv=$1 lock=$2
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
exact=(--quiet --require-hashes --no-deps)

uv_of_the_lock() { # its requirement, hashes and all
  awk '/^uv==/ {inside = 1} inside {print} inside && !/\\$/ {exit}' "$lock"
}

find_uv() {
  [ -x .venv/bin/uv ] && { echo .venv/bin/uv; return; }
  "${pip[@]}" install "${exact[@]}" -r <(uv_of_the_lock) >&2 && echo "$venv/bin/uv"
}

by_uv() {
  local uv index
  uv=$(find_uv) || return 1
  index=$("${pip[@]}" config list | sed -n "s/^.*\.index-url='\(.*\)'$/\1/p" | tail -1)
  [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  "$uv" pip install --no-cache --compile-bytecode "${exact[@]}" --python "$venv/bin/python" -r "$lock" >&2
}

by_uv || "${pip[@]}" install "${exact[@]}" -r "$lock" >&2
