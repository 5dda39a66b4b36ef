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
#   bash examples/run_calibrate.sh --tal-wasserstein              # also measure the signal of that setting
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
# Servers and sampling: CONFIG, N_GPUS, NNODES, ROLLOUT_TP, ROWS_PER_PAIR, SAMPLES, ... with their defaults.
# shellcheck source=examples/lib/servers.sh
source "$ROOT/examples/lib/servers.sh"
JUDGE=${JUDGE:-openai}                # openai or offline (word overlap); all settings: examples/lib/judge.sh
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}
JUDGE_PING=${JUDGE_PING:-}            # anything: have one pair judged before the start
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

# ---- checks ----------------------------------------------------------------------------------------------------
read_hydra_arguments "$@"
signals_of "${ARGUMENTS[@]}"
[[ " ${OPTIONS[*]} " != *" --tal-wasserstein "* ]] || SIGNALS=(--tal-wasserstein)
mapfile -t OPTIONS < <(printf '%s\n' "${OPTIONS[@]}" | grep -vxE -e '--tal-wasserstein|')
no_other_options "--tal-wasserstein, "
check_servers
needs MODEL_PATH config.json "an SFT checkpoint in HF format"
needs DATA_DIR train.parquet "data_preprocess/medvidbench.py's output"
check_judge scoring
set_servers
ARGUMENTS=("${OVERRIDES[@]}" "${ARGUMENTS[@]}")
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
  "${JUDGE_ARGS[@]}" "${SIGNALS[@]}" ${ARGUMENTS[@]:+--override "${ARGUMENTS[@]}"}
exit
}
