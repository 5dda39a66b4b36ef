#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# The tests, in an environment that is made when missing.
#
#   bash tests/run.sh                      # everything
#   bash tests/run.sh -m "not slow"        # without the real training runs; any pytest arguments
#   bash tests/run.sh --setup-only         # makes the environment and stops
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=examples/lib/environment.sh
source "$ROOT/examples/lib/environment.sh"

setup_only=
if [[ ${1:-} == --setup-only ]]; then
  setup_only=1
  shift
fi
ensure_environment auto report test
[[ -z $setup_only ]] || exit 0

cd "$ROOT"
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
echo "tests: python -m pytest $*" >&2
exec python -m pytest "$@"
