# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Sourced by the scripts: looks whether the active Python has what they need, and says what to install where not.
#
#   ensure_environment [cpu|gpu|auto] [EXTRA...]       # EXTRA: report, test (requirements-EXTRA.txt)

_ENVIRONMENT_FOLDER=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ensure_environment() {
  local kind=${1:-auto} extra files=("$_ENVIRONMENT_FOLDER/requirements.txt")
  (($# == 0)) || shift
  [[ $kind != gpu ]] || set -- gpu "$@"
  for extra in "$@"; do
    files+=("$_ENVIRONMENT_FOLDER/requirements-$extra.txt")
  done
  PYTHON=$(command -v python) || { echo "environment: no python on PATH" >&2; return 2; }
  export PYTHON
  "$PYTHON" - "$_ENVIRONMENT_FOLDER/REQUIRED_VERL.txt" "${files[@]}" <<'PY' || return 2
import re
import sys
from importlib.metadata import PackageNotFoundError, version

required = dict(line.split("=", 1) for line in open(sys.argv[1]) if "=" in line and not line.startswith("#"))
problems, lines = [], [line.split("#")[0].strip() for name in sys.argv[2:] for line in open(name)]
for name in [re.match(r"[A-Za-z0-9._-]+", line).group() for line in lines if line]:
    try:
        version(name)
    except PackageNotFoundError:
        problems.append(f"{name} is not installed")
try:
    found = version("verl")
    if "v" + found != required["TAG"].strip():
        problems.append(f"verl is {found}, expected {required['TAG'].strip()}")
except PackageNotFoundError:
    problems.append(f"verl is not installed: {required['PIP_INSTALL'].strip()}")
if sys.version_info < (3, 11):
    problems.append("Python is %d.%d, expected 3.11 or later" % sys.version_info[:2])
if problems:
    problems.append("install what is missing: pip install " + " ".join("-r " + name for name in sys.argv[2:]))
    sys.exit("\n".join("environment: " + line for line in problems))
PY
}
