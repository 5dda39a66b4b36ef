#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# From a test file to a checked submission with one command: preprocess the file, answer every row greedily, and write
# OUTPUT_DIR/submission.json.
#
#   MODEL_PATH=checkpoint/huggingface TEST_FILE=test.json FRAMES_ROOT=frames OUTPUT_DIR=submission \
#     bash examples/run_submission.sh
#   bash examples/run_submission.sh --dry-run                     # print the commands; needs no GPU
#
# The image of examples/docker runs this by itself. A second call asks only for missing answers. Arguments go to
# recipes.medgrpo.generate. With ENGINE=transformers it has been run on the CPU with a tiny model, never on GPUs.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=run_submission
# shellcheck source=examples/lib/commands.sh
source "$ROOT/examples/lib/commands.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the checkpoint, a folder in HF format
TEST_FILE=${TEST_FILE:-}              # required: the benchmark's test file, JSON
FRAMES_ROOT=${FRAMES_ROOT:-}          # required: the folder that its frames are listed in
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/submission}
ENGINE=${ENGINE:-vllm}                # transformers: without a GPU too
N_GPUS=${N_GPUS:-}                    # empty: all of this machine's
MAX_PROMPT_TOKENS=${MAX_PROMPT_TOKENS:-5120}    # longer clips are thinned, as for training

# ---- checks ----------------------------------------------------------------------------------------------------
read_arguments "$@"
: "${N_GPUS:=$(gpu_count)}"
one_of ENGINE vllm transformers
whole_numbers MAX_PROMPT_TOKENS
needs MODEL_PATH config.json "a checkpoint in HF format"
needs TEST_FILE "" "a test file in JSON"
[[ -d $FRAMES_ROOT ]] || ABSENT+=("FRAMES_ROOT '$FRAMES_ROOT': no such folder, expected the frames of TEST_FILE")
[[ $ENGINE == transformers ]] || ((N_GPUS > 0)) || ABSENT+=("no GPU found: set ENGINE=transformers to do without")
stop_if_wrong

# ---- start -----------------------------------------------------------------------------------------------------
# Read whole before anything runs: bash follows later changes of a running script line by line.
{
MODEL_PATH=${MODEL_PATH:-MODEL_PATH} TEST_FILE=${TEST_FILE:-TEST_FILE} FRAMES_ROOT=${FRAMES_ROOT:-FRAMES_ROOT}
absolute MODEL_PATH TEST_FILE FRAMES_ROOT OUTPUT_DIR
FAMILY=MODEL_FAMILY
if [[ -f $MODEL_PATH/config.json ]]; then
  [[ -n $DRY_RUN ]] || use_environment "$([[ $ENGINE == vllm ]] && echo gpu || echo auto)"
  FAMILY=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["model_type"])' "$MODEL_PATH/config.json")
fi
run python "$ROOT/data_preprocess/medvidbench.py" --annotations "$TEST_FILE" --frames-root "$FRAMES_ROOT" \
  --output "$OUTPUT_DIR/data" --model-family "$FAMILY" --tokenizer "$MODEL_PATH" \
  --max-prompt-tokens "$MAX_PROMPT_TOKENS" --thin uniform
run MODEL_PATH="$MODEL_PATH" EVAL_DATA="$OUTPUT_DIR/data/test.parquet" GROUND_TRUTH= DATA_DIR= COMPARE= \
  TEST_FILE="$TEST_FILE" OUTPUT_DIR="$OUTPUT_DIR" ENGINE="$ENGINE" N_GPUS="$((N_GPUS > 0 ? N_GPUS : 1))" \
  bash "$ROOT/examples/run_evaluate.sh" "${ARGUMENTS[@]}"
[[ -n $DRY_RUN ]] || echo "$NAME: the submission is $OUTPUT_DIR/submission.json"
exit
}
