# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# What all scripts share, to be sourced: which machine this is, one list of everything that is wrong, hydra's words, and
# `--dry-run`, with which a script prints its commands, one a line, instead of running them.
# A script sets NAME before. What it finds wrong it adds to PROBLEMS (a setting that is none) or to ABSENT (a file, a key
# or a GPU that is not there, of which a dry run only warns), and then calls `stop_if_wrong`.

PROBLEMS=()
ABSENT=()
DRY_RUN=${DRY_RUN:-}                  # anything: as --dry-run

# GPUs of this machine.
gpu_count() {
  { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true
}

# cpu_reasons: why this is no machine for the 8-GPU recipes, in words; nothing where it is one.
cpu_reasons() {
  local reasons=()
  (($(gpu_count) > 0)) || reasons+=("no GPU found")
  [[ -n ${MODEL_PATH:-} ]] || reasons+=("MODEL_PATH is not set")
  case ${#reasons[@]} in 1) echo "${reasons[0]}" ;; 2) echo "${reasons[0]} and ${reasons[1]}" ;; esac
}

# whole_numbers VARIABLE...: each of these is a whole number above 0.
whole_numbers() {
  local name
  for name in "$@"; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || PROBLEMS+=("$name is '${!name}', expected a whole number above 0")
  done
}

# Of arguments, `--dry-run` is this library's; the others are left in ARGUMENTS.
read_arguments() {
  local argument
  ARGUMENTS=()
  for argument in "$@"; do
    if [[ $argument == --dry-run ]]; then DRY_RUN=yes; else ARGUMENTS+=("$argument"); fi
  done
}

# Say everything that is wrong, and stop unless only a dry run was asked for and only things are absent.
stop_if_wrong() {
  if [[ -n $DRY_RUN && ${#PROBLEMS[@]} -eq 0 ]]; then
    ((${#ABSENT[@]} == 0)) || printf "$NAME: would stop: %s\n" "${ABSENT[@]}" >&2
    return 0
  fi
  PROBLEMS+=("${ABSENT[@]}")
  ((${#PROBLEMS[@]} == 0)) || {
    printf "$NAME: %s\n" "${PROBLEMS[@]}" >&2
    exit 2
  }
}

# A word as the shell reads it again; of NAME=VALUE only the value is quoted, so that it stays an assignment.
word() {
  case $1 in
    *[!A-Za-z0-9_./:=,+@%~^-]* | '')
      if [[ $1 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then printf '%s' "${BASH_REMATCH[0]}"; fi
      local value=${1#"${BASH_REMATCH[0]:-}"}
      printf '%s' "${value@Q}"
      ;;
    *) printf '%s' "$1" ;;
  esac
}

# run COMMAND...: run it, or print it as it can be typed. Variables may stand before it, NAME=VALUE.
run() {
  if [[ -z $DRY_RUN ]]; then
    env "$@"
    return
  fi
  local words=() one
  for one in "$@"; do words+=("$(word "$one")"); done
  echo "${words[*]}"
}

# A value as hydra's quoted string, whatever characters it holds.
quoted() {
  printf "'%s'" "${1//\'/\\\'}"
}

# Whether the arguments only ask for the composed configuration or for help.
only_prints() {
  local argument
  for argument in "$@"; do
    case $argument in --cfg | --cfg=* | -c | --info | --info=* | --help | -h | --hydra-help) return 0 ;; esac
  done
  return 1
}

# print_configuration TRAINER... -- ARGUMENTS...: what hydra composes, in place of a training.
print_configuration() {
  local trainer=() options=() overrides=()
  while [[ $1 != -- ]]; do trainer+=("$1") && shift; done
  shift
  # Without a GPU, torchvision may only be importable through the CPU platform; what is printed is the same.
  (($(gpu_count) > 0)) || export VERL_PLATFORM=cpu
  # hydra wants its options before all overrides, wherever they were given.
  while (($#)); do
    case $1 in
      --cfg | -c) options+=("${@:1:2}") && shift ;;
      -*) options+=("$1") ;;
      *) overrides+=("$1") ;;
    esac
    (($# == 0)) || shift
  done
  exec python "${trainer[@]}" "${options[@]}" "${overrides[@]}"
}
