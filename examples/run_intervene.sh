#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Interventions between SFT and MedGRPO: the SFT model answers training rows, its first mistakes are corrected where
# that makes the rest better, and the model is trained on its own beginnings with their corrections. The model that
# results takes the SFT checkpoint's place in calibration and MedGRPO. docs/interventions.md has the method.
#
#   MODEL_PATH=sft/huggingface DATA_DIR=data OUTPUT_DIR=outputs/int \
#     JUDGE_BASE_URL=http://judge:8000/v1 JUDGE_MODEL=NAME bash examples/run_intervene.sh
#   MODEL=qwen3_vl MODEL_PATH=sft/huggingface DATA_DIR=data bash examples/run_intervene.sh
#   INTERVENE=gold MODEL_PATH=sft/huggingface DATA_DIR=data bash examples/run_intervene.sh   # the arm to compare with
#   bash examples/run_intervene.sh --dry-run                      # print the commands; needs no GPU
#
# `INTERVENE=1` of an SFT recipe calls this script at its end. A second call goes on where the first was stopped.
# Arguments are hydra overrides of the servers' configuration. This script has not been run on GPUs. Of its commands
# `calibrate` and `intervene` have been run, with the CPU run's model (docs/interventions.md).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_intervene
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"
find_recipe                           # of the model family MODEL, qwen2_5_vl by default

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the SFT checkpoint, a folder in HF format
DATA_DIR=${DATA_DIR:-}                # required: train.parquet and val.parquet, made for the model's family
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/int_$MODEL}
INTERVENE=${INTERVENE:-1}             # 1: corrections; gold: the reference answers of the same rows
PER_PAIR=${PER_PAIR:-256}             # unpublished, attempts of each pair that are tried: 16 continuations each
CONTINUATIONS=${CONTINUATIONS:-8}     # in each arm; published are 32 in one arm
EPOCHS=${EPOCHS:-4}                   # [paper]
LR=${LR:-1e-6}                        # [paper]
TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-64}        # [paper]
# shellcheck source=examples/lib/servers.sh
source "$ROOT/examples/lib/servers.sh"
JUDGE=${JUDGE:-openai}                # as in calibration; all settings: examples/lib/judge.sh
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

# ---- checks ----------------------------------------------------------------------------------------------------
read_hydra_arguments "$@"
no_other_options ""
check_servers
whole_numbers PER_PAIR CONTINUATIONS EPOCHS TRAIN_BATCH_SIZE
one_of INTERVENE 1 gold
needs MODEL_PATH config.json "an SFT checkpoint in HF format"
needs DATA_DIR train.parquet "data_preprocess/medvidbench.py's output"
check_judge scoring
stop_if_wrong
set_servers

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
MODEL_PATH=${MODEL_PATH:-MODEL_PATH} DATA_DIR=${DATA_DIR:-DATA_DIR}
JUDGE_STORE=${JUDGE_STORE:-$OUTPUT_DIR/judge}
absolute MODEL_PATH DATA_DIR OUTPUT_DIR JUDGE_STORE
set_judge
[[ -n $DRY_RUN ]] || use_environment "$([[ $CONFIG == medgrpo_cpu ]] && echo cpu || echo gpu)"
SERVERS=(--engine rollout --config "$CONFIG" --temperature "$TEMPERATURE" --max-new-tokens "$MAX_NEW_TOKENS")
SERVERS+=(--batch-size "$BATCH_SIZE" --seed "$SEED" "${JUDGE_ARGS[@]}")
CHANGED=("${OVERRIDES[@]}" "${ARGUMENTS[@]}")
[[ $(scoring_judge) == offline ]] || run python -m recipes.medgrpo judge_check "${JUDGE_ARGS[@]}"
run python -m recipes.medgrpo calibrate --model "$MODEL_PATH" --data "$DATA_DIR/train.parquet" \
  --output "$OUTPUT_DIR/statistics.json" --rows-per-pair "$ROWS_PER_PAIR" --samples "$SAMPLES" \
  "${SERVERS[@]}" ${CHANGED[@]:+--override "${CHANGED[@]}"}
run python -m recipes.medgrpo intervene --model "$MODEL_PATH" --recorded "$OUTPUT_DIR/raw_signals.jsonl" \
  --data "$DATA_DIR/train.parquet" --output "$OUTPUT_DIR" --per-pair "$PER_PAIR" --continuations "$CONTINUATIONS" \
  "${SERVERS[@]}" ${CHANGED[@]:+--override "${CHANGED[@]}"}
case $INTERVENE in gold) rows=gold ;; *) rows=interventions ;; esac
run INTERVENE= TRAIN_FILE="$OUTPUT_DIR/$rows.parquet" MODEL_PATH="$MODEL_PATH" DATA_DIR="$DATA_DIR" \
  OUTPUT_DIR="$OUTPUT_DIR/sft" EPOCHS="$EPOCHS" STEPS= LR="$LR" TRAIN_BATCH_SIZE="$TRAIN_BATCH_SIZE" TASKS=all \
  N_GPUS="$N_GPUS" bash "$ROOT/examples/${GPU_RECIPE/run_medgrpo/run_sft}" \
  optim.lr_scheduler_type=cosine optim.min_lr_ratio=0.1         # [paper]
exit
}
