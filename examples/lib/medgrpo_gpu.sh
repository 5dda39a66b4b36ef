# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# What the GPU recipes share, to be sourced: settings with their defaults, arrays of hydra overrides, and `launch`.
# A recipe sets ROOT, NAME, MODEL_FAMILY, IMAGE_PATCH_SIZE and its own defaults before, and may append to the arrays after.

# ---- settings, each one from the environment -------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}            # required: the SFT checkpoint, a folder in HF format
DATA_DIR=${DATA_DIR:-}                # required: train.parquet and val.parquet, made for MODEL_FAMILY
STATISTICS=${STATISTICS:-}            # required: statistics.json, calibrated with MODEL_PATH and JUDGE
OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/$NAME}

NNODES=${NNODES:-1}                   # more than one: a Ray cluster is up and RAY_ADDRESS names it
N_GPUS=${N_GPUS:-8}                   # on each node
STEPS=${STEPS:-5000}                  # the paper's
SAVE_FREQ=${SAVE_FREQ:-100}
TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-32}        # prompts a step
MINI_BATCH_SIZE=${MINI_BATCH_SIZE:-$TRAIN_BATCH_SIZE}
TASKS=${TASKS:-tal stg vs rc}         # trained on and rewarded; "all" for the eight

NORMALIZER=${NORMALIZER:-logistic}    # of raw signals: logistic, none, zscore, percentile_rank, minmax, adaptive
ADVANTAGE=${ADVANTAGE:-grpo}          # grpo, dr_grpo, per_task, drpo

JUDGE=${JUDGE:-openai}                # openai: any compatible endpoint; router: a model on GPUs of its own, see below;
JUDGE_MODEL=${JUDGE_MODEL:-gpt-4.1}   # offline: lexical, without a network. All settings: examples/lib/judge.sh
JUDGE_PING=${JUDGE_PING:-}            # anything: have one pair judged before the start
# Of JUDGE=router: verl serves the model at JUDGE_MODEL_PATH under the name JUDGE_MODEL, on JUDGE_GPUS GPUs that are not
# among N_GPUS. Statistics are calibrated with the same model and name under `vllm serve` (--judge openai). Composed and
# checked against verl's sources only: it has not been run on GPUs.
JUDGE_MODEL_PATH=${JUDGE_MODEL_PATH:-}
JUDGE_GPUS=${JUDGE_GPUS:-1}
JUDGE_TP=${JUDGE_TP:-1}               # GPUs that share one of its replicas
# shellcheck source=examples/lib/judge.sh
source "$ROOT/examples/lib/judge.sh"

ROLLOUT_TP=${ROLLOUT_TP:-1}           # GPUs that share one vLLM replica
GPU_MEMORY_UTILIZATION=${GPU_MEMORY_UTILIZATION:-0.6}
PARAM_OFFLOAD=${PARAM_OFFLOAD:-false}           # weights and optimiser in host memory while vLLM works
FREE_GIB=${FREE_GIB:-200}             # disk space that the checkpoints need

for number in NNODES N_GPUS STEPS SAVE_FREQ TRAIN_BATCH_SIZE MINI_BATCH_SIZE ROLLOUT_TP FREE_GIB \
  JUDGE_GPUS JUDGE_TP; do
  [[ ${!number} =~ ^[1-9][0-9]*$ ]] || {
    echo "$NAME: $number is '${!number}', expected a whole number above 0" >&2
    exit 2
  }
done
# The trainer runs in OUTPUT_DIR: paths must not depend on where the script was called.
for path in MODEL_PATH DATA_DIR STATISTICS OUTPUT_DIR JUDGE_MODEL_PATH; do
  [[ -z ${!path} ]] || printf -v "$path" '%s' "$(realpath -m -- "${!path}")"
done

# ---- helpers ---------------------------------------------------------------------------------------------------

# Whether the arguments only ask for the composed configuration or for help.
only_prints() {
  local argument
  for argument in "$@"; do
    case $argument in --cfg | --cfg=* | -c | --info | --info=* | --help | -h | --hydra-help) return 0 ;; esac
  done
  return 1
}

# ---- arrays of overrides ---------------------------------------------------------------------------------------
case $TASKS in all) TASK_LIST=null ;; *) TASK_LIST=[${TASKS// /,}] ;; esac

DATA=(
  data.train_files="$(quoted "${DATA_DIR:-DATA_DIR}/train.parquet")"
  data.val_files="$(quoted "${DATA_DIR:-DATA_DIR}/val.parquet")"
  data.train_batch_size="$TRAIN_BATCH_SIZE"
  data.image_patch_size="$IMAGE_PATCH_SIZE"
  data.medgrpo.tasks="$TASK_LIST"
)
MODEL=(
  actor_rollout_ref.model.path="$(quoted "${MODEL_PATH:-MODEL_PATH}")"
)
ACTOR=(
  actor_rollout_ref.actor.ppo_mini_batch_size="$MINI_BATCH_SIZE"
  actor_rollout_ref.actor.fsdp_config.param_offload="$PARAM_OFFLOAD"
  actor_rollout_ref.actor.fsdp_config.optimizer_offload="$PARAM_OFFLOAD"
)
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
# Verdicts, limits and account: beside the checkpoints, for all reward workers. On several nodes a Ray actor keeps them.
JUDGE_STORE=${JUDGE_STORE:-$OUTPUT_DIR/checkpoints/judge}
JUDGE_STORE=$(realpath -m -- "${JUDGE_STORE#ray:}")
((NNODES == 1)) || JUDGE_STORE=ray:$JUDGE_STORE
set_judge "$JUDGE_STORE"
REWARD+=("${JUDGE_OVERRIDES[@]}")
case $JUDGE in
  offline)
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
fi

# ---- checks and start ------------------------------------------------------------------------------------------

gpus=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)

# Everything that is wrong with the settings, one line each, before anything is installed or started.
check_settings() {
  local problems=()
  [[ -f $MODEL_PATH/config.json ]] ||
    problems+=("MODEL_PATH '$MODEL_PATH': no config.json there, expected an SFT checkpoint in HF format")
  [[ -f $DATA_DIR/train.parquet && -f $DATA_DIR/val.parquet ]] ||
    problems+=("DATA_DIR '$DATA_DIR': no train.parquet and val.parquet, expected data_preprocess/medvidbench.py's output")
  [[ -f $STATISTICS ]] || problems+=("STATISTICS '$STATISTICS': no such file, expected recipes.medgrpo.calibrate's output")
  mapfile -t -O "${#problems[@]}" problems < <(judge_problems openai offline router)
  local judge_gpus=0
  if [[ $JUDGE == router ]]; then
    judge_gpus=$JUDGE_GPUS
    [[ -f $JUDGE_MODEL_PATH/config.json ]] ||
      problems+=("JUDGE_MODEL_PATH '$JUDGE_MODEL_PATH': no config.json there, expected the judge's model in HF format")
  fi
  if ((NNODES > 1)); then
    [[ -n ${RAY_ADDRESS:-} ]] || problems+=("NNODES is $NNODES and RAY_ADDRESS is not set: start Ray on the nodes first")
  else
    ((gpus >= N_GPUS + judge_gpus)) ||
      problems+=("$gpus GPUs found, N_GPUS is $N_GPUS$( ((judge_gpus == 0)) || echo " and JUDGE_GPUS $judge_gpus")")
  fi
  ((${#problems[@]} == 0)) || {
    printf "$NAME: %s\n" "${problems[@]}" >&2
    return 2
  }
}

# launch OVERRIDES...: train, or only print the configuration.
launch() {
  local from attempt trainer
  trainer=(-m verl.trainer.main_ppo --config-path="$ROOT/recipes/medgrpo/config" --config-name=medgrpo_gpu)
  export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} HYDRA_FULL_ERROR=1
  export TOKENIZERS_PARALLELISM=false RAY_USAGE_STATS_ENABLED=0
  export VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
  # The CPU run's platform must not leak in from the shell.
  unset VERL_PLATFORM
  if only_prints "$@"; then
    # Without a GPU, torchvision may only be importable through the CPU platform; what is printed is the same.
    ((gpus > 0)) || export VERL_PLATFORM=cpu
    # hydra wants its options before all overrides, wherever they were given.
    local options=() overrides=()
    while (($#)); do
      case $1 in
        --cfg | -c) options+=("${@:1:2}") && shift ;;
        -*) options+=("$1") ;;
        *) overrides+=("$1") ;;
      esac
      (($# == 0)) || shift
    done
    exec python "${trainer[@]}" "${options[@]}" "${overrides[@]}"
  fi
  check_settings || exit 2
  # shellcheck source=examples/lib/environment.sh
  source "$ROOT/examples/lib/environment.sh"
  ensure_environment gpu

  mkdir -p "$OUTPUT_DIR/checkpoints" "$OUTPUT_DIR/logs" "$OUTPUT_DIR/attempts"
  exec 9>"$OUTPUT_DIR/.lock"
  flock -n 9 || { echo "$NAME: $OUTPUT_DIR: another run is at work here" >&2; exit 2; }
  local tasks=()
  [[ $TASKS == all ]] || read -ra tasks <<<"$TASKS"
  from=$(python -m recipes.medgrpo.preflight --data "$DATA_DIR" --statistics "$STATISTICS" \
    --checkpoints "$OUTPUT_DIR/checkpoints" --model-family "$MODEL_FAMILY" "${JUDGE_ARGS[@]}" \
    ${JUDGE_PING:+--judge-ping} --normalizer "$NORMALIZER" \
    --advantage "$ADVANTAGE" --free-gib "$FREE_GIB" ${tasks[@]:+--tasks "${tasks[@]}"})
  echo "$NAME: $([[ $from == 0 ]] && echo 'starting at the first step' || echo "resuming after step $from")"
  ((NNODES > 1)) || unset RAY_ADDRESS
  # verl's file logger starts its file anew at every resume: one file an attempt.
  attempt=$(($(find "$OUTPUT_DIR/attempts" -name 'grpo_*.jsonl' | wc -l) + 1))
  export VERL_FILE_LOGGER_PATH=$OUTPUT_DIR/attempts/grpo_$attempt.jsonl
  cd "$OUTPUT_DIR"
  python "${trainer[@]}" "$@" 2>&1 | tee -a "$OUTPUT_DIR/logs/grpo.log"
}
