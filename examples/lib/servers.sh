# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# The rollout servers of a training's configuration, for scripts that sample outside of a training: settings with their
# defaults, checked by `check_servers`, and as hydra overrides, OVERRIDES, by `set_servers`.

CONFIG=${CONFIG:-medgrpo_gpu}         # whose servers; medgrpo_cpu: those of machines without a GPU
N_GPUS=${N_GPUS:-8}                   # on each node; a server per ROLLOUT_TP of them
NNODES=${NNODES:-1}                   # more than one: a Ray cluster is up and RAY_ADDRESS names it
ROLLOUT_TP=${ROLLOUT_TP:-1}
GPU_MEMORY_UTILIZATION=${GPU_MEMORY_UTILIZATION:-0.85}          # nothing else is on the GPUs: more than in training
ROWS_PER_PAIR=${ROWS_PER_PAIR:-256}   # unpublished: quartiles of 1,024 answers a pair
SAMPLES=${SAMPLES:-4}                 # answers a row; more rows tell more than more answers, which are alike
TEMPERATURE=${TEMPERATURE:-1.0}       # as in training
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-1024}          # as in training
BATCH_SIZE=${BATCH_SIZE:-512}         # answers under way at once; what a kill costs at most
SEED=${SEED:-0}

check_servers() {
  whole_numbers N_GPUS NNODES ROLLOUT_TP ROWS_PER_PAIR SAMPLES MAX_NEW_TOKENS BATCH_SIZE
  one_of CONFIG medgrpo_gpu medgrpo_cpu
  [[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
  numbers TEMPERATURE
  [[ $CONFIG == medgrpo_gpu ]] || return 0
  divisor ROLLOUT_TP N_GPUS
  if [[ $NNODES == 1 ]]; then
    needs_gpus "$N_GPUS" "N_GPUS is $N_GPUS"
  else
    [[ -v RAY_ADDRESS ]] || ABSENT+=("NNODES is $NNODES and RAY_ADDRESS is not set: start Ray on the nodes first")
  fi
}

set_servers() {
  OVERRIDES=()
  [[ $CONFIG == medgrpo_cpu ]] || OVERRIDES=(
    trainer.n_gpus_per_node="$N_GPUS"
    trainer.nnodes="$NNODES"
    actor_rollout_ref.rollout.tensor_model_parallel_size="$ROLLOUT_TP"
    actor_rollout_ref.rollout.gpu_memory_utilization="$GPU_MEMORY_UTILIZATION"
  )
  export VERL_USE_EXTERNAL_MODULES=recipes.medgrpo.plugin
  if [[ $CONFIG == medgrpo_cpu ]]; then export VERL_PLATFORM=cpu; else unset VERL_PLATFORM; fi
  [[ $NNODES != 1 ]] || unset RAY_ADDRESS
}
