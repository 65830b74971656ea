#!/usr/bin/env bash
# Every test under 3.11, the demo last; beside its first minutes the device's code under its own older Pythons, where this machine has them.
# With arguments, only pytest with these arguments. `--prove` plants known bugs instead (tests/prove.py). Called by `./dev test`.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=$PWD/.venv/bin/python
VENVS=$(dirname "$(readlink -f .venv)")  # beside the main environment: other users can start these interpreters too
LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT
export SKERRY_NOT_RUN=$LOGS/not_run
: > "$SKERRY_NOT_RUN"
touch "$LOGS/closing" "$LOGS/failed"

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
    "$base" -m venv "$venv" && bash locks/install.sh "$venv" "$lock" || { printf 'set-up of Python %s failed\n' "$1" >&2; return 2; }
    printf %s "$want" > "$venv/lock.sha256"
  fi
  echo "$venv/bin/python"
}

close_with() { # exit code, line of the summary
  [ "$1" = 0 ] || echo "$2" >> "$LOGS/failed"
  echo "$2" >> "$LOGS/closing"
}

run_pytest() { # name, interpreter, arguments...
  local name=$1 python=$2 out rc
  out=$(mktemp -p "$LOGS")
  shift 2
  printf '\n== %s\n' "$name"
  "$python" -m pytest -p no:cacheprovider --durations=15 --durations-min=5 "$@" 2>&1 | tee "$out"
  rc=${PIPESTATUS[0]}
  close_with "$rc" "$name: $(grep -v '^\s*$' "$out" | tail -1) (exit code $rc)"
}

make_older() { # 3.10 device-py310 what
  local rc
  older_venv "$1" "$2" > "$LOGS/$2"; rc=$?
  if [ $rc = 1 ]; then echo "not run: no Python $1 on this machine ($3)" >> "$SKERRY_NOT_RUN"; return; fi
  [ $rc = 0 ] || close_with $rc "Python $1: the environment could not be made"
}

run_older() { # 3.10 device-py310 what
  local python files
  python=$(cat "$LOGS/$2")
  [ -n "$python" ] || return 0
  mapfile -t files < <("$PYTHON" tests/suites.py "$2")
  if [ ${#files[@]} = 0 ]; then close_with 1 "Python $1: no test file belongs to the suite"; return; fi
  run_pytest "Python $1: $3, ${#files[@]} files" "$python" "${files[@]}"
}

summary() {
  printf '\n== summary\n'
  sort -u "$SKERRY_NOT_RUN"
  echo "not run on any machine so far: Jetson boards, GPUs, TensorRT (README.md has the table)"
  sort --version-sort "$LOGS/closing"
}

if [ "${1:-}" = --prove ]; then shift; exec "$PYTHON" -m tests.prove "$@"; fi
if [ $# -gt 0 ]; then exec "$PYTHON" -m pytest "$@"; fi

make_older 3.8 device-py38 "the worker and processing" &
make_older 3.10 device-py310 "the agent's code" &
wait
SKERRY_PYTHON38=$(cat "$LOGS/device-py38")
export SKERRY_PYTHON38
# These need one core, and so do the first minutes of the rest, which start few programs.
{
  run_older 3.8 device-py38 "the worker and processing"
  run_older 3.10 device-py310 "the agent's code"
} > "$LOGS/older" &
older=$!
run_pytest "Python 3.11: everything" "$PYTHON" tests
wait "$older" || close_with 1 "the older Pythons: not all of it ran"
cat "$LOGS/older"
summary
[ ! -s "$LOGS/failed" ]
