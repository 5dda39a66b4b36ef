#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Calibrate: sample answers of an SFT checkpoint, score them, and write percentiles per dataset, task and signal.
# MedGRPO normalises rewards with these statistics. The rollout servers of the training's configuration write the
# answers.
#
#   MODEL_PATH=sft/huggingface DATA_DIR=data STATISTICS=statistics.json \
#     JUDGE_BASE_URL=http://judge:8000/v1 JUDGE_MODEL=NAME bash examples/run_calibrate.sh
#   bash examples/run_calibrate.sh --dry-run                      # print the commands; needs no GPU
#   bash examples/run_calibrate.sh --cfg job --resolve            # print the servers' configuration
#
# Use the judge of the training. Its key comes from MEDGRPO_JUDGE_API_KEY or OPENAI_API_KEY. An interrupted calibration
# resumes: raw_signals.jsonl beside STATISTICS has every answer. All eight tasks are calibrated, so that every row of
# the ablation can use the same statistics. Arguments are hydra overrides of the servers' configuration. This script has
# not been run on GPUs. The same command has been run with the CPU's servers.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_calibrate
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the SFT checkpoint, a folder in HF format
DATA_DIR=${DATA_DIR:-}                # required: train.parquet, made for the model's family
STATISTICS=${STATISTICS:-$ROOT/outputs/statistics.json}         # what is written
CONFIG=${CONFIG:-medgrpo_gpu}         # whose servers; medgrpo_cpu: those of machines without a GPU
N_GPUS=${N_GPUS:-8}                   # on each node; a server per ROLLOUT_TP of them
NNODES=${NNODES:-1}                   # more than one: a Ray cluster is up and RAY_ADDRESS names it
ROLLOUT_TP=${ROLLOUT_TP:-1}
GPU_MEMORY_UTILIZATION=${GPU_MEMORY_UTILIZATION:-0.85}          # nothing else is on the GPUs: more than in training
ROWS_PER_PAIR=${ROWS_PER_PAIR:-256}   # unpublished: quartiles of 1,024 answers a pair
SAMPLES=${SAMPLES:-4}                 # answers a row; more rows tell more than more answers, which are alike
TEMPERATURE=${TEMPERATURE:-1.0}       # as in training
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-1024}          # as in training
BATCH_SIZE=${BATCH_SIZE:-512}         # answers under way at once; what a kill costs at most
SEED=${SEED:-0}
JUDGE=${JUDGE:-openai}                # openai or offline (word overlap); all settings: examples/lib/judge.sh
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}
JUDGE_PING=${JUDGE_PING:-}            # anything: have one pair judged before the start
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

# ---- checks ----------------------------------------------------------------------------------------------------
read_hydra_arguments "$@"
whole_numbers N_GPUS NNODES ROLLOUT_TP ROWS_PER_PAIR SAMPLES MAX_NEW_TOKENS BATCH_SIZE
one_of CONFIG medgrpo_gpu medgrpo_cpu
[[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
numbers TEMPERATURE
needs MODEL_PATH config.json "an SFT checkpoint in HF format"
needs DATA_DIR train.parquet "data_preprocess/medvidbench.py's output"
check_judge scoring
if [[ $CONFIG == medgrpo_gpu ]]; then
  divisor ROLLOUT_TP N_GPUS
  if [[ $NNODES == 1 ]]; then
    needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
  else
    [[ -v RAY_ADDRESS ]] || ABSENT+=("NNODES is $NNODES and RAY_ADDRESS is not set: start Ray on the nodes first")
  fi
fi

OVERRIDES=()
[[ $CONFIG == medgrpo_cpu ]] || OVERRIDES=(
  trainer.n_gpus_per_node="$N_GPUS"
  trainer.nnodes="$NNODES"
  actor_rollout_ref.rollout.tensor_model_parallel_size="$ROLLOUT_TP"
  actor_rollout_ref.rollout.gpu_memory_utilization="$GPU_MEMORY_UTILIZATION"
)
ARGUMENTS=("${OVERRIDES[@]}" "${ARGUMENTS[@]}")

export VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
if [[ $CONFIG == medgrpo_cpu ]]; then export VERL_PLATFORM=cpu; else unset VERL_PLATFORM; fi
[[ $NNODES != 1 ]] || unset RAY_ADDRESS
if only_prints; then
  export MEDGRPO_DATA=${DATA_DIR:-DATA_DIR} MEDGRPO_MODEL=${MODEL_PATH:-MODEL_PATH} MEDGRPO_STATISTICS=$STATISTICS
  ABSENT=()
  stop_if_wrong
  print_configuration -m verl.trainer.main_ppo --config-path="$ROOT/recipes/medgrpo/config" --config-name="$CONFIG"
fi
stop_if_wrong

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
MODEL_PATH=${MODEL_PATH:-MODEL_PATH} DATA_DIR=${DATA_DIR:-DATA_DIR}
JUDGE_STORE=${JUDGE_STORE:-$(dirname "$STATISTICS")/judge}
absolute MODEL_PATH DATA_DIR STATISTICS JUDGE_STORE
set_judge
if [[ -z $DRY_RUN ]]; then
  use_environment "$([[ $CONFIG == medgrpo_cpu ]] && echo cpu || echo gpu)"
  mkdir -p "$(dirname "$STATISTICS")"
fi
[[ $(scoring_judge) == offline ]] ||
  run python -m recipes.medgrpo judge_check "${JUDGE_ARGS[@]}" ${JUDGE_PING:+--judge-ping}
run python -m recipes.medgrpo calibrate --model "$MODEL_PATH" --data "$DATA_DIR/train.parquet" --output "$STATISTICS" \
  --engine rollout --config "$CONFIG" --rows-per-pair "$ROWS_PER_PAIR" --samples "$SAMPLES" \
  --temperature "$TEMPERATURE" --max-new-tokens "$MAX_NEW_TOKENS" --batch-size "$BATCH_SIZE" --seed "$SEED" \
  "${JUDGE_ARGS[@]}" ${ARGUMENTS[@]:+--override "${ARGUMENTS[@]}"}
exit
}
