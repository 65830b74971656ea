#!/usr/bin/env bash
# Every test: the device's code under its own older Pythons where this machine has them, then all of it under 3.11, the demo last.
# With arguments, only pytest with these arguments. `--prove` plants known bugs instead (tests/prove.py). Called by `./dev test`.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=$PWD/.venv/bin/python
VENVS=$(dirname "$(readlink -f .venv)")  # beside the main environment: other users can start these interpreters too
LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT
export SKERRY_NOT_RUN=$LOGS/not_run
: > "$SKERRY_NOT_RUN"
failed=0
closing=()

find_python() { # 3.10
  local found
  found=$(command -v "python$1") && "$found" -c '' 2>/dev/null && { echo "$found"; return; }
  for found in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do [ -x "$found" ] && { echo "$found"; return; }; done
  return 1
}

# Prints the interpreter of an environment with exactly the lock's packages, made when it is not there.
older_venv() { # 3.10 device-py310
  local base lock=locks/$2.txt venv=$VENVS/venv-$2 want
  base=$(find_python "$1") || return 1
  want=$(sha256sum "$lock" | cut -c1-64)
  if [ "$(cat "$venv/lock.sha256" 2>/dev/null)" != "$want" ]; then
    printf 'set-up: Python %s environment in %s\n' "$1" "$venv" >&2
    rm -rf "$venv"
    "$base" -m venv "$venv" && "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --require-hashes --no-deps -r "$lock" >&2 \
      || { printf 'set-up of Python %s failed\n' "$1" >&2; return 2; }
    printf %s "$want" > "$venv/lock.sha256"
  fi
  echo "$venv/bin/python"
}

run_pytest() { # name, interpreter, arguments...
  local name=$1 python=$2 rc
  shift 2
  printf '\n== %s\n' "$name"
  "$python" -m pytest -p no:cacheprovider --durations=15 --durations-min=5 "$@" 2>&1 | tee "$LOGS/out"
  rc=${PIPESTATUS[0]}
  [ "$rc" = 0 ] || failed=1
  closing+=("$name: $(grep -v '^\s*$' "$LOGS/out" | tail -1) (exit code $rc)")
}

run_older() { # 3.10 device-py310 what
  local python files rc
  python=$(older_venv "$1" "$2"); rc=$?
  if [ $rc = 1 ]; then echo "not run: no Python $1 on this machine ($3)" >> "$SKERRY_NOT_RUN"; return; fi
  if [ $rc != 0 ]; then failed=1; closing+=("Python $1: the environment could not be made"); return; fi
  export "SKERRY_PYTHON${1//./}=$python"
  mapfile -t files < <("$PYTHON" tests/suites.py "$2")
  if [ ${#files[@]} = 0 ]; then failed=1; closing+=("Python $1: no test file belongs to the suite"); return; fi
  run_pytest "Python $1: $3, ${#files[@]} files" "$python" "${files[@]}"
}

summary() {
  printf '\n== summary\n'
  sort -u "$SKERRY_NOT_RUN"
  echo "not run on any machine so far: Jetson boards, GPUs, TensorRT (README.md has the table)"
  printf '%s\n' "${closing[@]}"
}

if [ "${1:-}" = --prove ]; then shift; exec "$PYTHON" -m tests.prove "$@"; fi
if [ $# -gt 0 ]; then exec "$PYTHON" -m pytest "$@"; fi

run_older 3.8 device-py38 "the worker and processing"
run_older 3.10 device-py310 "the agent's code"
run_pytest "Python 3.11: everything" "$PYTHON" tests
summary
exit $failed
