# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# What the GPU recipes of both training stages share, to be sourced by medgrpo_gpu.sh and sft_gpu.sh: settings with
# their defaults, checks, and how a trainer is started. A recipe sets ROOT, NAME, MODEL_FAMILY and its defaults before.

# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the model to start from, a folder in HF format
DATA_DIR=${DATA_DIR:-}                # required: train.parquet and val.parquet, made for MODEL_FAMILY
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/$NAME}

NNODES=${NNODES:-1}
N_GPUS=${N_GPUS:-8}                   # [paper] on each node
GPU_GIB=${GPU_GIB:-79}                # memory of each, what a card of "80 GB" has
FREE_GIB=${FREE_GIB:-200}             # disk space that the checkpoints need
HOST_GIB=${HOST_GIB:-128}             # memory of each node

LORA_RANK=${LORA_RANK:-0}             # 0: all parameters are trained; above: adapters in the language model. Unpublished
LORA_ALPHA=${LORA_ALPHA:-}            # empty: as LORA_RANK, so that the rank does not change the adapters' scale
FREEZE_VISION=${FREEZE_VISION:-false} # unpublished: endoscopy is far from what the vision tower was made with
# [paper] for all parameters. Unpublished for adapters: they start as no change at all, and ten times is a common choice.
if [[ $LORA_RANK == 0 ]]; then LR=${LR:-5e-7}; else LR=${LR:-5e-6}; fi
: "${LORA_ALPHA:=$LORA_RANK}"

# ---- helpers ---------------------------------------------------------------------------------------------------

# The trainers run in OUTPUT_DIR: paths must not depend on where the script was called.
absolute() {
  local path
  for path in "$@"; do
    [[ -z ${!path} ]] || printf -v "$path" '%s' "$(realpath -m -- "${!path}")"
  done
}

# TASKS as hydra takes them.
task_list() {
  case $TASKS in all) echo null ;; *) echo "[${TASKS// /,}]" ;; esac
}

# check_values NUMBER...: stop with every setting that is none, those named being whole numbers too.
check_values() {
  whole_numbers NNODES N_GPUS GPU_GIB FREE_GIB HOST_GIB "$@"
  [[ $LORA_RANK =~ ^[0-9]+$ ]] || PROBLEMS+=("LORA_RANK is '$LORA_RANK', expected a whole number, 0 for no adapters")
  [[ ! $LORA_RANK =~ ^[1-9] ]] || whole_numbers LORA_ALPHA
  [[ $LR =~ ^[0-9]*\.?[0-9]+(e-?[0-9]+)?$ ]] || PROBLEMS+=("LR is '$LR', expected a number as 5e-7")
  [[ $FREEZE_VISION == true || $FREEZE_VISION == false ]] ||
    PROBLEMS+=("FREEZE_VISION is '$FREEZE_VISION', expected true or false")
  stop_if_wrong
}

# What both stages need and do not find, into ABSENT.
check_files() {
  [[ -f $MODEL_PATH/config.json ]] ||
    ABSENT+=("MODEL_PATH '$MODEL_PATH': no config.json there, expected a model in HF format")
  [[ -f $DATA_DIR/train.parquet && -f $DATA_DIR/val.parquet ]] ||
    ABSENT+=("DATA_DIR '$DATA_DIR': no train.parquet and val.parquet, expected data_preprocess/medvidbench.py's output")
}

# check_gpus NUMBER WORDS: this node has that many.
check_gpus() {
  local found
  found=$(gpu_count)
  ((found >= $1)) || ABSENT+=("$found GPUs found, $2")
}

# ---- start -----------------------------------------------------------------------------------------------------

# Of every process that the trainers start.
set_environment() {
  export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} HYDRA_FULL_ERROR=1
  export TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0
  export VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
  # The CPU run's platform must not leak in from the shell.
  unset VERL_PLATFORM
}

# The Python that already has verl, if there is one.
python_with_verl() {
  local python
  for python in "$ROOT/.venv/bin/python" python; do
    if "$python" -c 'from importlib.metadata import version; version("verl")' 2>/dev/null; then
      printf '%s' "$python"
      return 0
    fi
  done
  return 1
}

# What recipes.medgrpo.preflight looks at in both stages. A part that is known to be absent is not looked at again.
preflight_arguments() {
  local tasks
  PREFLIGHT=(-m recipes.medgrpo preflight --machine gpu --model-family "$MODEL_FAMILY" --host-gib "$HOST_GIB")
  PREFLIGHT+=(--checkpoints "$OUTPUT_DIR/checkpoints" --free-gib "$FREE_GIB")
  [[ ! -f $MODEL_PATH/config.json ]] || PREFLIGHT+=(--model "$MODEL_PATH")
  [[ ! -f $DATA_DIR/train.parquet ]] || PREFLIGHT+=(--data "$DATA_DIR")
  if [[ $TASKS != all ]]; then
    read -ra tasks <<<"$TASKS"
    PREFLIGHT+=(--tasks "${tasks[@]}")
  fi
}

# Stop where anything is wrong, with all that can be known of it: what is seen here, and, where it needs no
# installation, what Python sees.
stop_or_ask_python() {
  local python
  if ((${#ABSENT[@]} > 0)) && [[ -z $DRY_RUN ]] && python=$(python_with_verl); then
    "$python" "${PREFLIGHT[@]}" --partial >/dev/null || true
  fi
  stop_if_wrong
}

# before_start ARGUMENTS...: everything that comes before an installation or a start of `trainer`, the caller's array;
# where only the configuration is asked for, the end. What is hydra's is left in ARGUMENTS.
before_start() {
  set_environment
  read_arguments "$@"
  if only_prints "${ARGUMENTS[@]}"; then print_configuration "${trainer[@]}" -- "${ARGUMENTS[@]}"; fi
  check_settings
  set_preflight
  stop_or_ask_python
}

# prepare_output [lock]: folders of a run, and its lock: another one must not write to the same place.
prepare_output() {
  mkdir -p "$OUTPUT_DIR/checkpoints" "$OUTPUT_DIR/logs" "$OUTPUT_DIR/attempts"
  (($# > 0)) || return 0
  exec 9>"$OUTPUT_DIR/.lock"
  flock -n 9 || { echo "$NAME: $OUTPUT_DIR: another run is at work here" >&2; exit 2; }
}

# new_attempt STAGE: verl's file logger starts its file anew at every resume: one file an attempt.
new_attempt() {
  local number
  number=$(($(find "$OUTPUT_DIR/attempts" -name "$1_*.jsonl" | wc -l) + 1))
  export VERL_FILE_LOGGER_PATH=$OUTPUT_DIR/attempts/$1_$number.jsonl
}

say_start() {
  echo "$NAME: $([[ $1 == 0 ]] && echo 'starting at the first step' || echo "resuming after step $1")"
}
