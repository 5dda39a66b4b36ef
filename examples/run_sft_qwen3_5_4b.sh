#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train Qwen3.5-4B with SFT on 8 GPUs with 80 GB: verl's own SFT trainer, FSDP2, the paper's settings.
#
#   MODEL_PATH=models/Qwen3.5-4B DATA_DIR=data bash examples/run_sft_qwen3_5_4b.sh
#   bash examples/run_sft_qwen3_5_4b.sh --cfg job --resolve        # print the configuration; needs no GPU
#   N_GPUS=1 LORA_RANK=64 MODEL_PATH=... DATA_DIR=... bash examples/run_sft_qwen3_5_4b.sh     # one card with 80 GB
#
# DATA_DIR comes from data_preprocess/medvidbench.py --model-family qwen3_5 --tokenizer MODEL_PATH. A second call
# resumes at the last checkpoint. The model in HF format is OUTPUT_DIR/checkpoints/global_step_N/huggingface. All other
# settings are in examples/lib/sft_gpu.sh. Arguments are hydra overrides and win over all of them.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=sft_qwen3_5_4b
MODEL_FAMILY=qwen3_5
# A checkpoint: 4.5 billion parameters, 12 bytes of fp32 weights and optimiser and up to 4 of the copy in HF format, so
# 68 GiB. Two are kept; verl forgets those of before a resume, which then stay until you remove them.
FREE_GIB=${FREE_GIB:-160}
# Input and output words share their weights: verl then loads the model in every process, 16.9 GiB of fp32 weights each.
HOST_GIB=${HOST_GIB:-$([[ ${N_GPUS:-8} == 1 ]] && echo 64 || echo 192)}
# shellcheck source=examples/lib/sft_gpu.sh
source "$ROOT/examples/lib/sft_gpu.sh"

launch "${DATA[@]}" "${MODEL[@]}" "${OPTIMIZER[@]}" "${TRAINER[@]}" "$@"
