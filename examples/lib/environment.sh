# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Sourced by the scripts. Gives them a python that has verl and everything this checkout imports:
#
#   source examples/lib/environment.sh
#   ensure_environment [cpu|gpu|auto] [EXTRA...]       # EXTRA: report, test (see pyproject.toml)
#
# An active environment (virtual environment, conda, or `python` on PATH) that has the right verl is used as it is.
# Otherwise `.venv` in the checkout is, made and filled on the first call and only looked at on later ones. Nothing of
# this checkout is installed, only what it needs, so an installed copy can never stand in front of the files here.
#
#   MEDGRPO_ENV=cpu|gpu   which pinned set, constraints/cpu.txt or constraints/gpu.txt (default: by `nvidia-smi -L`)
#   PYTHON=/path/python   the interpreter that `.venv` is made with
#
# Packages come as pip is configured on the machine: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_CERT,
# PIP_NO_INDEX, pip.conf. `torch` is asked for by its plain name: a CPU build comes where these settings offer one
# (PyTorch's own index has them, or a folder of wheels), else the index's ordinary build, which is several GB larger
# and runs on a CPU as well.

_ENVIRONMENT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
_ENVIRONMENT_PYTHONS="3.11 3.12"      # as requires-python in pyproject.toml
_ENVIRONMENT_VERL=0.9.1
_ENVIRONMENT_GB_CPU=4                 # free disk space that a new environment needs
_ENVIRONMENT_GB_GPU=20

_environment_say() { printf 'environment: %s\n' "$*" >&2; }

# _environment_probe PYTHON: "VERSION venv|novenv VERL|-"; fails where PYTHON does not start. Reads as any Python 3.
_environment_probe() {
  "$1" - 2>/dev/null <<'PY'
import sys
try:
    import ensurepip, venv
    makes_venv = "venv"
except ImportError:
    makes_venv = "novenv"
try:
    from importlib.metadata import version
    verl = version("verl")
except Exception:
    verl = "-"
print("%d.%d.%d %s %s" % (tuple(sys.version_info[:3]) + (makes_venv, verl)))
PY
}

_environment_supported() {
  case " $_ENVIRONMENT_PYTHONS " in *" ${1%.*} "*) return 0 ;; *) return 1 ;; esac
}

# _environment_requirements PYTHON EXTRA...: the requirement lines of pyproject.toml, nothing of the project itself.
_environment_requirements() {
  "$1" - "$_ENVIRONMENT_ROOT/pyproject.toml" "${@:2}" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
unknown = [name for name in sys.argv[2:] if name not in extras]
if unknown:
    sys.exit(f"pyproject.toml has no extra {unknown[0]!r}, only {', '.join(extras)}")
print("\n".join(project["dependencies"] + [line for name in sys.argv[2:] for line in extras[name]]))
PY
}

# _environment_missing PYTHON: of the requirement lines on standard input, those whose package is not installed.
_environment_missing() {
  "$1" -c '
import re, sys
from importlib.metadata import PackageNotFoundError, version
for line in sys.stdin.read().split("\n"):
    name = re.match(r"[A-Za-z0-9._-]*", line).group()
    try:
        name and version(name)
    except PackageNotFoundError:
        print(line)'
}

_environment_use() {
  PYTHON=$1
  export PYTHON
  [[ $(command -v python) == "$PYTHON" ]] || export PATH="${PYTHON%/*}:$PATH"
}

# _environment_active EXTRA...: 0 an active environment has the right verl and is used, 1 there is none, 2 stop.
_environment_active() {
  local python probe version verl missing named=
  if [[ -n ${VIRTUAL_ENV:-} && -x $VIRTUAL_ENV/bin/python ]]; then
    python=$VIRTUAL_ENV/bin/python named=$VIRTUAL_ENV
  elif [[ -n ${CONDA_PREFIX:-} && -x $CONDA_PREFIX/bin/python ]]; then
    python=$CONDA_PREFIX/bin/python named=$CONDA_PREFIX
  else
    python=$(command -v python) || return 1
  fi
  [[ ${python%/*} != "$_ENVIRONMENT_ROOT/.venv/bin" ]] || return 1
  probe=$(_environment_probe "$python") || return 1
  read -r version _ verl <<<"$probe"
  [[ $verl != - ]] || return 1
  if [[ $verl != "$_ENVIRONMENT_VERL" ]]; then
    if [[ -z $named ]]; then
      _environment_say "$python has verl $verl, needed is $_ENVIRONMENT_VERL: left alone"
      return 1
    fi
    _environment_say "the active environment $named has verl $verl, needed is $_ENVIRONMENT_VERL:" \
      "deactivate it and a .venv is made here, or install verl==$_ENVIRONMENT_VERL in it"
    return 2
  fi
  if ! _environment_supported "$version"; then
    _environment_say "$python is Python $version, needed is ${_ENVIRONMENT_PYTHONS// / or }"
    return 2
  fi
  missing=$(_environment_requirements "$python" "$@" | _environment_missing "$python") || return 2
  if [[ -n $missing ]]; then
    _environment_say "$python has verl $verl, but not: ${missing//$'\n'/, }; install them there, with" \
      "-c constraints/cpu.txt or gpu.txt, or deactivate it and a .venv is made here"
    return 2
  fi
  _environment_use "$python"
  _environment_say "using the active environment: $python (Python $version, verl $verl)"
}

# _environment_interpreter cpu|gpu: prints the Python to make .venv with.
_environment_interpreter() {
  local candidates candidate probe version venv found=
  if [[ -n ${PYTHON:-} && ${PYTHON%/*} != "$_ENVIRONMENT_ROOT/.venv/bin" ]]; then
    candidates=$PYTHON
  elif [[ $1 == gpu ]]; then
    candidates="python3.12 python3.11 python3 python"
  else
    candidates="python3.11 python3.12 python3 python"
  fi
  for candidate in $candidates; do
    # A name may be found and still not start: version managers leave such stubs.
    probe=$(_environment_probe "$candidate") || continue
    read -r version venv _ <<<"$probe"
    if ! _environment_supported "$version"; then
      found="$found${found:+, }$candidate is $version"
    elif [[ $venv == novenv ]]; then
      found="$found${found:+, }$candidate is $version but lacks the venv module (on Debian: apt install python${version%.*}-venv)"
    else
      command -v "$candidate"
      return 0
    fi
  done
  _environment_say "no usable Python: needed is ${_ENVIRONMENT_PYTHONS// / or } with venv," \
    "${found:-found none (looked for ${candidates// /, })}; set PYTHON to one"
  return 1
}

_environment_progress() {
  awk -v tty="$1" -v log_file="$2" '
    { print >log_file; fflush(log_file) }
    /^(Collecting|Processing|Requirement already satisfied) ?/ {
      n++
      if (tty) printf "\r  %d looked up: %-48.48s", n, ($1 == "Collecting" ? $2 : "already there")
      else if (n % 40 == 0) printf "  %d looked up\n", n
    }
    /Retrying \(/ { sub(/^ */, ""); if (tty) printf "\n"; printf "  %.150s\n", $0 }
    /^Building wheel|^ *Building wheel for .*: started/ { if (tty) printf "\n"; printf "  %s\n", $0 }
    /^Installing collected packages/ { if (tty) printf "\n"; printf "  installing\n" }
    { fflush() }
    END { if (tty && n) printf "\n" }' >&2
}

# _environment_pip PYTHON LOG ARGS...: pip with a short progress, and its error line where it fails.
_environment_pip() {
  local python=$1 log=$2 tty= status error
  shift 2
  [[ ! -t 2 ]] || tty=1
  # The subshell keeps the caller's pipefail as it is.
  (
    set -o pipefail
    "$python" -m pip install --progress-bar off --disable-pip-version-check "$@" 2>&1 |
      _environment_progress "$tty" "$log"
  ) && return 0
  status=$?
  # The first one names the package; the last may be general advice.
  error=$(grep -aE -m 1 '^ *(ERROR|error):' "$log") || error=$(tail -n 1 "$log")
  _environment_say "pip: ${error:-ended with status $status}"
  local reason="a package could not be had"
  # pip calls a package that no index offers a conflict with the pinned set.
  ! grep -aq 'Retrying (' "$log" || reason="the package index did not answer"
  _environment_say "$reason: pip takes packages from where its settings point" \
    "(PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, pip.conf); its whole output is in $log"
  return 1
}

_environment_space() {
  local needed=$1 free
  free=$(df -Pk "$_ENVIRONMENT_ROOT" | awk 'NR == 2 { print int($4 / 1048576) }') || return 0
  [[ $free -lt $needed ]] || return 0
  _environment_say "$_ENVIRONMENT_ROOT has $free GB free, a new environment needs $needed GB"
  return 1
}

# _environment_make VENV cpu|gpu: an empty virtual environment of ours. The marker comes first: whatever is stopped
# after it is known to be ours and unfinished.
_environment_make() {
  local venv=$1 interpreter
  interpreter=$(_environment_interpreter "$2") || return 1
  if [[ $2 == gpu ]]; then _environment_space "$_ENVIRONMENT_GB_GPU"; else _environment_space "$_ENVIRONMENT_GB_CPU"; fi ||
    return 1
  rm -rf "$venv"
  if ! mkdir "$venv" || ! printf '%s\n' "$venv" >"$venv/.medgrpo-venv" || ! : >"$venv/.medgrpo-unfinished"; then
    _environment_say "$venv: cannot be written"
    return 1
  fi
  _environment_say "making $venv with $interpreter"
  "$interpreter" -m venv "$venv" >&2 || { _environment_say "$interpreter -m venv $venv failed" && return 1; }
}

# _environment_fill VENV cpu|gpu SHA EXTRA...: what pyproject.toml asks for, at the versions of the pinned set.
_environment_fill() {
  local venv=$1 kind=$2 sha=$3 python=$1/bin/python started=$SECONDS requirements
  shift 3
  requirements=$(_environment_requirements "$python" "$@") || return 1
  rm -f "$venv"/.medgrpo-stamp-*
  : >"$venv/.medgrpo-unfinished"
  grep -v '^flash-attn' <<<"$requirements" >"$venv/.medgrpo-requirements.txt"
  _environment_say "installing what pyproject.toml asks for (${*:-no extras}), versions of constraints/$kind.txt;" \
    "this takes minutes, once"
  if ! _environment_pip "$python" "$venv/pip.log" \
    -c "$_ENVIRONMENT_ROOT/constraints/$kind.txt" -r "$venv/.medgrpo-requirements.txt"; then
    # pip changes nothing before it has every package, so what was there is still whole.
    rm -f "$venv/.medgrpo-unfinished"
    return 1
  fi
  if grep -q '^flash-attn' <<<"$requirements"; then
    # Its build script imports torch, which an isolated build would not see.
    if ! _environment_pip "$python" "$venv/pip-flash-attn.log" --no-build-isolation \
      -c "$_ENVIRONMENT_ROOT/constraints/$kind.txt" flash-attn; then
      rm -f "$venv/.medgrpo-unfinished"
      _environment_say "flash-attn is built against torch: that needs nvcc of torch's CUDA version, or a ready wheel" \
        "in a folder that PIP_FIND_LINKS names"
      return 1
    fi
  fi
  if ! "$python" -c 'import torch' >&2; then
    _environment_say "torch is installed in $venv but cannot be imported (the error is above)"
    return 1
  fi
  printf '%s\n' "$kind" "$@" >"$venv/.medgrpo-stamp.partial"
  mv "$venv/.medgrpo-stamp.partial" "$venv/.medgrpo-stamp-$sha"
  rm -f "$venv/.medgrpo-unfinished"
  _environment_say "ready after $((SECONDS - started)) s, $(du -sh "$venv" | cut -f1)B in $venv"
}

_environment_sha() {
  cat "$_ENVIRONMENT_ROOT/constraints/$1.txt" "$_ENVIRONMENT_ROOT/pyproject.toml" | cksum | tr -d ' \t'
}

# _environment_venv cpu|gpu|auto EXTRA...
_environment_venv() {
  local kind=$1 venv=$_ENVIRONMENT_ROOT/.venv probe= version= verl= stamp has=() extra
  shift
  if [[ -e $venv && ! -f $venv/.medgrpo-venv ]]; then
    _environment_say "$venv was not made by this script: activate it if it has verl $_ENVIRONMENT_VERL, or remove it"
    return 1
  fi
  if [[ -f $venv/.medgrpo-venv ]]; then
    probe=$(_environment_probe "$venv/bin/python") || true
    # `read` fails at the end of an empty line.
    read -r version _ verl <<<"$probe" || true
  fi
  if [[ -f $venv/.medgrpo-venv && ($(<"$venv/.medgrpo-venv") != "$venv" || -z $version) ]]; then
    _environment_say "$venv was moved, or its Python is gone: making it anew"
    rm -rf "$venv"
  elif [[ -f $venv/.medgrpo-unfinished ]]; then
    _environment_say "the last installation into $venv was interrupted: making it anew"
    rm -rf "$venv"
  fi

  for stamp in "$venv"/.medgrpo-stamp-*; do
    [[ ! -f $stamp ]] || mapfile -t has <"$stamp"
  done
  # What is there serves `auto`, and the set for GPUs runs on a CPU as well.
  if [[ ${#has[@]} -gt 0 && ($kind == auto || ${has[0]} == gpu) ]]; then kind=${has[0]}; fi
  if [[ $kind == auto ]]; then
    kind=cpu
    if command -v nvidia-smi >/dev/null && [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]]; then kind=gpu; fi
  fi
  [[ $kind == cpu ]] || set -- "$@" gpu
  local wanted=("$@")
  for extra in "${has[@]:1}"; do
    case " ${wanted[*]} " in *" $extra "*) ;; *) wanted+=("$extra") ;; esac
  done

  if [[ ${#has[@]} -gt 0 && ${has[0]} != "$kind" ]]; then
    _environment_say "$venv holds the ${has[0]} set, the $kind set is asked for: making it anew"
    rm -rf "$venv"
  fi
  local sha
  sha=$(_environment_sha "$kind")
  if [[ -f $venv/.medgrpo-stamp-$sha && $((${#has[@]} - 1)) -eq ${#wanted[@]} ]]; then
    _environment_use "$venv/bin/python"
    export VIRTUAL_ENV=$venv
    _environment_say "using $venv (Python $version, verl $verl, the $kind set)"
    return 0
  fi
  [[ -d $venv ]] || _environment_make "$venv" "$kind" || return 1
  _environment_fill "$venv" "$kind" "$sha" "${wanted[@]}" || return 1
  _environment_use "$venv/bin/python"
  export VIRTUAL_ENV=$venv
}

ensure_environment() {
  local kind=${MEDGRPO_ENV:-${1:-auto}} status=0 lock
  [[ $# -eq 0 ]] || shift
  case $kind in cpu | gpu | auto) ;; *)
    _environment_say "the set is '$kind', expected cpu, gpu or auto"
    return 1
    ;;
  esac
  _environment_active "$@" || status=$?
  [[ $status -ne 0 ]] || return 0
  [[ $status -eq 1 ]] || return 1
  if [[ ! -w $_ENVIRONMENT_ROOT ]]; then
    _environment_say "$_ENVIRONMENT_ROOT cannot be written: activate an environment that has verl $_ENVIRONMENT_VERL"
    return 1
  fi
  # Two commands started together must not fill the same folder.
  exec {lock}>"$_ENVIRONMENT_ROOT/.venv.lock"
  if command -v flock >/dev/null && ! flock -n "$lock"; then
    _environment_say "another command is making the environment: waiting for it"
    flock "$lock"
  fi
  status=0
  _environment_venv "$kind" "$@" || status=$?
  exec {lock}>&-
  return "$status"
}
