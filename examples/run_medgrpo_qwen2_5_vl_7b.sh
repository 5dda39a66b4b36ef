#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train Qwen2.5-VL-7B with MedGRPO on 8 GPUs with 80 GB: verl's own trainer, FSDP2 and vLLM, the paper's settings.
#
#   MODEL_PATH=sft/huggingface DATA_DIR=data STATISTICS=statistics.json \
#     JUDGE_BASE_URL=http://judge:8000/v1 JUDGE_MODEL=NAME bash examples/run_medgrpo_qwen2_5_vl_7b.sh
#   bash examples/run_medgrpo_qwen2_5_vl_7b.sh --cfg job --resolve        # print the configuration; needs no GPU
#
# DATA_DIR comes from data_preprocess/medvidbench.py --model-family qwen2_5_vl --tokenizer MODEL_PATH. The judge's key
# comes from MEDGRPO_JUDGE_API_KEY or OPENAI_API_KEY. A second call resumes at the last checkpoint. All other
# settings are in examples/lib/medgrpo_gpu.sh. Arguments are hydra overrides and win over all of them.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=medgrpo_qwen2_5_vl_7b
MODEL_FAMILY=qwen2_5_vl
FLASH_ATTN_ONLY=yes     # verl's attention of this family calls flash-attn's functions and knows no others
IMAGE_PATCH_SIZE=14
# A checkpoint: 8.3 billion parameters, 12 bytes of fp32 weights and optimiser and up to 4 of the copy in HF format, so
# 124 GiB. Two are kept; verl forgets those of before a resume, which then stay until you remove them.
FREE_GIB=${FREE_GIB:-300}
# Clips on their way and some 60 processes take more than the weights: `recipes.medgrpo plan` lists them.
HOST_GIB=${HOST_GIB:-$([[ ${N_GPUS:-8} == 1 ]] && echo 96 || echo 176)}
# shellcheck source=examples/lib/medgrpo_gpu.sh
source "$ROOT/examples/lib/medgrpo_gpu.sh"

launch "${DATA[@]}" "${MODEL[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${REWARD[@]}" "${TRAINER[@]}" "$@"
