#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train Qwen2.5-VL-7B-Instruct with SFT on 8 GPUs with 80 GB: verl's own SFT trainer, FSDP2, the paper's settings.
#
#   MODEL_PATH=models/Qwen2.5-VL-7B-Instruct DATA_DIR=data bash examples/run_sft_qwen2_5_vl_7b.sh
#   bash examples/run_sft_qwen2_5_vl_7b.sh --cfg job --resolve        # print the configuration; needs no GPU
#
# DATA_DIR comes from data_preprocess/medvidbench.py --model-family qwen2_5_vl --tokenizer MODEL_PATH. A second call
# resumes at the last checkpoint. The model in HF format is OUTPUT_DIR/checkpoints/global_step_N/huggingface. All other
# settings are in examples/lib/sft_gpu.sh. Arguments are hydra overrides and win over all of them.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=sft_qwen2_5_vl_7b
MODEL_FAMILY=qwen2_5_vl
FLASH_ATTN_ONLY=yes     # verl's attention of this family calls flash-attn's functions and knows no others
# A checkpoint: 8.3 billion parameters, 12 bytes of fp32 weights and optimiser and up to 4 of the copy in HF format, so
# 124 GiB. Two are kept; verl forgets those of before a resume, which then stay until you remove them.
FREE_GIB=${FREE_GIB:-300}
# The first process loads 31 GiB of fp32 weights for all, and gathers as much again for a checkpoint.
HOST_GIB=${HOST_GIB:-$([[ ${N_GPUS:-8} == 1 ]] && echo 56 || echo 96)}
# shellcheck source=examples/lib/sft_gpu.sh
source "$ROOT/examples/lib/sft_gpu.sh"

launch "${DATA[@]}" "${MODEL[@]}" "${OPTIMIZER[@]}" "${TRAINER[@]}" "$@"
