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
NODE_RANK=${NODE_RANK:-0}             # of SFT on several nodes: which one this is
N_GPUS=${N_GPUS:-8}                   # [paper] on each node
# cpu: the same with a tiny model on a machine without a GPU, N_GPUS processes each for training and for vLLM's build for
# CPUs. `RECIPE=gpu bash examples/run_medgrpo.sh` does that; config/engine/ has what then differs.
DEVICE=${DEVICE:-cuda}
[[ $DEVICE != cpu ]] || needs_gpus() { :; }
GPU_GIB=${GPU_GIB:-79}                # memory of each, what a card of "80 GB" has
FREE_GIB=${FREE_GIB:-200}             # disk space that the checkpoints need
HOST_GIB=${HOST_GIB:-176}             # memory of each node: of recipes.medgrpo plan, for 8 GPUs
SHM_GIB=${SHM_GIB:-}                  # of it free in /dev/shm; empty: 2 a GPU, for clips on their way and Ray's store
# flash_attention_2; sdpa: without flash-attn, which then need not be installed. A recipe may set FLASH_ATTN_ONLY.
[[ $DEVICE != cpu ]] || ATTENTION=sdpa
export ATTENTION=${ATTENTION:-flash_attention_2}

LORA_RANK=${LORA_RANK:-0}             # 0: all parameters are trained; above: adapters in the language model. Unpublished
LORA_ALPHA=${LORA_ALPHA:-}            # empty: as LORA_RANK, so that the rank does not change the adapters' scale
FREEZE_VISION=${FREEZE_VISION:-false} # unpublished: endoscopy is far from what the vision tower was made with
# [paper] for all parameters. Unpublished for adapters: they start as no change at all, and ten times is a common choice.
if [[ $LORA_RANK == 0 ]]; then LR=${LR:-5e-7}; else LR=${LR:-5e-6}; fi
: "${LORA_ALPHA:=$LORA_RANK}"
if [[ $N_GPUS =~ ^[1-9][0-9]*$ ]]; then : "${SHM_GIB:=$((2 * N_GPUS))}"; else : "${SHM_GIB:=2}"; fi

# ---- helpers ---------------------------------------------------------------------------------------------------

# TASKS as hydra takes them.
task_list() {
  case $TASKS in all) echo null ;; *) echo "[${TASKS// /,}]" ;; esac
}

# check_values NUMBER...: what is wrong with the settings above, and with these, which are whole numbers.
check_values() {
  whole_numbers NNODES N_GPUS GPU_GIB FREE_GIB HOST_GIB SHM_GIB "$@"
  [[ $LORA_RANK =~ ^[0-9]+$ ]] || PROBLEMS+=("LORA_RANK is '$LORA_RANK', expected a whole number, 0 for no adapters")
  [[ ! $LORA_RANK =~ ^[1-9] ]] || whole_numbers LORA_ALPHA
  [[ $LR =~ ^[0-9]*\.?[0-9]+(e-?[0-9]+)?$ ]] || PROBLEMS+=("LR is '$LR', expected a number as 5e-7")
  one_of FREEZE_VISION true false
  one_of ATTENTION flash_attention_2 sdpa
  [[ $ATTENTION == flash_attention_2 || -z ${FLASH_ATTN_ONLY:-} || $DEVICE == cpu ]] ||
    PROBLEMS+=("ATTENTION is '$ATTENTION', expected flash_attention_2: verl trains $MODEL_FAMILY with flash-attn only")
  one_of DEVICE cuda cpu
}

# ---- start -----------------------------------------------------------------------------------------------------

# What `recipes.medgrpo.preflight` checks in both stages. What is known to be absent is not checked again.
PREFLIGHT=()
set_preflight() {
  local tasks=()
  PREFLIGHT=(-m recipes.medgrpo preflight --machine gpu --model-family "$MODEL_FAMILY" --host-gib "$HOST_GIB")
  [[ $DEVICE == cuda ]] || PREFLIGHT=("${PREFLIGHT[@]/gpu/any}")
  PREFLIGHT+=(--shm-gib "$SHM_GIB" --attention "$ATTENTION")
  PREFLIGHT+=(--checkpoints "$OUTPUT_DIR/checkpoints" --free-gib "$FREE_GIB")
  [[ ! -f $MODEL_PATH/config.json ]] || PREFLIGHT+=(--model "$MODEL_PATH")
  [[ ! -f $DATA_DIR/train.parquet ]] || PREFLIGHT+=(--data "$DATA_DIR")
  [[ $TASKS == all ]] || read -ra tasks <<<"$TASKS"
  ((${#tasks[@]} == 0)) || PREFLIGHT+=(--tasks "${tasks[@]}")
}

# ask_python: where something is absent, an installed Python says what else is wrong, so that one refusal has it all.
ask_python() {
  local python
  for python in "$ROOT/.venv/bin/python" python; do
    if "$python" -c 'from importlib.metadata import version; version("verl")' 2>/dev/null; then
      "$python" "${PREFLIGHT[@]}" --partial >/dev/null || true
      return
    fi
  done
}

# launch OVERRIDES...: train, or only print the configuration. A stage sets its STAGE, how it STARTs (python, torchrun),
# its MODULE with configuration, its CPU_OVERLAY, and `check_stage`, which adds what the stage lacks to ABSENT, and to
# PREFLIGHT.
launch() {
  local from attempt
  export HYDRA_FULL_ERROR=1 VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
  # The CPU run's platform must not leak in from the shell.
  if [[ $DEVICE == cpu ]]; then export VERL_PLATFORM=cpu; else unset VERL_PLATFORM; fi
  read_hydra_arguments "$@"
  [[ $DEVICE != cpu ]] || ARGUMENTS=("$CPU_OVERLAY" "${ARGUMENTS[@]}")
  ! only_prints || print_configuration "${MODULE[@]}"
  needs MODEL_PATH config.json "a model in HF format"
  [[ -f $DATA_DIR/train.parquet && -f $DATA_DIR/val.parquet ]] ||
    ABSENT+=("DATA_DIR '$DATA_DIR': no train.parquet and val.parquet, expected data_preprocess/medvidbench.py's output")
  set_preflight
  check_stage
  ((${#ABSENT[@]} == 0)) || [[ -n $DRY_RUN ]] || ask_python
  stop_if_wrong
  if [[ -n $DRY_RUN ]]; then
    run python "${PREFLIGHT[@]}"
    run "${START[@]}" "${MODULE[@]}" "${OPTIONS[@]}" "${ARGUMENTS[@]}"
    ! declare -F after_stage >/dev/null || after_stage
    return
  fi

  use_environment "$([[ $DEVICE == cpu ]] && echo vllm-cpu || echo gpu)"
  ! declare -F have_logger >/dev/null || have_logger
  # The other nodes of SFT write into the folders that the first has locked.
  ((NODE_RANK > 0)) || lock "$OUTPUT_DIR"
  mkdir -p "$OUTPUT_DIR/checkpoints" "$OUTPUT_DIR/logs" "$OUTPUT_DIR/attempts"
  from=$(python "${PREFLIGHT[@]}")
  echo "$NAME: $([[ $from == 0 ]] && echo 'starting at the first step' || echo "resuming after step $from")"
  # verl's file logger starts its file anew at every resume: one file an attempt.
  attempt=$(($(find "$OUTPUT_DIR/attempts" -name "${STAGE}_*.jsonl" | wc -l) + 1))
  export VERL_FILE_LOGGER_PATH=$OUTPUT_DIR/attempts/${STAGE}_$attempt.jsonl
  if [[ $STAGE == grpo ]] && ((NNODES > 1)); then
    # On a cluster the trainer is a worker, too, and the folder that it works in is not this one.
    ARGUMENTS+=("+ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH=$(quoted "$VERL_FILE_LOGGER_PATH")")
  fi
  cd "$OUTPUT_DIR"
  "${START[@]}" "${MODULE[@]}" "${OPTIONS[@]}" "${ARGUMENTS[@]}" 2>&1 | tee -a "logs/$LOG.log"
  [[ $STAGE == grpo ]] || ((NODE_RANK > 0)) ||
    echo "$NAME: the model is $OUTPUT_DIR/checkpoints/global_step_$(<checkpoints/latest_checkpointed_iteration.txt)/huggingface"
  ! declare -F after_stage >/dev/null || after_stage
}
