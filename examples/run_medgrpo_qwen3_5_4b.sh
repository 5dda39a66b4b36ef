#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Train Qwen3.5-4B with MedGRPO on 8 GPUs with 80 GB: verl's own trainer, FSDP2 and vLLM, the paper's settings.
#
#   MODEL_PATH=sft/huggingface DATA_DIR=data STATISTICS=statistics.json \
#     JUDGE_BASE_URL=http://judge:8000/v1 JUDGE_MODEL=NAME bash examples/run_medgrpo_qwen3_5_4b.sh
#   bash examples/run_medgrpo_qwen3_5_4b.sh --cfg job --resolve        # print the configuration; needs no GPU
#   N_GPUS=1 LORA_RANK=64 MODEL_PATH=... bash examples/run_medgrpo_qwen3_5_4b.sh              # one card with 80 GB
#
# DATA_DIR comes from data_preprocess/medvidbench.py --model-family qwen3_5 --tokenizer MODEL_PATH. The judge's key
# comes from MEDGRPO_JUDGE_API_KEY or OPENAI_API_KEY. A second call resumes at the last checkpoint. All other
# settings are in examples/lib/medgrpo_gpu.sh. Arguments are hydra overrides and win over all of them.
set -xeuo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
NAME=medgrpo_qwen3_5_4b
MODEL_FAMILY=qwen3_5
IMAGE_PATCH_SIZE=16
# A checkpoint: 4.5 billion parameters, 12 bytes of fp32 weights and optimiser and up to 4 of the copy in HF format, so
# 68 GiB. Two are kept; verl forgets those of before a resume, which then stay until you remove them.
FREE_GIB=${FREE_GIB:-160}
# Input and output words share their weights: verl then loads the model in every process, 16.9 GiB of fp32 weights each.
HOST_GIB=${HOST_GIB:-$([[ ${N_GPUS:-8} == 1 ]] && echo 64 || echo 192)}
# shellcheck source=examples/lib/medgrpo_gpu.sh
source "$ROOT/examples/lib/medgrpo_gpu.sh"

# Its chat template begins answers with a thought unless it is told not to; the rewards read answers without one.
DATA+=(+data.apply_chat_template_kwargs.enable_thinking=false)

launch "${DATA[@]}" "${MODEL[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${REWARD[@]}" "${TRAINER[@]}" "$@"
