#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# What a container of the image runs: the command that it is given; without one, or with options alone, the answers to
# a test file: /input (TEST_FILE, FRAMES_ROOT), /model and /output, see run_submission.sh.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ $# -gt 0 && $1 != -* ]]; then
  exec "$@"
fi
export MODEL_PATH=${MODEL_PATH:-/model} FRAMES_ROOT=${FRAMES_ROOT:-/input} OUTPUT_DIR=${OUTPUT_DIR:-/output}
if [[ -z ${TEST_FILE:-} ]]; then
  shopt -s nullglob
  found=("$FRAMES_ROOT"/*.json)
  if ((${#found[@]} != 1)); then
    echo "entrypoint: $FRAMES_ROOT has ${#found[@]} .json files, expected one, or its name in TEST_FILE" >&2
    exit 2
  fi
  export TEST_FILE=${found[0]}
fi
exec bash examples/run_submission.sh "$@"
