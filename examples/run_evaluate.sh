#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# A checkpoint's answers to held-out rows, greedy, in the released format, and what they are worth.
#
#   MODEL_PATH=checkpoint/huggingface DATA_DIR=data OUTPUT_DIR=eval/medgrpo bash examples/run_evaluate.sh
#   MODEL_PATH=... EVAL_DATA=data/test.parquet bash examples/run_evaluate.sh                    # a submission instead
#   MODEL_PATH=... DATA_DIR=data COMPARE=eval/sft/answers.json bash examples/run_evaluate.sh
#   bash examples/run_evaluate.sh --dry-run                       # print the commands; needs no GPU
#
# Writes OUTPUT_DIR/answers.json; with a ground truth leaderboard/ and strict/ (the columns of the public leaderboard and
# the metrics of the reward, each with intervals and the blind baseline), with COMPARE compare_leaderboard/ and
# compare_strict/ (this minus that, paired); without one submission.json, checked. The judge's key comes from
# MEDGRPO_JUDGE_API_KEY or OPENAI_API_KEY. Started again it asks only for answers that are not there. Arguments go to
# recipes.medgrpo.generate (--one-shot, --max-new-tokens, --tasks, --limit, ...); in strict mode a row that was left out
# counts as wrong. On GPUs this has not been run; with ENGINE=transformers it has, on the CPU with a tiny model.
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
case $ENGINE in vllm | transformers) ;; *) PROBLEMS+=("ENGINE is '$ENGINE', expected vllm or transformers") ;; esac
[[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
[[ -f $MODEL_PATH/config.json ]] ||
  ABSENT+=("MODEL_PATH '$MODEL_PATH': no config.json there, expected a checkpoint in HF format")
[[ -f $EVAL_DATA ]] || ABSENT+=("EVAL_DATA '$EVAL_DATA': no such file, expected a parquet of data_preprocess/medvidbench.py")
for name in GROUND_TRUTH BLIND_BASELINE COMPARE; do
  [[ -z ${!name} || ${!name} == "$EVAL_DATA" || -f ${!name} ]] || ABSENT+=("$name '${!name}': no such file")
done
[[ -z $COMPARE || -n $GROUND_TRUTH ]] || PROBLEMS+=("COMPARE is set and GROUND_TRUTH is empty: expected both or neither")
[[ -z $GROUND_TRUTH ]] || mapfile -t -O "${#ABSENT[@]}" ABSENT < <(judge_problems scoring)
if ((${#PROBLEMS[@]} == 0)) && [[ $ENGINE == vllm ]]; then
  gpus=$(gpu_count)
  ((gpus >= N_GPUS)) || ABSENT+=("$gpus GPUs found, N_GPUS is $N_GPUS")
  ((N_GPUS % ROLLOUT_TP == 0)) || PROBLEMS+=("ROLLOUT_TP is $ROLLOUT_TP, expected a divisor of N_GPUS, which is $N_GPUS")
fi
stop_if_wrong

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
MODEL_PATH=${MODEL_PATH:-MODEL_PATH}
# An empty one stays empty: it says that there is none.
for path in MODEL_PATH EVAL_DATA GROUND_TRUTH BLIND_BASELINE COMPARE TEST_FILE OUTPUT_DIR; do
  [[ -z ${!path} ]] || printf -v "$path" '%s' "$(realpath -m -- "${!path}")"
done
JUDGE_STORE=$(realpath -m -- "${JUDGE_STORE:-$OUTPUT_DIR/judge}")     # verdicts and account
set_judge "$JUDGE_STORE"
LEADERBOARD_JUDGE=("${JUDGE_ARGS[@]}")
[[ $JUDGE != none ]] || LEADERBOARD_JUDGE=()
ANSWERS=$OUTPUT_DIR/answers.json

if [[ -z $DRY_RUN ]]; then
  # shellcheck source=examples/lib/environment.sh
  source "$ROOT/examples/lib/environment.sh"
  ensure_environment "$([[ $ENGINE == vllm ]] && echo gpu || echo auto)"
  mkdir -p "$OUTPUT_DIR"
  exec 9>"$OUTPUT_DIR/.lock"
  flock -n 9 || { echo "$NAME: $OUTPUT_DIR: another evaluation is at work here" >&2; exit 2; }
fi
export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} TOKENIZERS_PARALLELISM=false
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
  run python -m recipes.medgrpo submission --results "$ANSWERS" --test "$TEST_FILE" --output "$OUTPUT_DIR/submission.json"
  run python -m recipes.medgrpo submission --check "$OUTPUT_DIR/submission.json" --test "$TEST_FILE"
else
  for mode in leaderboard strict; do
    judge=("${JUDGE_ARGS[@]}")
    [[ $mode == strict ]] || judge=("${LEADERBOARD_JUDGE[@]}")
    run python -m recipes.medgrpo evaluate score --results "$ANSWERS" --ground-truth "$GROUND_TRUTH" --mode "$mode" \
      --per-record --output "$OUTPUT_DIR/$mode" "${judge[@]}" ${BLIND_BASELINE:+--blind-baseline "$BLIND_BASELINE"}
    [[ -z $COMPARE ]] || run python -m recipes.medgrpo evaluate compare "$COMPARE" "$ANSWERS" \
      --ground-truth "$GROUND_TRUTH" --mode "$mode" --output "$OUTPUT_DIR/compare_$mode" "${judge[@]}"
  done
fi
exit
}
