# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# What all scripts share, to be sourced with ROOT and NAME set: which machine this is, one list of everything that is
# wrong, arguments and hydra's options, and `--dry-run`, with which a script prints its commands, one a line, instead of
# running them. Checks add what is wrong to PROBLEMS (a setting without meaning) or to ABSENT (a file, a key or a GPU
# that is not there, of which a dry run only warns). Then a script calls `stop_if_wrong`.

PROBLEMS=()
ABSENT=()
DRY_RUN=${DRY_RUN:-}                  # anything: as --dry-run
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0

# ---- the machine -----------------------------------------------------------------------------------------------

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

# use_environment cpu|gpu|auto [EXTRA...]: a python that has everything.
use_environment() {
  # shellcheck source=examples/lib/environment.sh
  source "$ROOT/examples/lib/environment.sh"
  ensure_environment "$@"
}

# find_recipe: the 8-GPU recipe of the model family MODEL, as GPU_RECIPE: examples/run_medgrpo_FAMILY_SIZE.sh.
find_recipe() {
  local families
  export MODEL=${MODEL:-qwen2_5_vl}
  families=$(cd "$ROOT/examples" && printf '%s\n' run_medgrpo_*_*.sh | sed -E 's/run_medgrpo_(.*)_[^_]*\.sh/\1/')
  grep -qxF -- "$MODEL" <<<"$families" || PROBLEMS+=("MODEL is '$MODEL', expected ${families//$'\n'/ or }")
  GPU_RECIPE=$(cd "$ROOT/examples" && printf '%s\n' "run_medgrpo_${MODEL}"_*.sh | head -n 1)
}

# ---- checks ----------------------------------------------------------------------------------------------------

# whole_numbers VARIABLE...: each of these is a whole number above 0.
whole_numbers() {
  local name
  for name in "$@"; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || PROBLEMS+=("$name is '${!name}', expected a whole number above 0")
  done
}

# numbers VARIABLE...: each of these is a number, not below 0, or empty.
numbers() {
  local name
  for name in "$@"; do
    [[ ${!name:-} =~ ^([0-9]+(\.[0-9]+)?)?$ ]] || PROBLEMS+=("$name is '${!name}', expected a number")
  done
}

# one_of VARIABLE WORD...: it is one of these words.
one_of() {
  local words="${*:2}"
  [[ " $words " == *" ${!1} "* ]] || PROBLEMS+=("$1 is '${!1}', expected ${words// / or }")
}

# divisor VARIABLE OF: the one divides the other.
divisor() {
  ((${#PROBLEMS[@]})) || ((${!2} % ${!1} == 0)) || PROBLEMS+=("$1 is ${!1}, expected a divisor of $2, which is ${!2}")
}

# needs VARIABLE FILE WHAT: the folder that a variable names holds FILE; with FILE empty it names a file itself.
needs() {
  [[ -f ${!1}${2:+/$2} ]] || ABSENT+=("$1 '${!1}': no ${2:-such file}${2:+ there}, expected $3")
}

# needs_gpus NUMBER WHY: this machine has that many.
needs_gpus() {
  local found
  found=$(gpu_count)
  [[ ! $1 =~ ^[0-9]+$ ]] || ((found >= $1)) || ABSENT+=("$found GPUs found, $2")
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

# ---- arguments and commands ------------------------------------------------------------------------------------

# Of arguments, `--dry-run` is this library's; the others are left in ARGUMENTS.
read_arguments() {
  local argument
  ARGUMENTS=()
  for argument in "$@"; do
    if [[ $argument == --dry-run ]]; then DRY_RUN=yes; else ARGUMENTS+=("$argument"); fi
  done
}

# The same where the others are hydra's: it wants its options before all overrides, so they are left in OPTIONS.
read_hydra_arguments() {
  read_arguments "$@"
  set -- "${ARGUMENTS[@]}"
  OPTIONS=() ARGUMENTS=()
  while (($#)); do
    case $1 in
      --cfg | -c) OPTIONS+=("${@:1:2}") && shift "$(($# > 1))" ;;
      -*) OPTIONS+=("$1") ;;
      *) ARGUMENTS+=("$1") ;;
    esac
    shift
  done
}

# Whether the options only ask for the composed configuration or for help.
only_prints() {
  local asked=' (--cfg|-c|--info|--help|-h|--hydra-help)[= ]'
  [[ " ${OPTIONS[*]} " =~ $asked ]]
}

# Where nothing but a printed configuration takes options.
no_other_options() {
  ((${#OPTIONS[@]} == 0)) || only_prints ||
    PROBLEMS+=("option '${OPTIONS[0]}': expected $1--dry-run or --cfg job --resolve")
}

# print_configuration TRAINER...: what hydra composes, in place of a training.
print_configuration() {
  # Without a GPU, torchvision may only be importable through the CPU platform; what is printed is the same.
  (($(gpu_count) > 0)) || export VERL_PLATFORM=cpu
  exec python "$@" "${OPTIONS[@]}" "${ARGUMENTS[@]}"
}

# run COMMAND...: run it, or print it as it can be typed. Variables may stand before it, NAME=VALUE.
run() {
  local words
  if [[ -z $DRY_RUN ]]; then
    env "$@"
  else
    printf -v words '%q ' "$@"
    echo "${words% }"
  fi
}

# signals_of OVERRIDE...: the reward's settings that add a raw signal, as SIGNALS for calibration and preflight.
signals_of() {
  SIGNALS=()
  [[ ! " $* " =~ [.+]tal_wasserstein=[Tt]rue\  ]] || SIGNALS=(--tal-wasserstein)
}

# of_the_method OVERRIDE...: those that make a run another one; where it runs and when it saves may change.
of_the_method() {
  local override said=()
  for override in "$@"; do
    [[ $override =~ ^[+~]*(trainer|ray_kwargs|transfer_queue)\. ]] || said+=("$override")
  done
  echo "${said[*]}"
}

# A value as hydra's quoted string, whatever characters it holds.
quoted() {
  printf "'%s'" "${1//\'/\\\'}"
}

# absolute VARIABLE...: paths, from the folder that the script was called in. An empty one stays empty.
absolute() {
  local path
  for path in "$@"; do
    [[ -z ${!path} ]] || printf -v "$path" '%s' "$(realpath -m -- "${!path}")"
  done
}

# lock FOLDER: made when missing, and locked: another run must not write to the same place.
lock() {
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock -n 9 || { echo "$NAME: $1: another run is at work here" >&2; exit 2; }
}

# share_parts BASE RUN PART...: what a run takes from another one, as far as it is not there yet.
share_parts() {
  local base=$1 run=$2 part
  shift 2
  # Hard links: nothing is written twice, and what a stage writes anew it renames into place.
  for part in "$@"; do
    [[ ! -e $run/$part ]] || continue
    mkdir -p "$(dirname "$run/$part")"
    rm -rf "$run/$part.partial"
    cp -al "$base/$part" "$run/$part.partial"
    mv "$run/$part.partial" "$run/$part"
  done
}
