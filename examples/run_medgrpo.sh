#!/usr/bin/env bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Run MedGRPO from end to end on this machine: synthetic data, a tiny model, SFT, calibration, GRPO on verl's trainer,
# evaluation. With GPUs and MODEL_PATH, it runs the 8-GPU recipe of that model instead.
#
#   bash examples/run_medgrpo.sh                         # Qwen2.5-VL architecture, seed 0
#   MODEL=qwen3_vl SEED=1 bash examples/run_medgrpo.sh
#   bash examples/run_medgrpo.sh actor_rollout_ref.rollout.temperature=0.9     # more hydra overrides for GRPO
#   JUDGE=openai JUDGE_BASE_URL=http://judge:8000/v1 JUDGE_MODEL=NAME bash examples/run_medgrpo.sh
#   TASKS="tal stg vs rc" OUTPUT_DIR=outputs/four bash examples/run_medgrpo.sh # the paper's rewarded tasks
#   ROLLOUT=vllm OUTPUT_DIR=outputs/vllm bash examples/run_medgrpo.sh          # verl's own vLLM rollout, on the CPU
#   RECIPE=gpu OUTPUT_DIR=outputs/gpu bash examples/run_medgrpo.sh             # and the GPU recipes' configuration
#   INTERVENE=1 OUTPUT_DIR=outputs/int bash examples/run_medgrpo.sh            # interventions between SFT and calibration
#   bash examples/run_medgrpo.sh --dry-run               # say which of the two it would run, and why
#
# A second call skips what is done, and GRPO resumes at its last checkpoint. With more STEPS a run that is complete goes
# on from its last step.
set -euo pipefail

# Read whole before anything runs: bash follows later changes of a running script line by line.
main() {
  ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  NAME=run_medgrpo
  # shellcheck source=examples/lib/commands.sh
  source "$ROOT/examples/lib/commands.sh"
  # shellcheck source=examples/lib/cpu_run.sh
  source "$ROOT/examples/lib/cpu_run.sh"
  find_recipe                           # of the model family MODEL, qwen2_5_vl by default
  SEED=${SEED:-0}                       # of the data, the weights, the schedule and every draw
  OUTPUT_DIR=${OUTPUT_DIR:-$ROOT/outputs/${MODEL}_seed$SEED}
  VIDEOS=${VIDEOS:-60}                  # synthetic videos per source
  ROWS=${ROWS:-160}                     # rows per dataset-task pair
  WORLD=${WORLD:-even}                  # heterogeneous: some pairs easy, others hard, see docs/collapse.md
  SFT_STEPS=${SFT_STEPS:-300}
  STEPS=${STEPS:-20}                    # GRPO steps
  SAVE_FREQ=${SAVE_FREQ:-5}
  CALIBRATION_ROWS=${CALIBRATION_ROWS:-8}
  CALIBRATION_SAMPLES=${CALIBRATION_SAMPLES:-4}
  EVAL_SAMPLES=${EVAL_SAMPLES:-2}       # answers per held-out row
  EVAL_SEED=${EVAL_SEED:-$SEED}         # of their draws
  EVAL_STEPS=${EVAL_STEPS:-}            # evaluated after these steps, too: multiples of SAVE_FREQ; all checkpoints stay
  ONLY_SFT=${ONLY_SFT:-}                # anything: data, model, SFT, calibration and the SFT model's answers, and stop
  # Between SFT and calibration: INTERVENE, 1 or gold, and its settings.
  # shellcheck source=examples/lib/interventions.sh
  source "$ROOT/examples/lib/interventions.sh"
  NORMALIZER=${NORMALIZER:-logistic}    # of raw signals: logistic, none, zscore, percentile_rank, minmax, adaptive
  LINEAR_SHARE=${LINEAR_SHARE:-}        # of the logistic; 0: the paper's formula alone, empty: what each pair needs
  ADVANTAGE=${ADVANTAGE:-grpo}          # grpo, dr_grpo, per_task, drpo, gdpo, ema_grpo, mt_grpo, g2rpo
  LR=${LR:-}                            # of GRPO; empty: the configuration's
  # Whose configuration trains: the CPU run's, or gpu for the GPU recipes' own, less what a machine without a GPU cannot
  # do (recipes/medgrpo/config/engine): two training processes and two vLLM servers in bfloat16, the paper's four tasks.
  RECIPE=${RECIPE:-cpu}
  # Who writes answers: transformers, or vllm for verl's own vLLM servers in vLLM's build for CPUs, which needs an
  # environment of its own (.venv-vllm, 7 GB).
  ROLLOUT=${ROLLOUT:-$([[ $RECIPE == gpu ]] && echo vllm || echo transformers)}
  STILLS=${STILLS:-0}                   # 1: every other region is asked about in one frame, shown as an image
  # Trained on and rewarded: all, or names; SFT and evaluation have all eight. Where qa is named, which is not
  # published, the synthetic set has rows of it, too.
  TASKS=${TASKS:-$([[ $RECIPE == gpu ]] && echo tal stg vs rc || echo all)}

  JUDGE=${JUDGE:-offline}               # of captions: offline, openai or none; its settings: examples/lib/judge.sh
  JUDGE_MODEL=${JUDGE_MODEL:-}
  # shellcheck source=examples/lib/judge.sh
  source "$ROOT/examples/lib/judge.sh"

  # Trackers that the training reports to: LOGGER=wandb, tensorboard, trackio, mlflow, swanlab, or several.
  # shellcheck source=examples/lib/logger.sh
  source "$ROOT/examples/lib/logger.sh"

  stage() { printf '\n== %s\n' "$*"; }

  one_of RECIPE cpu gpu
  one_of STILLS 0 1
  # With two training processes; see docs/data.md.
  [[ $STILLS == 0 || $RECIPE == cpu ]] || PROBLEMS+=("STILLS is '1', expected RECIPE=cpu beside it")
  check_interventions
  one_of WORLD even heterogeneous
  one_of ROLLOUT transformers vllm
  [[ $RECIPE != gpu || $ROLLOUT == vllm ]] || PROBLEMS+=("ROLLOUT is '$ROLLOUT', expected vllm with RECIPE=gpu")
  [[ $SEED =~ ^[0-9]+$ ]] || PROBLEMS+=("SEED is '$SEED', expected a whole number")
  stop_if_wrong
  read_arguments "$@"
  why=$(cpu_reasons)
  if [[ -z $why ]]; then
    echo "$(gpu_count) GPUs found and MODEL_PATH is $MODEL_PATH: running examples/$GPU_RECIPE"
    exec bash "$ROOT/examples/$GPU_RECIPE" "$@"
  fi
  known="tal stg dvc nap vs rc sa cvs qa"
  task_list=()
  [[ $TASKS == all ]] || read -ra task_list <<<"$TASKS"
  [[ $TASKS == *[![:space:]]* ]] || PROBLEMS+=("TASKS is blank, expected all or some of $known")
  for task in "${task_list[@]}"; do
    [[ " $known " == *" $task "* ]] || PROBLEMS+=("TASKS: '$task', expected all or some of $known")
  done
  for name in LORA_RANK ROLLOUT_TP; do
    [[ $RECIPE == gpu || -z ${!name:-} ]] || PROBLEMS+=("$name is '${!name}', expected RECIPE=gpu beside it")
  done
  for step in $EVAL_STEPS; do
    [[ $step =~ ^[1-9][0-9]*$ ]] && ((step % SAVE_FREQ == 0 && step < STEPS)) ||
      PROBLEMS+=("EVAL_STEPS: '$step', expected multiples of SAVE_FREQ, $SAVE_FREQ, below STEPS, $STEPS")
  done
  numbers LR LINEAR_SHARE
  check_judge scoring
  check_logger
  stop_if_wrong
  echo "Running the whole pipeline on the CPU with a tiny $MODEL: $why (the 8-GPU recipes need both)."
  [[ -z $DRY_RUN ]] || exit 0

  SERVERS=()                            # of calibration and evaluation
  ROLLOUT_OVERRIDES=()
  if [[ $ROLLOUT == vllm ]]; then
    ROLLOUT_OVERRIDES=(+engine=vllm_cpu)
    SERVERS=(--engine rollout --config medgrpo_cpu --override "${ROLLOUT_OVERRIDES[@]}")
    [[ $RECIPE != gpu ]] ||
      SERVERS=(--engine rollout --config medgrpo_gpu --override +engine=gpu_on_cpu trainer.n_gpus_per_node=1)
    use_environment vllm-cpu report
    if [[ $RECIPE == cpu ]]; then
      dtype=$(python -c "from recipes.medgrpo.data.families import FAMILIES; print(FAMILIES['$MODEL'].vllm_cpu_dtype)")
      ROLLOUT_OVERRIDES+=(actor_rollout_ref.rollout.dtype="$dtype")
      SERVERS+=("${ROLLOUT_OVERRIDES[@]: -1}")
    fi
  else
    use_environment cpu report
  fi
  SECONDS=0
  RUN=$OUTPUT_DIR
  mkdir -p "$RUN/logs" "$RUN/attempts" 2>/dev/null || fail "$RUN: cannot be made, set OUTPUT_DIR to a folder that can be written"
  RUN=$(cd "$RUN" && pwd)
  cd "$RUN"
  lock "$RUN"
  have_logger
  set_logger "$RUN"

  MORE_OVERRIDES=()
  [[ -z $LR ]] || MORE_OVERRIDES+=(actor_rollout_ref.actor.optim.lr="$LR")
  [[ -z $LINEAR_SHARE ]] ||
    MORE_OVERRIDES+=(reward.custom_reward_function.reward_kwargs.linear_share="$LINEAR_SHARE")
  [[ -z $EVAL_STEPS ]] || MORE_OVERRIDES+=(trainer.max_actor_ckpt_to_keep=null)
  TASK_OVERRIDES=()
  TASK_ARGS=()
  QUESTIONS=()
  SHOWN=()
  [[ $STILLS == 0 ]] || QUESTIONS+=(--stills) SHOWN+=(--stills image)
  if [[ $TASKS != all ]]; then
    TASK_OVERRIDES=("data.medgrpo.tasks=[$(IFS=,; echo "${task_list[*]}")]")
    TASK_ARGS=(--tasks "${task_list[@]}" --rewarded-tasks "${task_list[@]}")
    if [[ " ${task_list[*]} " == *" qa "* ]]; then
      QUESTIONS+=(--questions)
      TASK_OVERRIDES+=(data.train_batch_size=24)   # one prompt of every pair in every step
    fi
  fi
  signals_of "$@"
  # One account and one cache for calibration, training and evaluation.
  JUDGE_STORE=$RUN/judge
  set_judge

  cpu_environment

  # What the run is. Where the judge is asked, how fast and for how much may change from one start to the next.
  plan=(model="$MODEL" seed="$SEED" steps="$STEPS" sft_steps="$SFT_STEPS" videos="$VIDEOS" rows="$ROWS")
  plan+=(normalizer="$NORMALIZER" advantage="$ADVANTAGE" tasks="${task_list[*]}")
  [[ $WORLD == even ]] || plan+=(world="$WORLD")
  plan+=(linear_share="$LINEAR_SHARE" learning_rate="$LR" only_sft="$ONLY_SFT")
  [[ $ROLLOUT == transformers ]] || plan+=(rollout="$ROLLOUT")
  [[ $RECIPE == cpu ]] || plan+=(recipe="$RECIPE")
  [[ $STILLS == 0 ]] || plan+=(stills=1)
  [[ "$CALIBRATION_ROWS $CALIBRATION_SAMPLES" == "8 4" ]] ||
    plan+=(calibration_rows="$CALIBRATION_ROWS" calibration_samples="$CALIBRATION_SAMPLES")
  plan+=(overrides="$(of_the_method "$@")")
  if [[ $(scoring_judge) != offline ]]; then
    plan+=(judge="$(scoring_judge)" judge_model="$JUDGE_MODEL" judge_second_model="${JUDGE_SECOND_MODEL:-}")
    plan+=(judge_prompt="${JUDGE_PROMPT:-}")
  fi
  [[ $JUDGE != none ]] || plan+=(training_judge=none)
  [[ -z $INTERVENE ]] || plan+=(intervene="$INTERVENE" intervene_rows="$INTERVENE_ROWS" \
    intervene_epochs="$INTERVENE_EPOCHS" intervene_lr="$INTERVENE_LR")
  python -m recipes.medgrpo run_plan --run "$RUN" "${plan[@]}" || exit 2

  # recipe STAGE SCRIPT SETTING... [-- ARGUMENT...]: a GPU recipe on this machine, in recipe/STAGE, whose checkpoints
  # stand where this script's own would. Its learning rates leave a tiny model where it is. Interventions are a stage of
  # this script and not of the recipe for SFT.
  recipe() {
    local name=$1 script=$2 settings=(DEVICE=cpu N_GPUS=2 FREE_GIB=1 DATA_DIR="$RUN/data" OUTPUT_DIR="$RUN/recipe/$1")
    settings+=(INTERVENE=)
    shift 2
    while (($#)) && [[ $1 != -- ]]; do settings+=("$1") && shift; done
    mkdir -p "recipe/$name/checkpoints"
    ln -sfn "recipe/$name/checkpoints" "$name"
    logged "$name" env "${settings[@]}" bash "$ROOT/examples/$script" "${@:2}"
  }

  # Not after an hour of what comes before the first caption.
  [[ $(scoring_judge) == offline ]] || python -m recipes.medgrpo judge_check "${JUDGE_ARGS[@]}" || fail "JUDGE: see above"

  if python -m recipes.medgrpo summary --show "$RUN"; then
    echo "This run is complete; nothing is left to do. Another SEED or OUTPUT_DIR starts another."
    exit 0
  fi

  # `run_ablation.sh` writes this file: frames stay where they are, so the same rows are the same data.
  if [[ -f shared ]]; then
    stage "1/7 to 3/7 data and model: shared with $(<shared)"
  else
    stage "1/7 synthetic MedVidBench (seed $SEED)"
    python "$ROOT/data_preprocess/synthetic.py" --output synthetic --seed "$SEED" \
      --videos-per-source "$VIDEOS" --rows-per-pair "$ROWS" --world "$WORLD" "${QUESTIONS[@]}"

    stage "2/7 annotations to parquet"
    pixels=$(vision_pixels)
    # shellcheck disable=SC2086
    python "$ROOT/data_preprocess/medvidbench.py" --annotations synthetic/train_annotations.json \
      --frames-root synthetic/frames --output data --model-family "$MODEL" \
      $pixels --system-prompt none --val-fraction 0.1 --seed "$SEED" "${SHOWN[@]}" \
      >logs/preprocess.log ||
      fail "preprocessing failed"
    tail -n 1 logs/preprocess.log

    stage "3/7 a tiny random $MODEL"
    python -m recipes.medgrpo tiny_model --family "$MODEL" --text data/train.parquet --output model --seed "$SEED" 2>/dev/null
  fi

  SFT=$RUN/sft/global_step_$SFT_STEPS/huggingface
  stage "4/7 SFT, $SFT_STEPS steps on verl's SFT trainer"
  if sft_done "$SFT_STEPS"; then
    echo "already done"
  elif [[ $RECIPE == gpu ]]; then
    recipe sft "${GPU_RECIPE/run_medgrpo/run_sft}" MODEL_PATH="$RUN/model" STEPS="$SFT_STEPS" EPOCHS=1000000 LR=3e-3
  else
    cpu_sft sft sft trainer.total_training_steps="$SFT_STEPS"
  fi

  # What calibration and GRPO start from.
  START=$SFT
  [[ -z $INTERVENE ]] || interventions

  stage "5/7 calibration: what the ${INTERVENE:+corrected }SFT model's answers earn"
  if [[ -f statistics.json ]]; then
    echo "already done"
  else
    python -m recipes.medgrpo calibrate --model "$START" --data data/train.parquet --output statistics.json \
      --rows-per-pair "$CALIBRATION_ROWS" --samples "$CALIBRATION_SAMPLES" --seed "$SEED" \
      "${JUDGE_ARGS[@]}" "${SERVERS[@]}" "${SIGNALS[@]}"
  fi

  # evaluated NAME CHECKPOINT: answers to the held-out rows, in eval/NAME.
  evaluated() {
    python -m recipes.medgrpo evaluate sample --model "$2" --data data/val.parquet --output "eval/$1" \
      --samples "$EVAL_SAMPLES" --seed "$EVAL_SEED" "${JUDGE_ARGS[@]}" "${SERVERS[@]}"
  }
  if [[ -n $ONLY_SFT ]]; then
    stage "6/7 and 7/7 no training; the SFT model on held-out videos"
    evaluated sft "$SFT"
    exit 0
  fi

  GRPO=$RUN/grpo/global_step_$STEPS
  stage "6/7 MedGRPO, $STEPS steps on verl's GRPO trainer"
  MEDGRPO_MODEL=$START
  if grpo_done "$STEPS"; then
    echo "already done"
  elif rm -rf eval/medgrpo && [[ $RECIPE == gpu ]]; then  # answers after fewer steps, if there; reports are written anew
    mkdir -p recipe/grpo/attempts
    [[ -L attempts ]] || { rmdir attempts && ln -s recipe/grpo/attempts attempts; }
    recipe grpo "$GPU_RECIPE" MODEL_PATH="$START" STATISTICS="$RUN/statistics.json" STEPS="$STEPS" SAVE_FREQ="$SAVE_FREQ" \
      LR="${LR:-1e-4}" TASKS="$TASKS" NORMALIZER="$NORMALIZER" ADVANTAGE="$ADVANTAGE" \
      JUDGE="$JUDGE" JUDGE_MODEL="$JUDGE_MODEL" JUDGE_STORE="$JUDGE_STORE" \
      LOGGER="$LOGGER" LOGGER_IMAGE_EVERY="$LOGGER_IMAGE_EVERY" \
      -- data.seed="$SEED" actor_rollout_ref.rollout.seed="$SEED" "${MORE_OVERRIDES[@]}" "$@"
  else
    from=$(python -m recipes.medgrpo preflight --data data --statistics statistics.json --checkpoints grpo \
      --model-family "$MODEL" --normalizer "$NORMALIZER" --advantage "$ADVANTAGE" \
      "${TASK_ARGS[@]}" "${JUDGE_ARGS[@]}" "${SIGNALS[@]}")
    ((from == 0)) || echo "resuming after step $from"
    cpu_grpo "$STEPS" "$SAVE_FREQ" "${ROLLOUT_OVERRIDES[@]}" \
      reward.custom_reward_function.reward_kwargs.normalizer="$NORMALIZER" \
      trainer.v1.sampler.sampler_kwargs.advantage="$ADVANTAGE" \
      algorithm.norm_adv_by_std_in_grpo="$([[ $ADVANTAGE == grpo ]] && echo true || echo false)" \
      "${MORE_OVERRIDES[@]}" "${TASK_OVERRIDES[@]}" "${JUDGE_OVERRIDES[@]}" "${LOGGER_OVERRIDES[@]}" "$@"
  fi

  stage "7/7 evaluation on held-out videos"
  evaluated sft "$SFT"
  [[ -z $INTERVENE ]] || evaluated intervened "$START"
  for step in $EVAL_STEPS; do evaluated "step_$step" "$RUN/grpo/global_step_$step/actor/huggingface"; done
  evaluated medgrpo "$GRPO/actor/huggingface"
  # As the public leaderboard would score these answers, beside what can be had without a look at a frame.
  python -m recipes.medgrpo evaluate score --results eval/medgrpo/answers.jsonl --ground-truth data/val.parquet \
    --mode leaderboard --blind-baseline data/train.parquet --output eval/leaderboard >logs/leaderboard.log
  # The same of the SFT model; and each pair's strict accuracy beside the blind answer's.
  python -m recipes.medgrpo evaluate score --results eval/sft/answers.jsonl --ground-truth data/val.parquet \
    --mode leaderboard --output eval/leaderboard_sft >logs/leaderboard_sft.log
  python -m recipes.medgrpo evaluate score --results eval/medgrpo/answers.jsonl --ground-truth data/val.parquet \
    --mode strict --blind-baseline data/train.parquet --output eval/strict "${JUDGE_ARGS[@]}" >logs/strict.log
  echo "leaderboard columns: eval/leaderboard/report.md"

  printf '\n'
  python -m recipes.medgrpo summary --run "$RUN" --wall-s "$SECONDS"
  # Everything of it to look at, in a browser and without a network.
  python -m recipes.medgrpo report "$RUN" --output "$RUN/report"
}

main "$@"; exit
