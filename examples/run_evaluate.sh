#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Evaluate a checkpoint: write greedy answers to held-out rows in the released format, and score them.
#
#   MODEL_PATH=checkpoint/huggingface DATA_DIR=data OUTPUT_DIR=eval/medgrpo bash examples/run_evaluate.sh
#   MODEL_PATH=... EVAL_DATA=data/test.parquet bash examples/run_evaluate.sh                    # makes a submission
#   MODEL_PATH=... DATA_DIR=data COMPARE=eval/sft/answers.json bash examples/run_evaluate.sh
#   bash examples/run_evaluate.sh --dry-run                       # print the commands; needs no GPU
#
# It writes to OUTPUT_DIR:
#   answers.json                            always
#   leaderboard/, strict/                   with a ground truth: the columns of the public leaderboard and the metrics
#                                           of the reward, each with intervals and the blind baseline
#   compare_leaderboard/, compare_strict/   with COMPARE: paired differences, this run minus COMPARE
#   submission.json                         without a ground truth; it is checked
# The judge's key comes from MEDGRPO_JUDGE_API_KEY or OPENAI_API_KEY. A second call asks only for missing answers.
# Arguments go to recipes.medgrpo.generate (--one-shot, --max-new-tokens, --tasks, --limit, ...). In strict mode a row
# that was left out counts as wrong. This script has not been run on GPUs. With ENGINE=transformers it has been run on
# the CPU with a tiny model.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_evaluate
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the checkpoint, a folder in HF format
DATA_DIR=${DATA_DIR:-}                # val.parquet and train.parquet, made for the model's family
EVAL_DATA=${EVAL_DATA:-${DATA_DIR:-DATA_DIR}/val.parquet}       # rows to answer
# Its answers: the parquet itself, which test.parquet has none in, or annotations with answers; empty: there are none.
GROUND_TRUTH=${GROUND_TRUTH-$([[ $EVAL_DATA == *test.parquet ]] || printf '%s' "$EVAL_DATA")}
BLIND_BASELINE=${BLIND_BASELINE-${DATA_DIR:+$DATA_DIR/train.parquet}}     # rows to learn it from; empty: none
COMPARE=${COMPARE:-}                  # another file of answers to the same rows; empty: none
TEST_FILE=${TEST_FILE:-$EVAL_DATA}    # of a submission: the test file, or the parquet made from it
MAX_TRUNCATED=${MAX_TRUNCATED:-}      # of a submission: the largest share of a task's answers that may be cut off
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/evaluation}
ENGINE=${ENGINE:-vllm}                # of recipes.medgrpo.generate; transformers: without a GPU too
N_GPUS=${N_GPUS:-8}                   # a process per ROLLOUT_TP of them, each with a part of the rows
ROLLOUT_TP=${ROLLOUT_TP:-1}
GPU_MEMORY_UTILIZATION=${GPU_MEMORY_UTILIZATION:-0.85}
SEED=${SEED:-0}
JUDGE=${JUDGE:-openai}                # openai or offline (word overlap); none: without the leaderboard's judged columns,
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}   # and SCORING_JUDGE in strict mode. All settings: examples/lib/judge.sh
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

# ---- checks ----------------------------------------------------------------------------------------------------
read_arguments "$@"
whole_numbers N_GPUS ROLLOUT_TP
numbers MAX_TRUNCATED
one_of ENGINE vllm transformers
[[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
needs MODEL_PATH config.json "a checkpoint in HF format"
needs EVAL_DATA "" "a parquet of data_preprocess/medvidbench.py"
[[ -z $GROUND_TRUTH || $GROUND_TRUTH == "$EVAL_DATA" ]] || needs GROUND_TRUTH "" "annotations with answers, or a parquet"
[[ -z $BLIND_BASELINE ]] || needs BLIND_BASELINE "" "a parquet of training rows"
[[ -z $COMPARE ]] || needs COMPARE "" "answers to the same rows"
[[ -z $COMPARE || -n $GROUND_TRUTH ]] || PROBLEMS+=("COMPARE is set and GROUND_TRUTH is empty: expected both or neither")
[[ -z $GROUND_TRUTH ]] || check_judge scoring
if [[ $ENGINE == vllm ]]; then
  divisor ROLLOUT_TP N_GPUS
  needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
fi
stop_if_wrong

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
MODEL_PATH=${MODEL_PATH:-MODEL_PATH} JUDGE_STORE=${JUDGE_STORE:-$OUTPUT_DIR/judge}
absolute MODEL_PATH EVAL_DATA GROUND_TRUTH BLIND_BASELINE COMPARE TEST_FILE OUTPUT_DIR JUDGE_STORE
set_judge
ANSWERS=$OUTPUT_DIR/answers.json

if [[ -z $DRY_RUN ]]; then
  use_environment "$([[ $ENGINE == vllm ]] && echo gpu || echo auto)"
  lock "$OUTPUT_DIR"
fi
(($(gpu_count) == 0)) || unset VERL_PLATFORM
# Before hours of answers, not after.
[[ -z $GROUND_TRUTH || $(scoring_judge) == offline ]] || run python -m recipes.medgrpo judge_check "${JUDGE_ARGS[@]}"

PARALLEL=()
[[ $ENGINE != vllm ]] || PARALLEL=(
  --data-parallel "$((N_GPUS / ROLLOUT_TP))" --tensor-parallel-size "$ROLLOUT_TP"
  --gpu-memory-utilization "$GPU_MEMORY_UTILIZATION"
)
run python -m recipes.medgrpo generate --engine "$ENGINE" --model "$MODEL_PATH" --data "$EVAL_DATA" --output "$ANSWERS" \
  --temperature 0 --seed "$SEED" "${PARALLEL[@]}" "${ARGUMENTS[@]}"

if [[ -z $GROUND_TRUTH ]]; then
  run python -m recipes.medgrpo submission --results "$ANSWERS" --test "$TEST_FILE" \
    --output "$OUTPUT_DIR/submission.json" ${MAX_TRUNCATED:+--max-truncated "$MAX_TRUNCATED"}
  run python -m recipes.medgrpo submission --check "$OUTPUT_DIR/submission.json" --test "$TEST_FILE"
else
  for mode in leaderboard strict; do
    judge=()
    [[ $mode == leaderboard && $JUDGE == none ]] || judge=("${JUDGE_ARGS[@]}")
    run python -m recipes.medgrpo evaluate score --results "$ANSWERS" --ground-truth "$GROUND_TRUTH" --mode "$mode" \
      --per-record --output "$OUTPUT_DIR/$mode" "${judge[@]}" ${BLIND_BASELINE:+--blind-baseline "$BLIND_BASELINE"}
    [[ -z $COMPARE ]] || run python -m recipes.medgrpo evaluate compare "$COMPARE" "$ANSWERS" \
      --ground-truth "$GROUND_TRUTH" --mode "$mode" --output "$OUTPUT_DIR/compare_$mode" "${judge[@]}"
  done
fi
exit
}
