#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Check one GPU in about ten minutes, and print what to paste into an issue: the card and the packages, what the
# preflight finds, the speed of single passes beside the planner's figures, and two steps of MedGRPO through the real
# recipe. The model is Qwen3-VL with random weights, the data are synthetic, and nothing is downloaded but packages.
#
#   bash examples/run_gpu_check.sh
#   CHECK_MODEL=tiny ATTENTION=sdpa bash examples/run_gpu_check.sh
#   bash examples/run_gpu_check.sh --dry-run                      # print the commands; needs no GPU
#
# Arguments are hydra overrides of the training. This script has not been run on a GPU.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_gpu_check
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/gpu_check}               # made anew at every call
CHECK_MODEL=${CHECK_MODEL:-}          # 2b: the dimensions of Qwen3-VL-2B; tiny; empty: 2b on cards of 60 GiB and more
export ATTENTION=${ATTENTION:-flash_attention_2}                # or sdpa: without flash-attn
LIKE=Qwen3-VL-2B FAMILY=qwen3_vl RECIPE=run_medgrpo_qwen3_vl_4b.sh

# ---- checks ----------------------------------------------------------------------------------------------------
read_arguments "$@"
one_of ATTENTION flash_attention_2 sdpa
CARD_GIB=$({ nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null || true; } |
  awk 'NR == 1 { print int($1 / 1024) }')
[[ -n $CHECK_MODEL ]] || CHECK_MODEL=$( ((${CARD_GIB:-80} < 60)) && echo tiny || echo 2b)
one_of CHECK_MODEL 2b tiny
(($(gpu_count) > 0)) || ABSENT+=("no GPU found (nvidia-smi -L lists none), nothing was run: --dry-run prints commands")
stop_if_wrong
absolute OUTPUT_DIR

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
# The first card alone, whatever else is here.
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0} HF_HUB_OFFLINE=1
unset VERL_PLATFORM RAY_ADDRESS
REPORT=$OUTPUT_DIR/report.txt
if [[ -z $DRY_RUN ]]; then
  use_environment gpu
  # Left by an earlier check; another folder of that name is not ours to remove.
  if [[ -e $OUTPUT_DIR && ! -f $OUTPUT_DIR/.gpu_check ]]; then
    echo "$NAME: $OUTPUT_DIR: is there already and was not made by this script: set OUTPUT_DIR to another folder" >&2
    exit 2
  fi
  rm -rf "$OUTPUT_DIR"
  mkdir -p "$OUTPUT_DIR"
  touch "$OUTPUT_DIR/.gpu_check"
  lock "$OUTPUT_DIR"
fi

# part TITLE COMMAND...: into the report; one that fails is told there, and the others go on.
part() {
  local title=$1 log status=0
  shift
  if [[ -n $DRY_RUN ]]; then run "$@" && return; fi
  log=$OUTPUT_DIR/${title//[^a-z]/_}.log
  printf '\n## %s\n' "$title" | tee -a "$REPORT"
  run "$@" >"$log" 2>&1 || status=$?
  # Figures and lines of problems; the rest is in the log.
  grep -avE '^\+|Warning|^ *$|^\(' "$log" | tail -n 40 | tee -a "$REPORT" || true
  ((status == 0)) || { echo "failed with status $status, see $log" | tee -a "$REPORT"; FAILED=1; }
}
FAILED=0

# quietly COMMAND...: what the steps need; without it there are none.
quietly() {
  if [[ -n $DRY_RUN ]]; then
    run "$@"
  else
    run "$@" >>"$OUTPUT_DIR/prepare.log" 2>&1 || { echo "$NAME: failed: $*; see $OUTPUT_DIR/prepare.log" >&2; exit 1; }
  fi
}

part "card" nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv
part "packages" python "$ROOT/tests/benchmarks/gpu_steps.py"

quietly python "$ROOT/data_preprocess/synthetic.py" --output "$OUTPUT_DIR/synthetic" \
  --videos-per-source 6 --rows-per-pair 12
DATA=(
  python "$ROOT/data_preprocess/medvidbench.py" --annotations "$OUTPUT_DIR/synthetic/train_annotations.json"
  --frames-root "$OUTPUT_DIR/synthetic/frames" --model-family "$FAMILY" --val-fraction 0.2
  --min-pixels 4096 --max-pixels 8192
)
quietly "${DATA[@]}" --output "$OUTPUT_DIR/words"
SIZE=(--family "$FAMILY")
[[ $CHECK_MODEL == tiny ]] || SIZE=(--like "$LIKE")
quietly python -m recipes.medgrpo tiny_model "${SIZE[@]}" --text "$OUTPUT_DIR/words/train.parquet" \
  --output "$OUTPUT_DIR/model"
# Again, with the lengths of prompts in this model's tokens.
quietly "${DATA[@]}" --output "$OUTPUT_DIR/data" --tokenizer "$OUTPUT_DIR/model"
quietly python -m recipes.medgrpo calibrate --model "$OUTPUT_DIR/model" --data "$OUTPUT_DIR/data/train.parquet" \
  --engine transformers --output "$OUTPUT_DIR/statistics.json" --rows-per-pair 2 --samples 2 --max-new-tokens 32

part "single passes" python "$ROOT/tests/benchmarks/bench_gpu.py" --model "$LIKE" --frames 60 --repeat 2

# The recipe with its checks; memory, lengths and rewards of this small run.
TRAINING=(
  N_GPUS=1 STEPS=2 SAVE_FREQ=2 TRAIN_BATCH_SIZE=16 JUDGE=offline
  MODEL_PATH="$OUTPUT_DIR/model" DATA_DIR="$OUTPUT_DIR/data" STATISTICS="$OUTPUT_DIR/statistics.json"
  OUTPUT_DIR="$OUTPUT_DIR/grpo" GPU_GIB="$((${CARD_GIB:-80} - 1))" FREE_GIB=40 HOST_GIB=60 SHM_GIB=2
  GPU_MEMORY_UTILIZATION=0.4
  bash "$ROOT/examples/$RECIPE"
  data.max_prompt_length=1024 data.max_response_length=128 actor_rollout_ref.rollout.max_model_len=1152
  actor_rollout_ref.rollout.agent.num_workers=2 reward.num_workers=2 "${ARGUMENTS[@]}"
)
part "two steps of MedGRPO" "${TRAINING[@]}"
part "figures of the steps" python "$ROOT/tests/benchmarks/gpu_steps.py" "$OUTPUT_DIR/grpo"

[[ -z $DRY_RUN ]] || exit 0
printf '\n== Paste this into an issue (%s) ==\n' "$REPORT"
echo "model: $CHECK_MODEL, attention: $ATTENTION" | cat - "$REPORT"
exit "$FAILED"
}
