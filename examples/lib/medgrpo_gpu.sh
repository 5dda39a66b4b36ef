# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Source this file in a GPU recipe of MedGRPO. It has settings with their defaults, arrays of hydra overrides, and
# `launch`. A recipe first sets ROOT, NAME, MODEL_FAMILY, IMAGE_PATCH_SIZE and its own defaults, and may then append to
# the arrays. MODEL_PATH is the SFT checkpoint. More than one node needs a running Ray cluster whose address is in
# RAY_ADDRESS, see examples/slurm/medgrpo.sbatch.

# shellcheck source=examples/lib/recipe.sh
source "$ROOT/examples/lib/recipe.sh"

# ---- settings, each one from the environment -------------------------------------------------------------------
STATISTICS=${STATISTICS:-}            # required: statistics.json, calibrated with MODEL_PATH and JUDGE

STEPS=${STEPS:-5000}                  # [paper]
SAVE_FREQ=${SAVE_FREQ:-100}           # unpublished: a kill costs at most 2 % of the run
# Unpublished, prompts a step: all 23 dataset-task pairs in every step; a machine of one GPU holds the 12 pairs of the
# paper's four tasks.
TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-$([[ $NNODES == 1 && $N_GPUS == 1 ]] && echo 16 || echo 32)}
MINI_BATCH_SIZE=${MINI_BATCH_SIZE:-$TRAIN_BATCH_SIZE}   # unpublished: one update a step
TASKS=${TASKS:-tal stg vs rc}         # [paper] trained on and rewarded; "all" for the eight

# Of raw signals: logistic [paper], none, zscore, percentile_rank, minmax, adaptive.
NORMALIZER=${NORMALIZER:-logistic}
ADVANTAGE=${ADVANTAGE:-grpo}          # grpo [paper], dr_grpo, per_task, drpo, gdpo, ema_grpo, mt_grpo, g2rpo

# openai: any compatible endpoint; router: a model on GPUs of its own, see below; offline: lexical, without a network;
# none: similarity alone. All settings: examples/lib/judge.sh
JUDGE=${JUDGE:-openai}
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}   # [paper]
JUDGE_PING=${JUDGE_PING:-}            # anything: have one pair judged before the start
# Of JUDGE=router: verl serves the model at JUDGE_MODEL_PATH under the name JUDGE_MODEL, on JUDGE_GPUS GPUs that are not
# among N_GPUS. Statistics are calibrated with the same model and name under `vllm serve` (--judge openai). Composed and
# checked against verl's sources only: it has not been run on GPUs.
JUDGE_MODEL_PATH=${JUDGE_MODEL_PATH:-}
JUDGE_GPUS=${JUDGE_GPUS:-1}
JUDGE_TP=${JUDGE_TP:-1}               # GPUs that share one of its replicas
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

# Trackers: LOGGER=wandb, tensorboard, trackio, mlflow, swanlab, or several.
# shellcheck source=examples/lib/logger.sh
source "$ROOT/examples/lib/logger.sh"

ROLLOUT_TP=${ROLLOUT_TP:-1}           # GPUs that share one vLLM replica
# Unpublished, vLLM's share of a card. One card alone keeps the whole model for training beside it.
GPU_MEMORY_UTILIZATION=${GPU_MEMORY_UTILIZATION:-$([[ $NNODES == 1 && $N_GPUS == 1 ]] && echo 0.5 || echo 0.6)}
PARAM_OFFLOAD=${PARAM_OFFLOAD:-false}           # weights and optimiser in host memory while vLLM works

check_logger
check_values STEPS SAVE_FREQ TRAIN_BATCH_SIZE MINI_BATCH_SIZE ROLLOUT_TP JUDGE_GPUS JUDGE_TP
divisor ROLLOUT_TP N_GPUS
divisor MINI_BATCH_SIZE TRAIN_BATCH_SIZE
stop_if_wrong
absolute MODEL_PATH DATA_DIR STATISTICS OUTPUT_DIR JUDGE_MODEL_PATH

# ---- arrays of overrides ---------------------------------------------------------------------------------------
DATA=(
  data.train_files="$(quoted "${DATA_DIR:-DATA_DIR}/train.parquet")"
  data.val_files="$(quoted "${DATA_DIR:-DATA_DIR}/val.parquet")"
  data.train_batch_size="$TRAIN_BATCH_SIZE"
  data.image_patch_size="$IMAGE_PATCH_SIZE"
  data.medgrpo.tasks="$(task_list)"
)
MODEL=(
  actor_rollout_ref.model.path="$(quoted "${MODEL_PATH:-MODEL_PATH}")"
  actor_rollout_ref.model.override_config.attn_implementation="$ATTENTION"
)
ACTOR=(
  actor_rollout_ref.actor.ppo_mini_batch_size="$MINI_BATCH_SIZE"
  actor_rollout_ref.actor.optim.lr="$LR"
  actor_rollout_ref.actor.fsdp_config.freeze_vision="$FREEZE_VISION"
  actor_rollout_ref.actor.fsdp_config.param_offload="$PARAM_OFFLOAD"
  actor_rollout_ref.actor.fsdp_config.optimizer_offload="$PARAM_OFFLOAD"
)
if [[ $LORA_RANK != 0 ]]; then
  # The base stays in fp32: verl gives adapters the base's type, and steps this small vanish in bfloat16. Nothing of the
  # vision tower gets adapters: verl merges them layer by layer and leaves out what is in none, its projection.
  MODEL+=(
    actor_rollout_ref.model.lora_rank="$LORA_RANK"
    actor_rollout_ref.model.lora_alpha="$LORA_ALPHA"
    actor_rollout_ref.model.target_modules=all-linear
    actor_rollout_ref.model.exclude_modules="'.*visual.*'"
    # vLLM gets whole weights with the adapters in them, so it writes with the model that is trained.
    actor_rollout_ref.model.lora.merge=true
  )
fi
ROLLOUT=(
  actor_rollout_ref.rollout.tensor_model_parallel_size="$ROLLOUT_TP"
  actor_rollout_ref.rollout.gpu_memory_utilization="$GPU_MEMORY_UTILIZATION"
)
REWARD=(
  reward.custom_reward_function.reward_kwargs.normalizer="$NORMALIZER"
  trainer.v1.sampler.sampler_kwargs.advantage="$ADVANTAGE"
  # Whatever the sampler divides by, verl's estimator then only subtracts a mean.
  algorithm.norm_adv_by_std_in_grpo="$([[ $ADVANTAGE == grpo ]] && echo true || echo false)"
  reward.custom_reward_function.reward_kwargs.statistics="$(quoted "${STATISTICS:-STATISTICS}")"
)
# Verdicts, limits and account: beside the checkpoints, for all reward workers; a Ray actor on the head node keeps them.
JUDGE_STORE=${JUDGE_STORE:-$OUTPUT_DIR/checkpoints/judge}
JUDGE_STORE=$(realpath -m -- "${JUDGE_STORE#ray:}")
set_judge
REWARD+=("${JUDGE_OVERRIDES[@]}")
case $JUDGE in
  offline | none)
    # The settings are those of the endpoint; an empty mapping would be merged with them, not replace them.
    REWARD+=("~reward.custom_reward_function.reward_kwargs.judge_settings")
    ;;
  router)
    REWARD+=(
      reward.reward_model.enable=true
      # A pool of its own: captions are judged while others are still being written.
      reward.reward_model.enable_resource_pool=true
      reward.reward_model.nnodes=1
      reward.reward_model.n_gpus_per_node="$JUDGE_GPUS"
      reward.reward_model.model_path="$(quoted "${JUDGE_MODEL_PATH:-JUDGE_MODEL_PATH}")"
      reward.reward_model.rollout.name=vllm
      reward.reward_model.rollout.tensor_model_parallel_size="$JUDGE_TP"
      reward.reward_model.rollout.gpu_memory_utilization=0.85
      # verl puts servers with a free cache to sleep at their start, and wakes only those that share the policy's GPUs.
      reward.reward_model.rollout.free_cache_engine=false
      reward.reward_model.rollout.max_model_len=16384       # two captions of 8,000 characters and the prompt
      ++reward.reward_model.rollout.engine_kwargs.vllm.served_model_name="$(quoted "$JUDGE_MODEL")"
    )
    ;;
esac
TRAINER=(
  trainer.experiment_name="$NAME"
  actor_rollout_ref.rollout.router_config_path="$(quoted "$ROOT/recipes/medgrpo/config/router.yaml")"
  trainer.default_local_dir="$(quoted "$OUTPUT_DIR/checkpoints")"
  trainer.nnodes="$NNODES"
  trainer.n_gpus_per_node="$N_GPUS"
  trainer.total_training_steps="$STEPS"
  trainer.save_freq="$SAVE_FREQ"
)
if ((NNODES > 1)); then
  # Workers on other nodes do not inherit this shell's environment.
  TRAINER+=(
    +ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH="$(quoted "$ROOT")"
    +ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
  )
  for name in ${LOGGER:+TENSORBOARD_DIR WANDB_DIR SWANLAB_LOG_DIR MLFLOW_TRACKING_URI}; do
    TRAINER+=("+ray_kwargs.ray_init.runtime_env.env_vars.$name=$(quoted "${!name}")")
  done
else
  # Never a cluster that happens to run here, which Ray would find by itself: its workers know nothing of this checkout.
  TRAINER+=(+ray_kwargs.ray_init.address=local)
fi

set_logger "$OUTPUT_DIR"
TRAINER+=("${LOGGER_OVERRIDES[@]}")

# ---- checks and start ------------------------------------------------------------------------------------------
STAGE=grpo LOG=grpo START=(python) NODE_RANK=0
CPU_OVERLAY=+engine=gpu_on_cpu
MODULE=(-m verl.trainer.main_ppo --config-path="$ROOT/recipes/medgrpo/config" --config-name=medgrpo_gpu)
((NNODES > 1)) || unset RAY_ADDRESS

check_stage() {
  needs STATISTICS "" "recipes.medgrpo.calibrate's output"
  check_judge training
  [[ $JUDGE != router ]] || needs JUDGE_MODEL_PATH config.json "the judge's model in HF format"
  if ((NNODES > 1)); then
    [[ -n ${RAY_ADDRESS:-} ]] || ABSENT+=("NNODES is $NNODES and RAY_ADDRESS is not set: start Ray on the nodes first")
  elif [[ $JUDGE == router ]]; then
    needs_gpus $((N_GPUS + JUDGE_GPUS)) "N_GPUS is $N_GPUS and JUDGE_GPUS $JUDGE_GPUS"
  else
    needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
  fi
  PREFLIGHT+=("${JUDGE_ARGS[@]}" ${JUDGE_PING:+--judge-ping} --normalizer "$NORMALIZER" --advantage "$ADVANTAGE")
  [[ ! -f $STATISTICS ]] || PREFLIGHT+=(--statistics "$STATISTICS")
  [[ $JUDGE != none ]] || PREFLIGHT+=(--no-judge)
  signals_of "${ARGUMENTS[@]}"
  PREFLIGHT+=("${SIGNALS[@]}")
  ((NNODES * N_GPUS == 1)) && [[ " ${ARGUMENTS[*]} " == *limit_mm_per_prompt.image=[1-9]* ]] || PREFLIGHT+=(--no-stills)
  # The nodes of a Ray cluster are not this shell's to look at.
  ((NNODES > 1 || $(gpu_count) < N_GPUS)) || PREFLIGHT+=(--gpus "$N_GPUS" --gpu-gib "$GPU_GIB")
}
