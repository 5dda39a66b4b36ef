# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Sourced by the scripts: checks that the active Python has what they need, and says what to install where it has not.
#
#   ensure_environment [cpu|gpu|auto] [EXTRA...]       # EXTRA: report, test (requirements-EXTRA.txt)

_ENVIRONMENT_FOLDER=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ensure_environment() {
  local extra files=("$_ENVIRONMENT_FOLDER/requirements.txt")
  [[ ${1:-} != gpu ]] || files+=("$_ENVIRONMENT_FOLDER/requirements-gpu.txt")
  for extra in "${@:2}"; do files+=("$_ENVIRONMENT_FOLDER/requirements-$extra.txt"); done
  PYTHON=$(command -v python) || { echo "environment: no python on PATH" >&2; return 2; }
  export PYTHON
  "$PYTHON" - "$_ENVIRONMENT_FOLDER/REQUIRED_VERL.txt" "${files[@]}" <<'PY' || return 2
import re, sys
from importlib.metadata import PackageNotFoundError, version

def installed(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None

tag = re.search(r"^TAG=v(\S+)", open(sys.argv[1]).read(), re.MULTILINE)[1]
names = [name for file in sys.argv[2:] for name in re.findall(r"^[\w.-]+", open(file).read(), re.MULTILINE)]
problems = [f"{name} is not installed" for name in names if installed(name) is None]
if installed("verl") != tag:
    problems.append(f"verl is {installed('verl')}, expected {tag}: pip install verl=={tag}")
if sys.version_info < (3, 11):
    problems.append("Python is %d.%d, expected 3.11 or later" % sys.version_info[:2])
if problems:
    problems.append("install what is missing: pip install " + " ".join("-r " + file for file in sys.argv[2:]))
    sys.exit("\n".join("environment: " + line for line in problems))
PY
}
