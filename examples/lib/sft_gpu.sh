# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Source this file in a GPU recipe of SFT. It has settings with their defaults, arrays of hydra overrides, and `launch`.
# A recipe first sets ROOT, NAME, MODEL_FAMILY and its own defaults, and may then append to the arrays. MODEL_PATH is
# the published model. With more than one node, each node runs the recipe with NODE_RANK and MASTER_ADDR on a shared
# file system, see examples/slurm/medgrpo.sbatch.

# shellcheck source=examples/lib/recipe.sh
source "$ROOT/examples/lib/recipe.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
MASTER_ADDR=${MASTER_ADDR:-}          # of several nodes: the address of the first
MASTER_PORT=${MASTER_PORT:-29500}

EPOCHS=${EPOCHS:-3}                   # [paper]
STEPS=${STEPS:-}                      # empty: EPOCHS decide; a number ends the run, and the line of the rate, there
SAVE_FREQ=${SAVE_FREQ:-500}           # unpublished: a kill costs at most a tenth of the 4,827 steps
TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-32}        # unpublished: with a rate this small, many small steps
MAX_TOKENS=${MAX_TOKENS:-16384}       # of a micro-batch on a GPU: two of the longest rows
TASKS=${TASKS:-all}                   # [paper] the Standard set has all eight
PARAM_OFFLOAD=${PARAM_OFFLOAD:-false}           # weights and optimiser in host memory between the steps
TRAIN_FILE=${TRAIN_FILE:-}            # empty: DATA_DIR/train.parquet; run_intervene.sh names its own rows here
# Anything: go on with examples/run_intervene.sh, whose settings are read too; its judge is checked at the start.
INTERVENE=${INTERVENE:-}
if [[ -n $INTERVENE ]]; then
  JUDGE=${JUDGE:-openai} JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}
  # shellcheck source=examples/lib/judge.sh
  source "$ROOT/examples/lib/judge.sh"
  one_of INTERVENE 1 gold
  [[ $NNODES == 1 ]] || PROBLEMS+=("INTERVENE is set and NNODES is $NNODES, expected 1: call examples/run_intervene.sh")
  check_judge scoring
fi

[[ $NODE_RANK =~ ^[0-9]+$ ]] || PROBLEMS+=("NODE_RANK is '$NODE_RANK', expected a whole number, 0 for the first")
[[ -z $STEPS ]] || whole_numbers STEPS
check_values EPOCHS SAVE_FREQ TRAIN_BATCH_SIZE MAX_TOKENS MASTER_PORT
stop_if_wrong
absolute MODEL_PATH DATA_DIR OUTPUT_DIR TRAIN_FILE

# ---- arrays of overrides ---------------------------------------------------------------------------------------
DATA=(
  data.train_files="$(quoted "${TRAIN_FILE:-${DATA_DIR:-DATA_DIR}/train.parquet}")"
  data.val_files="$(quoted "${DATA_DIR:-DATA_DIR}/val.parquet")"
  data.train_batch_size="$TRAIN_BATCH_SIZE"
  data.max_token_len_per_gpu="$MAX_TOKENS"
  data.medgrpo.tasks="$(task_list)"
)
MODEL=(
  model.path="$(quoted "${MODEL_PATH:-MODEL_PATH}")"
  model.override_config.attn_implementation="$ATTENTION"
  engine.freeze_vision="$FREEZE_VISION"
)
if [[ $LORA_RANK != 0 ]]; then
  # As in the RL stage: adapters in fp32 and in the language model only.
  MODEL+=(
    model.lora_rank="$LORA_RANK"
    model.lora_alpha="$LORA_ALPHA"
    model.target_modules=all-linear
    model.exclude_modules="'.*visual.*'"
  )
fi
OPTIMIZER=(
  optim.lr="$LR"
  engine.param_offload="$PARAM_OFFLOAD"
  engine.optimizer_offload="$PARAM_OFFLOAD"
)
TRAINER=(
  trainer.experiment_name="$NAME"
  trainer.default_local_dir="$(quoted "$OUTPUT_DIR/checkpoints")"
  trainer.nnodes="$NNODES"
  trainer.n_gpus_per_node="$N_GPUS"
  trainer.total_epochs="$EPOCHS"
  trainer.total_training_steps="${STEPS:-null}"
  trainer.save_freq="$SAVE_FREQ"
)

# ---- checks and start ------------------------------------------------------------------------------------------
STAGE=sft LOG=sft_node$NODE_RANK
CPU_OVERLAY=+engine@_global_=sft_gpu_on_cpu     # verl has a key of that name there
NODES=(--standalone)
((NNODES == 1)) ||
  NODES=(--nnodes="$NNODES" --node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR" --master_port="$MASTER_PORT")
START=(torchrun "${NODES[@]}" --nproc_per_node="$N_GPUS")
MODULE=(-m verl.trainer.sft_trainer --config-path="$ROOT/recipes/medgrpo/config" --config-name=sft_gpu)

check_stage() {
  ((TRAIN_BATCH_SIZE % (NNODES * N_GPUS) == 0)) ||
    ABSENT+=("TRAIN_BATCH_SIZE $TRAIN_BATCH_SIZE: does not divide over NNODES $NNODES x N_GPUS $N_GPUS")
  ((NNODES == 1)) || [[ -n $MASTER_ADDR ]] ||
    ABSENT+=("NNODES is $NNODES and MASTER_ADDR is not set, expected the first node's address")
  [[ -z $TRAIN_FILE ]] || needs TRAIN_FILE "" "rows to train on"
  ((NODE_RANK < NNODES)) || ABSENT+=("NODE_RANK is $NODE_RANK, expected less than NNODES, which is $NNODES")
  needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
  PREFLIGHT+=(--stage sft)
  ((NNODES * N_GPUS == 1)) || PREFLIGHT+=(--no-stills)
  (($(gpu_count) < N_GPUS)) || PREFLIGHT+=(--gpus "$N_GPUS" --gpu-gib "$GPU_GIB")
}

# after_stage: with the model that has been trained, in the place of this shell.
after_stage() {
  [[ -n $INTERVENE ]] || return 0
  local done=$OUTPUT_DIR/checkpoints/latest_checkpointed_iteration.txt
  run INTERVENE="$INTERVENE" MODEL="$MODEL_FAMILY" DATA_DIR="$DATA_DIR" OUTPUT_DIR="$OUTPUT_DIR/int" \
    MODEL_PATH="$OUTPUT_DIR/checkpoints/global_step_$([[ -f $done ]] && cat "$done" || echo N)/huggingface" \
    JUDGE="$JUDGE" JUDGE_MODEL="$JUDGE_MODEL" N_GPUS="$N_GPUS" EPOCHS= LR= STEPS= TRAIN_BATCH_SIZE= TASKS= \
    bash "$ROOT/examples/run_intervene.sh"
}
