#!/bin/sh
# Make the environment in $1 from requirements.lock, with the interpreter $2 or the first supported one found: what `make env` calls.
# Anything that is wrong is one line on the error stream; what pip said stays in a log.
set -u
venv=$1 wanted=${2:-}
supported='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
needed=8 # GB on Linux, where torch brings the libraries of a GPU

fail() {
  echo "environment: $1" >&2
  exit 1
}

if [ -n "$wanted" ]; then
  "$wanted" -c "$supported" >/dev/null 2>&1 || fail "$wanted is not Python 3.11, 3.12 or 3.13 ($("$wanted" --version 2>&1 | tail -n 1)); name another: make PYTHON=/path/to/python3.12 book"
  python=$wanted
else
  for python in python3 python3.13 python3.12 python3.11 python; do
    "$python" -c "$supported" >/dev/null 2>&1 && break
    python=
  done
  [ -n "$python" ] || fail "no Python 3.11, 3.12 or 3.13 found (python3 is $(python3 --version 2>&1 | tail -n 1)); install one, or name it: make PYTHON=/path/to/python3.12 book"
fi

if [ -n "$wanted" ] || ! "$venv/bin/python" -c "$supported" >/dev/null 2>&1; then
  echo "environment: $venv with $("$python" --version 2>&1)"
  said=$("$python" -m venv --clear "$venv" 2>&1) || fail "$venv could not be made: $(echo "$said" | tail -n 1) (Debian and Ubuntu: apt-get install python3-venv)"
  if [ "$(uname -s)" = Linux ]; then
    free=$(df -Pk "$venv" | awk 'NR == 2 {print int($4 / 1000000)}')
    [ "$free" -ge "$needed" ] || fail "$needed GB are needed, $free GB are free in $(cd "$venv" && pwd); free some, or put the checkout on a larger disk"
  fi
fi

log=$venv/install.log
echo "environment: installing requirements.lock (first time: about 7 GB on Linux, a few minutes)"
for what in "--requirement requirements.lock" "--no-deps --no-build-isolation --editable ."; do
  # shellcheck disable=SC2086
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $what >"$log" 2>&1; then
    why=$(grep -E "No space left|^ERROR" "$log" | tail -n 1)
    fail "pip install $what failed: ${why:-$(tail -n 1 "$log" 2>/dev/null)} (all it said: $log)"
  fi
done
touch "$venv/.installed"
echo "environment: ready"
